"""An op against the exact result and against TensorFlow's own op, one case at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from tf_conv3d_grad.conformance import oracle, reference
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.ways import Op, call

DEFAULT_WAYS = ("eager", "graph", "compiled")
# The ways of calling in which valid calls are compared, which the command line knows.
WAYS = (
  *DEFAULT_WAYS, "unknown-sizes", "unknown-ranks", "compiled-unknown-batch", "always", "never",
)  # fmt: skip

# Relative errors in the 2-norm that the op may have.
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
# In the small dtypes: how many times the error of rounding the exact result once.
ROUNDINGS = 1.2
# How far TensorFlow's own op may be off before it contradicts the oracle. Its kernels add up in the
# small dtypes, so there it has the error of 40 roundings, each of 2.1e-4 and 1.7e-3 on average. The
# roundings of the exact result are no measure of them: those of a few cells may be small by chance.
RAW_TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 8e-3, "bfloat16": 7e-2}

_MESSAGE_LENGTH = 300


@dataclasses.dataclass(frozen=True)
class Report:
  """What came of one case.

  Attributes:
    case: The `Case`.
    seed: The seed of its tensors.
    errors: The op's relative error in the 2-norm, by way of calling.
    tolerance: The largest relative error allowed.
    raw_route: How TensorFlow's own op took part: "eager", "compiled" or "absent".
    raw_error: The relative error of TensorFlow's own op, or None.
    failures: One sentence each for all that is wrong.
    failed_ways: The ways of calling that went wrong.
  """

  case: Case
  seed: int
  errors: dict[str, float]
  tolerance: float
  raw_route: str
  raw_error: float | None
  failures: tuple[str, ...]
  failed_ways: tuple[str, ...]

  @property
  def passed(self) -> bool:
    """Whether nothing is wrong."""
    return not self.failures

  @property
  def command(self) -> str:
    """The command line that runs this case again."""
    ways = f" --ways {','.join(self.errors)}" if tuple(self.errors) != DEFAULT_WAYS else ""
    return f"tf-conv3d-grad check {self.case} --seed {self.seed}{ways}"

  def __str__(self) -> str:
    if self.passed:
      return f"{self.case}: passed, worst error {max(self.errors.values(), default=0):.1e}"
    return f"{self.command}  # {'; '.join(self.failures)}"


def run(
  case: Case, seed: int = 0, op: Op | None = None, ways: Iterable[str] | None = None
) -> Report:
  """Runs the op of a case's direction in several ways and judges the results.

  Args:
    case: The `Case`.
    seed: The seed of its tensors.
    op: The op under test; the package's own unless given.
    ways: Which of `WAYS` to call it in; `DEFAULT_WAYS` unless given.

  Returns:
    A `Report`.
  """
  op = _with_static_shape(op or getattr(tf_conv3d_grad, case.direction.op), case)
  ways = tuple(ways or DEFAULT_WAYS)
  arguments = case.arguments(seed)
  exact = oracle.exact(case, arguments)
  # The products of a result of few cells may cancel by chance, but not their rounding errors.
  least_norm = oracle.usual_norm(case, arguments)
  failures = []
  failed_ways = []

  errors = {}
  untouched = _untouched(case)
  for way in ways:
    try:
      result = call(way, op, arguments)
    except Exception as error:  # Whatever it is, the report has to name the case.
      errors[way] = np.inf
      failed_ways.append(way)
      failures.append(f"{way}: {type(error).__name__}: {_one_line(error)}")
      continue
    errors[way], failure = judge(case, result, exact, least_norm=least_norm)
    if failure is None and np.any(np.where(untouched, result.astype(np.float64), 0)):
      failure = "a cell that no term reaches is not zero"
    if failure:
      failed_ways.append(way)
      failures.append(f"{way}: {failure}")

  raw = reference.raw(case, arguments)
  raw_error = None
  if raw is not None:
    raw_error, failure = judge(case, raw.value, exact, RAW_TOLERANCE, least_norm=least_norm)
    if failure:
      failures.append(f"the oracle and TensorFlow's own op ({raw.route}) disagree: {failure}")
  return Report(
    case=case,
    seed=seed,
    errors=errors,
    tolerance=relative_tolerance(exact, case.dtype, least_norm=least_norm),
    raw_route="absent" if raw is None else raw.route,
    raw_error=raw_error,
    failures=tuple(failures),
    failed_ways=tuple(failed_ways),
  )


def judge(
  case: Case,
  result: np.ndarray,
  exact: np.ndarray,
  tolerances: dict[str, float] | None = None,
  roundings: float = ROUNDINGS,
  least_norm: float = 0.0,
) -> tuple[float, str | None]:
  """Compares one result to the exact one.

  Args:
    case: The `Case`.
    result: A NumPy array.
    exact: The exact result in float64.
    tolerances: Relative tolerances by dtype; `TOLERANCE` unless given.
    roundings: For other dtypes, the error allowed in multiples of one rounding's.
    least_norm: What errors are relative to where the exact result's norm is smaller.

  Returns:
    The relative error in the 2-norm, and a sentence on what is wrong or None.
  """
  if result.shape != exact.shape:
    return np.inf, f"the shape must be {exact.shape}, got {result.shape}"
  if result.dtype != tf.as_dtype(case.dtype).as_numpy_dtype:
    return np.inf, f"the dtype must be {case.dtype}, got {result.dtype}"
  error = relative_error(result, exact, least_norm)
  tolerance = relative_tolerance(exact, case.dtype, tolerances, roundings, least_norm)
  # Written so that NaN fails.
  if not error <= tolerance:
    return error, f"the relative error must be at most {tolerance:.2e}, got {error:.2e}"
  return error, None


def relative_error(result: np.ndarray, exact: np.ndarray, least_norm: float = 0.0) -> float:
  """Returns the relative error in the 2-norm; without a unit of measure, any error is infinite.

  It is relative to the norm of the exact result, or to `least_norm` if that is more.
  """
  error = np.linalg.norm(np.asarray(result).astype(np.float64).ravel() - exact.ravel())
  norm = max(float(np.linalg.norm(exact.ravel())), least_norm)
  if norm == 0:
    return 0.0 if error == 0 else np.inf
  return float(error / norm)


def relative_tolerance(
  exact: np.ndarray,
  dtype: str,
  tolerances: dict[str, float] | None = None,
  roundings: float = ROUNDINGS,
  least_norm: float = 0.0,
) -> float:
  """Returns the relative error in the 2-norm that a result of the given dtype may have.

  In half and bfloat16 that is a multiple of the error of rounding the exact result once. The sum
  itself is taken in float32, and its tolerance is added: a result of few cells may round with
  hardly any error by chance.
  """
  tolerances = tolerances or TOLERANCE
  if dtype in tolerances:
    return tolerances[dtype]
  rounded = exact.astype(tf.as_dtype(dtype).as_numpy_dtype)
  return roundings * relative_error(rounded, exact, least_norm) + tolerances["float32"]


def _with_static_shape(op: Op, case: Case) -> Op:
  """Returns the op with a check of the static shape: graphs that know the sizes have to know it."""

  def checked(**arguments: Any) -> tf.Tensor:
    result = op(**arguments)
    if not tf.executing_eagerly() and _tells_shape(case, arguments):
      if result.shape.as_list() != list(case.result_shape):
        raise AssertionError(f"static shape must be {case.result_shape}, got {result.shape}")
    return result

  return checked


def _tells_shape(case: Case, arguments: dict[str, Any]) -> bool:
  """Returns whether what is known of the arguments while tracing settles the result's shape."""
  if case.direction.sizes:
    return not tf.is_tensor(arguments[case.direction.sizes])
  shapes = (tf.TensorShape(arguments[name].shape) for name in case.direction.operands)
  return all(shape.is_fully_defined() for shape in shapes)


def _untouched(case: Case) -> np.ndarray:
  """Returns which cells of the result no term of the sum reaches; they must be exactly zero."""
  small = dataclasses.replace(case, batch=1, in_channels=1, out_channels=1, groups=1)
  ones = {name: np.ones(small.shape_of(name)) for name in case.direction.operands}
  return oracle.exact(small, ones) == 0


def _one_line(error: Exception) -> str:
  """Returns what an exception says, without line breaks and not at any length."""
  return " ".join(str(error).split())[:_MESSAGE_LENGTH]
