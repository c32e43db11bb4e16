"""One call of one op, made and judged: right, wrong or an exception, and how fast."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad import api
from tf_conv3d_grad.cli import malformed
from tf_conv3d_grad.conformance import children, differential, direction, oracle, reference, ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.ways import Op

STOCK, OURS = "TensorFlow", "this op"
WAYS = differential.DEFAULT_WAYS

# What can come of a call. Of a process that it ends, another process has to tell.
RIGHT, WRONG, RESULT, ERROR, DIED, TIMEOUT = (
  "right", "wrong", "result", "error", "died", "timeout",
)  # fmt: skip

# The first call may trace and compile, and is not counted. Then as many as fit the time.
_MOST_ROUNDS = 5
_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Trial:
  """A call to be made.

  Attributes:
    op: `STOCK` or `OURS`.
    way: One of `WAYS`.
    function: The op's name, such as "Conv3D".
    case: What to compute, in the short notation; None for a malformed call.
    malformed: The name of a malformed call, one of the op's `malformed.CALLS`; None for a case.
  """

  op: str
  way: str
  function: str
  case: str | None = None
  malformed: str | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of a call.

  Attributes:
    status: `RIGHT` or `WRONG` by the oracle's judgement, `RESULT` where there is nothing to
      compare with, `ERROR` for an exception, `DIED` for a process that ended, `TIMEOUT` for one
      that had to be ended.
    milliseconds: The median; None without a result.
    error: The exception's type, or what ended the process: "abort" or a signal.
    message: What is wrong, in one line.
  """

  status: str
  milliseconds: float | None = None
  error: str | None = None
  message: str | None = None


def perform_all(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
  """Makes calls in child processes; yields each with its outcome, in order."""
  with children.Children(perform) as processes:
    for trial in trials:
      outcome = processes.call(trial)
      if isinstance(outcome, children.Ended):
        status = DIED if outcome.error else TIMEOUT
        outcome = Outcome(status, error=outcome.error, message=outcome.message)
      yield trial, outcome


def perform(trial: Trial) -> Outcome:
  """Makes a call in this process, which a malformed one may end."""
  op = reference.OPS[trial.function] if trial.op == STOCK else getattr(api, trial.function)
  if trial.malformed is not None:
    call = in_way(op, malformed.arguments(trial.function, trial.malformed), trial.way)
    return attempt(call, timed=False)
  case = Case.parse(trial.case or "")
  arguments = case.arguments()
  exact = oracle.exact(case, arguments)
  tolerances = differential.RAW_TOLERANCE if trial.op == STOCK else None
  return attempt(in_way(op, arguments, trial.way), judge_of(case, (exact,), tolerances))


def judge_of(
  case: Case, exact: tuple[np.ndarray, ...], tolerances: dict[str, float] | None = None
) -> Callable[[Any], str | None]:
  """Returns a function that says what is wrong with a result, or with several, or None.

  Args:
    case: The `Case`.
    exact: What each of the results should be.
    tolerances: As `differential.judge` takes them.
  """

  def judge(results: Any) -> str | None:
    results = results if isinstance(results, tuple) else (results,)
    failures = (
      differential.judge(case, result, expected, tolerances)[1]
      for result, expected in zip(results, exact)
    )
    return next(filter(None, failures), None)

  return judge


def attempt(
  call: Callable[[], Any],
  judge: Callable[[Any], str | None] | None = None,
  timed: bool = True,
) -> Outcome:
  """Makes a call, judges its result and times it.

  Args:
    call: Makes it, and returns its result when that is there.
    judge: Returns what is wrong with the result, or None.
    timed: Whether to call again to take the time.
  """
  try:
    result = call()
  except Exception as error:  # Whatever it is, it is an outcome.
    return Outcome(ERROR, error=type(error).__name__, message=_one_line(error))
  milliseconds = _median_milliseconds(call) if timed else None
  if judge is None:
    return Outcome(RESULT, milliseconds, message=f"a result of shape {np.shape(result)}")
  wrong = judge(result)
  return Outcome(WRONG if wrong else RIGHT, milliseconds, message=wrong)


def in_way(op: Op, arguments: dict[str, Any], way: str) -> Callable[[], Any]:
  """Returns a function that calls `op` in one of `WAYS`, with tensors that are there already."""
  names = direction.of_arguments(arguments).operands
  tensors = {name: tf.constant(arguments[name]) for name in names}
  return ways.WAYS[way](op, {**arguments, **tensors})


def _median_milliseconds(call: Callable[[], Any]) -> float:
  times: list[float] = []
  deadline = time.perf_counter() + _SECONDS
  while len(times) < _MOST_ROUNDS and (not times or time.perf_counter() < deadline):
    start = time.perf_counter()
    call()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)


def _one_line(error: Exception) -> str:
  """Returns what went wrong, without where in the graph or the source."""
  text = str(error).partition("\n\t [[")[0].partition(" [Op:")[0].partition(" for '{{node")[0]
  text = text.rpartition("}} ")[-1]
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1] if lines else ""
