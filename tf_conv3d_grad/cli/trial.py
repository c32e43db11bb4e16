"""One call of one op, made and judged: right, wrong or an exception, and how fast.

`python -m tf_conv3d_grad.cli.trial` is the child process in which `perform_all` makes them.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.api import Conv3DBackpropInputV2
from tf_conv3d_grad.cli import children, malformed
from tf_conv3d_grad.conformance import differential, oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import private

STOCK, OURS = "TensorFlow", "this op"
WAYS = ("eager", "graph", "compiled")

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
    case: What to compute, in the short notation; None for a malformed call.
    malformed: The name of a malformed call, one of `malformed.CALLS`; None for a case.
  """

  op: str
  way: str
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
  requests = [dataclasses.asdict(trial) for trial in trials]
  for trial, answer in zip(trials, children.ask(requests, ("-m", "tf_conv3d_grad.cli.trial"))):
    if isinstance(answer, children.Ended):
      status = DIED if answer.error else TIMEOUT
      yield trial, Outcome(status, error=answer.error, message=answer.message)
    else:
      yield trial, Outcome(**answer)


def perform(trial: Trial) -> Outcome:
  """Makes a call in this process, which a malformed one may end."""
  op = private.raw_backprop_input if trial.op == STOCK else Conv3DBackpropInputV2
  if trial.malformed is not None:
    arguments = malformed.arguments(trial.malformed)
    return attempt(in_way(op, arguments, trial.way), timed=False)
  case = Case.parse(trial.case or "")
  arguments = case.arguments()
  exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
  limits: tuple[Any, ...] = ()
  if trial.op == STOCK:
    limits = differential.RAW_TOLERANCE, differential.RAW_ROUNDINGS
  return attempt(
    in_way(op, arguments, trial.way),
    judge=lambda result: differential.judge(case, result, exact, *limits)[1],
  )


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


def in_way(
  op: Callable[..., Any], arguments: dict[str, Any], way: str
) -> Callable[[], Any]:
  """Returns a function that calls `op` in one of `WAYS`, traced once for all its calls.

  It returns NumPy arrays in the place of tensors, and so only when these are there.
  """
  constants = dict(arguments)
  tensors = [tf.convert_to_tensor(constants.pop(name)) for name in ("filter", "out_backprop")]

  def function(filter: tf.Tensor, out_backprop: tf.Tensor) -> Any:
    return op(filter=filter, out_backprop=out_backprop, **constants)

  if way != "eager":
    function = tf.function(function, jit_compile=way == "compiled", autograph=False)
  return lambda: tf.nest.map_structure(lambda tensor: tensor.numpy(), function(*tensors))


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
  text = str(error).partition("\n\t [[")[0].partition(" [Op:")[0].rpartition("}} ")[-1]
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1] if lines else ""


if __name__ == "__main__":
  children.serve(lambda request: dataclasses.asdict(perform(Trial(**request))))
