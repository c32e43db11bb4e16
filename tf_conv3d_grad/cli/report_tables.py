"""The report's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tf_conv3d_grad.cli.trial import DIED, ERROR, OURS, RIGHT, STOCK, WAYS, Outcome, Trial
from tf_conv3d_grad.conformance.case import Case

# Times faster that make a winner: less is noise on a busy machine.
_CLEARLY = 1.5
_HEADINGS = {"eager": "eager", "graph": "graph", "compiled": "jit"}
_READING_AID = (
  "Milliseconds are of right results; wrong: not what the oracle says; "
  "abort, SIGSEGV, SIGFPE: the call ended its process."
)

Calls = Sequence[tuple[Trial, Outcome]]


def of_valid_calls(calls: Calls) -> list[Table]:
  """Returns a table for each op, of one row a case and two columns a way of calling."""
  errors = _numbered_errors(calls)
  return [_of_valid_calls(op, of_op, errors) for op, of_op in _by_op(calls)]


def _of_valid_calls(op: str, calls: Calls, errors: dict[str, int]) -> Table:
  table = Table(
    title=f"{op}: milliseconds, TensorFlow's own op (TF) and this op",
    title_justify="left",
    box=box.SIMPLE_HEAD,
    show_edge=False,
    padding=0,
  )
  for heading in ("dtype", "format", "dilated", "groups"):
    table.add_column(f"\n{heading}")
  for way in WAYS:
    table.add_column(f"{_HEADINGS[way]}\nTF", justify="right", no_wrap=True, min_width=7)
    table.add_column("\nthis op", justify="right", no_wrap=True, min_width=7)
  outcomes = {(trial.case, trial.way, trial.op): outcome for trial, outcome in calls}
  for text in dict.fromkeys(trial.case or "" for trial, _ in calls):
    case = Case.parse(text)
    table.add_row(
      case.dtype,
      case.data_format,
      "yes" if max(case.dilations) > 1 else "no",
      str(case.groups),
      *(
        cell
        for way in WAYS
        for cell in _pair(outcomes[text, way, STOCK], outcomes[text, way, OURS], errors)
      ),
    )
  return table


def legend(calls: Calls) -> list[str]:
  """Returns what the words and numbers in the table of valid calls mean, line by line."""
  errors = _numbered_errors(calls).items()
  return [_READING_AID, *(f"error {number}: {text}" for text, number in errors)]


def of_malformed_calls(calls: Calls) -> list[Table]:
  """Returns a table for each op, of one row a call and a column each for TensorFlow's and ours."""
  return [_of_malformed_calls(op, of_op) for op, of_op in _by_op(calls)]


def _of_malformed_calls(op: str, calls: Calls) -> Table:
  table = Table(
    title=f"Malformed calls of {op}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1)
  )
  for heading in ("call", STOCK, OURS):
    table.add_column(heading)
  outcomes = {(trial.malformed, trial.op): outcome for trial, outcome in calls}
  for name in dict.fromkeys(trial.malformed for trial, _ in calls):
    table.add_row(name, *(_sentence(outcomes[name, op]) for op in (STOCK, OURS)))
  return table


def summary(valid: Calls, malformed: Calls) -> str:
  """Returns how many calls each of the ops served, in one line."""
  parts = []
  for op in (STOCK, OURS):
    served = [outcome.status == RIGHT for trial, outcome in valid if trial.op == op]
    ended = [outcome.status == DIED for trial, outcome in malformed if trial.op == op]
    parts.append(
      f"{op}: {sum(served)} of {len(served)} valid calls right, "
      f"{sum(ended)} of {len(ended)} malformed calls ended the process"
    )
  return "; ".join(parts)


def cell(outcome: Outcome, errors: dict[str, int] | None = None) -> Text:
  """Returns an outcome in a word: milliseconds, or what came instead."""
  if outcome.status == RIGHT:
    return Text(_number(outcome.milliseconds or 0.0))
  if outcome.status == ERROR:
    return Text(f"error {errors[_error(outcome)]}" if errors else "error", "red")
  if outcome.status == DIED:
    return Text(outcome.error or DIED, "bold red")
  return Text(outcome.status, "bold red")


def _by_op(calls: Calls) -> Iterator[tuple[str, Calls]]:
  """Yields each op's name with the calls of it."""
  for op in dict.fromkeys(trial.function for trial, _ in calls):
    yield op, [(trial, outcome) for trial, outcome in calls if trial.function == op]


def _pair(stock: Outcome, ours: Outcome, errors: dict[str, int]) -> tuple[Text, Text]:
  """Returns both cells, the clear winner in green."""
  cells = cell(stock, errors), cell(ours, errors)
  if ours.status == RIGHT and (
    stock.status != RIGHT or _milliseconds(stock) > _CLEARLY * _milliseconds(ours)
  ):
    cells[1].stylize("bold green")
  elif stock.status == RIGHT and _milliseconds(ours) > _CLEARLY * _milliseconds(stock):
    cells[0].stylize("bold green")
  return cells


def _numbered_errors(calls: Calls) -> dict[str, int]:
  """Returns a number for each error that came up."""
  texts = dict.fromkeys(_error(outcome) for _, outcome in calls if outcome.status == ERROR)
  return {text: number for number, text in enumerate(texts, start=1)}


def _sentence(outcome: Outcome) -> Text:
  if outcome.status == ERROR:
    return Text(_error(outcome))
  if outcome.status == DIED:
    return Text(": ".join(filter(None, [outcome.error, outcome.message])), "bold red")
  return Text(outcome.message or outcome.status, "red")


def _error(outcome: Outcome) -> str:
  return f"{outcome.error}: {outcome.message}"


def _milliseconds(outcome: Outcome) -> float:
  return float("inf") if outcome.milliseconds is None else outcome.milliseconds


def _number(milliseconds: float) -> str:
  if milliseconds < 10:
    return f"{milliseconds:.2f}"
  return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"
