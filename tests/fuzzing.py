"""Random calls of the three ops, valid and not, and the child processes that make them.

    python -m tests.fuzzing                  draws calls for 30 minutes, or --minutes
    python -m tests.fuzzing --call 'JSON'    makes one call again

Hypothesis draws the calls and a child process makes them, so that an abort or a hang is seen, and
known by its arguments. A call is wrong if it ends in anything but a right result or an exception
that the op documents.
"""

import argparse
import dataclasses
import json
import math
import shlex
import sys
import time

import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import tf_conv3d_grad
from tf_conv3d_grad.conformance import children, differential, oracle, ways
from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, PADDINGS, Case
from tf_conv3d_grad.conformance.direction import DIRECTIONS

ATTRIBUTES = ("strides", "padding", "data_format", "dilations")
DOCUMENTED = ("InvalidArgumentError", "ResourceExhaustedError", "ValueError", "TypeError")
# A call that takes longer hangs.
HANG_SECONDS = 45
# How long to wait for one to return all the same. TensorFlow's allocator waits 10 s for memory to
# be freed, in a graph up to three times, before it says that there is none: not a finding.
PATIENCE_SECONDS = 60
# Calls that one child makes before the next takes over, lest its caches of traces grow for ever.
CALLS_OF_A_CHILD = 400


@dataclasses.dataclass(frozen=True)
class Finding:
  """A call that went wrong.

  Attributes:
    kind: "abort", "hang" or "wrong".
    call: The call, as JSON.
    reason: What is wrong, in one line.
  """

  kind: str
  call: str
  reason: str

  def __str__(self) -> str:
    return f"python -m tests.fuzzing --call {shlex.quote(self.call)}  # {self.kind}: {self.reason}"


# ---- Calls. Each is a dict that JSON can hold: a valid case, and in `changes` a Python expression
# for every argument that is another than the case's.


WAYS = (
  "eager", "constants", "compiled-constants", "v1-graph", "unknown-ranks", "compiled-unknown-ranks",
  "v1-unknown-ranks", "patched", "always", "never", "gradient",
)  # fmt: skip
# Drawn as often as they stand here; those that compile take longest.
_DRAWN_WAYS = ("eager",) * 4 + ("constants", "unknown-ranks") * 2 + WAYS

_INTEGERS = (0, 1, 2, 3, 4, 5, 7, 16, -1, -2, 2**15, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
_BEYOND = (2**63, -(2**63) - 1, 2**64, 10**30)
_OTHERS = (
  "None", "True", "''", "'SAME'", "b'SAME'", "'12345'", "1.5", "float('nan')", "float('inf')",
  "1j", "[]", "()", "{}", "object()", "[[]]", "[None] * 5", "['1'] * 5", "[1.5] * 5", "[True] * 5",
  "[[1] * 5]", "[1] * 6", "[1] * 4", "range(1, 6)", "'\\ud800'", "b'\\xff'", "np.ones([5])",
  "np.ones([5], np.int32)", "np.ones([5], np.uint64)", "np.ones([5], bool)", "np.array([])",
  "np.array(5)", "np.array(['a'] * 5)", "np.array([None] * 5)", "np.float32(2)",
  "np.zeros([0, 0, 0, 0, 0], np.float32)", "np.ones([1] * 5, np.float32)",
  "np.ones([1] * 4, np.float32)", "np.ones([1] * 6, np.float32)", "np.ones([1] * 5, np.complex64)",
  "tf.constant([1] * 5)", "tf.constant([1] * 5, tf.int64)", "tf.constant(1.5)",
  "tf.constant('SAME')", "tf.constant([1.5] * 5)", "tf.constant([1] * 5, tf.uint8)",
  "tf.zeros([0], tf.int32)", "tf.zeros([3, 0, 3, 2, 2])", "tf.ones([1] * 5, tf.bfloat16)",
  "tf.ones([1] * 5, tf.float64)", "tf.ones([1] * 5, tf.bool)", "tf.Variable([1] * 5)",
  "tf.ragged.constant([[1.0], []])", "tf.sparse.eye(5)", "tf.TensorSpec([5])",
)  # fmt: skip


def _triples(values):
  return st.one_of(values.map(lambda value: (value,) * 3), st.tuples(values, values, values))


@st.composite
def _cases(draw):
  """Draws the notation of a valid case, now and then empty or with enormous steps."""
  groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
  steps = st.sampled_from((1, 1, 1, 1, 2, 2, 3, 5, 40000))
  try:
    case = Case(
      batch=draw(st.sampled_from((1, 1, 2, 3, 0))),
      input_size=draw(_triples(st.integers(0, 9))),
      in_channels=groups * draw(st.sampled_from((1, 2, 3, 5, 0))),
      out_channels=groups * draw(st.sampled_from((1, 2, 3, 8, 0))),
      taps=draw(_triples(st.sampled_from((1, 2, 3, 3, 4, 7, 0)))),
      strides=draw(_triples(steps)),
      dilations=draw(_triples(steps)),
      groups=groups,
      padding=draw(st.sampled_from(PADDINGS)),
      data_format=draw(st.sampled_from(DATA_FORMATS)),
      dtype=draw(st.sampled_from(tuple(DTYPES.values()))),
      direction=draw(st.sampled_from(tuple(DIRECTIONS.values()))),
    )
  except ValueError:
    hypothesis.reject()
  # A filter without taps gives long outputs where dilations are.
  hypothesis.assume(math.prod(case.out_backprop_shape) < 2**20)
  # Without channels the shapes do not tell how many groups there are.
  hypothesis.assume(groups == 1 or case.in_channels and case.out_channels)
  return case


def _changed(shape):
  """Returns a strategy for lists that are `shape` but for a number, or for their length."""
  return st.one_of(
    st.tuples(st.integers(0, len(shape) - 1), st.sampled_from(_INTEGERS + _BEYOND)).map(
      lambda change: [*shape[: change[0]], change[1], *shape[change[0] + 1 :]]
    ),
    st.integers(0, len(shape)).map(lambda length: list(shape[:length])),
    st.just([*shape, 1]),
    st.permutations(shape).map(list),
  )


@st.composite
def _values(draw, name, case):
  """Draws a Python expression for an argument: something close to a right one, or hostile."""
  if draw(st.booleans()):
    return draw(st.sampled_from(_OTHERS))
  if name in case.direction.operands:
    shape = draw(_changed(case.shape_of(name)))
    shape = [size if 0 <= size <= 64 else 1 for size in shape]
    return f"tf.ones({shape}, tf.{draw(st.sampled_from((case.dtype, 'float32', 'float16')))})"
  if name in ("strides", "dilations"):
    return repr(draw(_changed(getattr(case, f"{name}_attr"))))
  if name == case.direction.sizes:
    values = draw(_changed(case.result_shape))
    wraps = ["{}", "tuple({})"]
    if all(-(2**31) <= value < 2**31 for value in values):
      wraps += ["np.array({}, np.int32)", "tf.constant({}, tf.int32)"]
    if all(-(2**63) <= value < 2**63 for value in values):
      wraps += ["np.array({}, np.int64)", "tf.constant({}, tf.int64)"]
    return draw(st.sampled_from(wraps)).format(values)
  return repr(draw(st.sampled_from((*PADDINGS, *DATA_FORMATS, "EXPLICIT", "", "ndhwc"))))


@st.composite
def calls(draw):
  """Draws a call: one in two is valid."""
  case = draw(_cases())
  arguments = (*case.direction.tensors, *ATTRIBUTES)
  some = st.lists(st.sampled_from(arguments), max_size=3, unique=True)
  names = draw(st.one_of(st.just([]), some))
  return {
    "way": draw(st.sampled_from(_DRAWN_WAYS)),
    "case": str(case),
    "seed": draw(st.integers(0, 3)),
    "changes": {name: draw(_values(name, case)) for name in names},
  }


def make(call):
  """Makes a call.

  Returns:
    What came of it, in a few words, and what is wrong with that, or None.
  """
  start = time.monotonic()
  outcome, wrong = _outcome(call)
  seconds = time.monotonic() - start
  if seconds > HANG_SECONDS and outcome != "ResourceExhaustedError":
    wrong = wrong or f"{outcome} after {seconds:.0f} s"
  return outcome, wrong


def _outcome(call):
  case = Case.parse(call["case"])
  arguments = case.arguments(call["seed"])
  for name, expression in call["changes"].items():
    try:
      # Our own expressions, from the lists above or from whoever runs a finding again.
      arguments[name] = eval(expression, {"np": np, "tf": tf})
    except (ValueError, TypeError, OverflowError, tf.errors.OpError) as error:
      return f"no such argument: {type(error).__name__}", None
  if "unknown" in call["way"] or call["way"] == "gradient":
    for name in case.direction.tensors:
      try:
        tf.Variable(tf.constant(arguments[name]))
      except Exception as error:  # What no tensor can be made of cannot be fed.
        return f"cannot be fed: {type(error).__name__}", None
  try:
    result = ways.call(call["way"], getattr(tf_conv3d_grad, case.direction.op), arguments)
  except Exception as error:  # Whatever it is, it is judged here.
    return type(error).__name__, _judged_error(call, error)
  return f"shape {result.shape}", _judged_result(case, call["changes"], arguments, result)


def _judged_error(call, error):
  text = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
  if not call["changes"]:
    return f"a valid call raises {text}"
  if not any(base.__name__ in DOCUMENTED for base in type(error).__mro__):
    return f"raises {text}"
  # XLA's messages are not the op's to write, and a name of an operation stands for an argument.
  arguments = (*Case.parse(call["case"]).direction.tensors, *ATTRIBUTES)
  if not isinstance(error, tf.errors.ResourceExhaustedError) and not any(
    name in str(error) for name in arguments
  ):
    return f"names no argument: {text}"
  return None


def _judged_result(case, changes, arguments, result):
  try:
    case = _case_of(case.direction, arguments) if changes else case
  except (ValueError, TypeError, IndexError) as error:
    return f"a malformed call gives a result of shape {result.shape}: {error}"
  if 0 in case.result_shape:  # which settles the result, whatever the channels of the filter
    right = result.shape == case.result_shape
    return None if right else f"the shape must be {case.result_shape}, got {result.shape}"
  values = {name: np.asarray(arguments[name]) for name in case.direction.operands}
  _, failure = differential.judge(case, result, oracle.exact(case, values))
  return failure


def _case_of(direction, arguments):
  """Returns the valid case that arguments other than a case's own amount to."""
  text = {
    name: arguments[name].decode() if isinstance(arguments[name], bytes) else arguments[name]
    for name in ("padding", "data_format")
  }
  text["data_format"] = text["data_format"] or "NDHWC"
  order = range(5) if text["data_format"] == "NDHWC" else (0, 2, 3, 4, 1)

  def in_order(values):
    return [int(np.asarray(values)[place]) for place in order]

  shapes = {name: np.shape(arguments[name]) for name in direction.operands}
  if direction.sizes:
    shapes[direction.result] = arguments[direction.sizes]
  dilations = [1] * 5 if arguments["dilations"] is None else arguments["dilations"]
  batch, *size, channels = in_order(shapes["input"])
  _, *strides, _ = in_order(arguments["strides"])
  _, *dilations, _ = in_order(dilations)
  *taps, filter_in, out_channels = (int(size) for size in np.asarray(shapes["filter"]))
  tensors = [arguments[name] for name in direction.operands]
  case = Case(
    batch=batch,
    input_size=tuple(size),
    in_channels=channels,
    out_channels=out_channels,
    taps=tuple(taps),
    strides=tuple(strides),
    dilations=tuple(dilations),
    groups=max(1, channels // max(filter_in, 1)),
    # That of the first tensor holds for both.
    dtype=tf.as_dtype(next(filter(tf.is_tensor, tensors), tensors[0]).dtype).name,
    direction=direction,
    **text,
  )
  given = shapes.get("out_backprop")
  if given is not None and in_order(given) != [batch, *case.output_size, out_channels]:
    raise ValueError(f"out_backprop must have the shape {case.out_backprop_shape}")
  return case


class _Enough(BaseException):
  """Ends the drawing; Hypothesis lets it pass, and makes nothing smaller."""


def run(seed, examples, until=None):
  """Draws calls, and makes them in a child.

  Args:
    seed: What the calls depend on.
    examples: How many there are to be.
    until: When to stop all the same, as `time.monotonic()` tells it.

  Returns:
    How many calls were made, and the findings.
  """
  count, finding = 0, None

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=examples,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    report_multiple_bugs=False,
  )
  @hypothesis.given(calls())
  def drawn(call):
    nonlocal count, finding
    if until is not None and time.monotonic() > until:
      raise _Enough
    count += 1
    answer = processes.call(call)
    if isinstance(answer, children.Ended):
      kind = "abort" if answer.error else "hang"
      finding = Finding(kind, json.dumps(call), str(answer))
      raise _Enough
    _, wrong = answer
    if wrong:
      finding = Finding("wrong", json.dumps(call), wrong)
      raise AssertionError(wrong)

  with children.Children(make, PATIENCE_SECONDS) as processes:
    try:
      drawn()
    except _Enough:
      pass
    except Exception:
      if finding is None:
        raise
  return count, [finding] if finding else []


def main():
  """Draws calls for some minutes, or makes one again. Returns the exit status."""
  parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
  parser.add_argument("--minutes", type=float, default=30, help="how long, 30 unless given")
  parser.add_argument("--seed", type=int, help="what the calls depend on; the clock unless given")
  parser.add_argument("--call", help="one call, as a finding prints it")
  options = parser.parse_args()
  if options.call:
    outcome, wrong = make(json.loads(options.call))
    print(f"{outcome}: {wrong or 'as it should be'}")
    return int(wrong is not None)
  seed = int(time.time()) if options.seed is None else options.seed
  until = time.monotonic() + 60 * options.minutes
  calls_made, findings = 0, []
  while time.monotonic() < until:
    count, found = run(seed, CALLS_OF_A_CHILD, until)
    for finding in found:
      print(finding, flush=True)
    calls_made, findings, seed = calls_made + count, findings + found, seed + 1
  kinds = [finding.kind for finding in findings]
  print(
    f"{calls_made} calls: {kinds.count('abort')} aborts, {kinds.count('hang')} hangs, "
    f"{kinds.count('wrong')} wrong"
  )
  return int(bool(findings))


if __name__ == "__main__":
  sys.exit(main())
