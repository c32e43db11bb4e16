"""Writes docs/errors.md: what every malformed call of the tests ends in, here and in TensorFlow.

  python tools/errors_table.py

Run it with an interpreter that has TensorFlow. Takes half an hour, most of it waiting for processes
that TensorFlow's own op has taken down to start anew.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tensorflow as tf  # noqa: E402

from tests import malformed_calls  # noqa: E402
from tf_conv3d_grad.tensorflow import private  # noqa: E402

# TensorFlow's op is called in these ways, this one in all.
_WAYS = ("eager", "traced", "compiled", "nothing known")

_HEADER = """\
# Malformed calls, and what they end in

Written by `make errors-table` from the calls of `tests/malformed_calls.py`, each made in a process
that may die of it, with TensorFlow {version} and oneDNN {onednn}. TensorFlow's op may end in
something else where oneDNN is {other} or another processor runs it; this op does not. What differs
from a well-formed call is named in the first column. This op is called in {own_ways} ways:
{own_names}.
TensorFlow's is called in {their_ways} of them.

| | TensorFlow's op | this op |
|---|---|---|
{counts}

An entry is the exception's name; "result" where there is none. Where the ways differ, each
outcome has the ways behind it. A result may be right: TensorFlow takes some empty tensors, and with
them so does this op. `ResourceExhaustedError` says what is asked for and what there is when the op
is called eagerly; in graphs it is TensorFlow's.

| call | TensorFlow's op | this op |
|---|---|---|
"""

_DEATHS = {"abort": "**abort**", "SIGSEGV": "**segfault**", "SIGFPE": "**SIGFPE**"}
_CLEAR = ("InvalidArgumentError", "ResourceExhaustedError", "ValueError", "TypeError")


def main() -> int:
  """Makes the calls and writes the table. Returns the exit status."""
  theirs = {way: _outcomes("tensorflow", way) for way in _WAYS}
  ours = {way: _outcomes("this", way) for way in malformed_calls.WAYS}
  both = [
    [outcome for outcomes in by_way.values() for outcome in outcomes.values()]
    for by_way in (theirs, ours)
  ]
  bad = (*_DEATHS.values(), "hang")
  counts = [_row("calls", map(len, both))]
  counts += [_row(text, (outcomes.count(text) for outcomes in both)) for text in bad]
  counts.append(_row("result", (outcomes.count("result") for outcomes in both)))
  counts += [_row(f"`{name}`", (outcomes.count(name) for outcomes in both)) for name in _CLEAR]
  known = (*bad, "result", *_CLEAR)
  counts.append(
    _row("another exception", (sum(o not in known for o in outcomes) for outcomes in both))
  )
  text = _HEADER.format(
    version=tf.__version__,
    onednn="on" if private.onednn_enabled() else "off",
    other="off" if private.onednn_enabled() else "on",
    own_ways=len(malformed_calls.WAYS),
    their_ways=len(_WAYS),
    own_names=", ".join(map(_in_table, malformed_calls.WAYS)),
    counts="\n".join(counts),
  )
  for name in malformed_calls.CALLS:
    text += f"| {malformed_calls.in_table(name)} | {_cell(theirs, name)} | {_cell(ours, name)} |\n"
  (ROOT / "docs" / "errors.md").write_text(text, encoding="utf-8")
  print("wrote docs/errors.md")
  return 0


def _outcomes(op: str, way: str) -> dict[str, str]:
  """Returns what each call that can be made in this way ends in, by name."""
  made = malformed_calls.is_made
  calls = [name for name, call in malformed_calls.CALLS.items() if made(way, call)]
  outcomes: dict[str, Any] = {}
  with malformed_calls.Maker(op, way) as maker:
    for call in calls:
      outcomes.update(maker.outcomes([call]))
  print(f"{op}, {way}: {len(outcomes)} calls", flush=True)
  return {name: _in_words(outcome) for name, outcome in outcomes.items()}


def _in_words(outcome: dict[str, Any]) -> str:
  if "died" in outcome:
    return _DEATHS.get(outcome["died"], outcome["died"])
  return outcome["exceptions"][0] if outcome["exceptions"] else "result"


def _row(title: str, numbers: Iterable[int]) -> str:
  return f"| {title} | {' | '.join(map(str, numbers))} |"


def _cell(by_way: dict[str, dict[str, str]], name: str) -> str:
  ways: dict[str, list[str]] = {}
  for way, outcomes in by_way.items():
    if name in outcomes:
      ways.setdefault(outcomes[name], []).append(way)
  if len(ways) == 1:
    return next(iter(ways))
  return "; ".join(
    f"{outcome} ({', '.join(map(_in_table, names))})" for outcome, names in ways.items()
  )


def _in_table(way: str) -> str:
  return way.replace(", ", " with ")


if __name__ == "__main__":
  sys.exit(main())
