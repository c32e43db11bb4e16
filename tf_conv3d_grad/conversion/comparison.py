"""Whether a converted model computes what the model did, on random inputs."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# What can come of it.
AGREES, DIFFERS, FAILS, NOT_COMPARED = "agrees", "differs", "fails", "not compared"

# Relative errors in the 2-norm up to which results agree. Errors of one layer grow in the next.
_ALLOWED = {tf.float64: 1e-8, tf.float32: 1e-3, tf.float16: 3e-2, tf.bfloat16: 1e-1}
# Of integers, which round and choose, as many may differ.
_ALLOWED_SHARE = 0.02
# The batch, where it is not known.
_BATCH = 2
_MOST_CELLS = 2**28
_SEED = 0
_LEAST_NORM = 1e-30


class Input(NamedTuple):
  """An input of a signature.

  Attributes:
    name: Its name.
    dtype: The name of its dtype.
    shape: Its shape, with None for what is not known; None if not even the rank is.
  """

  name: str
  dtype: str
  shape: tuple[int | None, ...] | None


class Signature(NamedTuple):
  """What there is to call in a model.

  Attributes:
    tags: Those of the MetaGraphDef.
    name: The signature's name.
    inputs: Its inputs.
  """

  tags: tuple[str, ...]
  name: str
  inputs: tuple[Input, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What came of running a signature of both models.

  Attributes:
    signature: The signature's name.
    status: `AGREES`, `DIFFERS`, `FAILS` if the converted model does not run though the other does,
      or `NOT_COMPARED`.
    error: The largest relative error of an output in the 2-norm; None if there is none.
    allowed: What is allowed of that output.
    message: What went wrong.
  """

  signature: str
  status: str
  error: float | None = None
  allowed: float | None = None
  message: str = ""


def signatures(meta_graph: Any) -> list[Signature]:
  """Returns the signatures of a MetaGraphDef that have tensors for outputs."""
  tags = tuple(meta_graph.meta_info_def.tags)
  found = []
  for name, signature in sorted(meta_graph.signature_def.items()):
    if name.startswith("__") or not signature.outputs:
      continue
    inputs = [_input(each, info) for each, info in sorted(signature.inputs.items())]
    found.append(Signature(tags, name, tuple(inputs)))
  return found


def _input(name: str, info: Any) -> Input:
  lengths = tuple(None if each.size < 0 else each.size for each in info.tensor_shape.dim)
  try:
    dtype = tf.as_dtype(info.dtype).name
  except TypeError:
    dtype = "unknown"
  return Input(name, dtype, None if info.tensor_shape.unknown_rank else lengths)


def compare(
  original: str, converted: str, signature: Signature, length: int, dtypes: Iterable[str]
) -> Comparison:
  """Runs a signature of both models on the same random inputs.

  Args:
    original: The folder of the one.
    converted: The folder of the other.
    signature: What to call.
    length: What to take for lengths that are not known, but for the batch's.
    dtypes: Names of the dtypes that something was converted in.
  """
  failed = functools.partial(Comparison, signature.name)
  rng = np.random.default_rng(_SEED)
  inputs = {}
  for each in signature.inputs:
    values = _random(rng, each, length)
    if isinstance(values, str):
      return failed(NOT_COMPARED, message=f"the input {each.name} {values}")
    inputs[each.name] = values
  expected = _run(original, signature, inputs)
  found = _run(converted, signature, inputs)
  if isinstance(expected, str):
    also = "; converted it does not" if isinstance(found, str) else "; converted it does"
    return failed(NOT_COMPARED, message=f"the model does not run: {expected}{also}")
  if isinstance(found, str):
    return failed(FAILS, message=found)
  result = _judged(signature.name, found, expected, dtypes)
  if result.status == DIFFERS:
    again = _run(original, signature, inputs)
    if not isinstance(again, str):
      if _judged(signature.name, again, expected, dtypes).status == DIFFERS:
        return failed(NOT_COMPARED, message="the model gives other results each time it is called")
  return result


def _random(rng: np.random.Generator, input: Input, length: int) -> np.ndarray | str:  # noqa: A002
  """Returns random values for an input, or why there are none."""
  if input.shape is None:
    return "may have any rank"
  shape = [
    n if n is not None else length if place or len(input.shape) == 1 else _BATCH
    for place, n in enumerate(input.shape)
  ]
  if math.prod(shape) > _MOST_CELLS:
    return f"has {math.prod(shape)} values, more than {_MOST_CELLS}"
  if input.dtype == "unknown":
    return "has a dtype that this TensorFlow does not know"
  dtype = tf.as_dtype(input.dtype)
  if dtype.is_bool:
    return rng.integers(0, 2, shape).astype(bool)
  if dtype.is_integer and not dtype.is_quantized:
    return rng.integers(0, 2, shape).astype(dtype.as_numpy_dtype)
  if dtype.is_floating or dtype.is_complex:
    return rng.standard_normal(shape).astype(dtype.as_numpy_dtype)
  return f"is of {dtype.name}, which has no random values"


def _run(folder: str, signature: Signature, inputs: dict[str, Any]) -> dict[str, Any] | str:
  """Returns a signature's outputs, or what went wrong."""
  try:
    model = _loaded(folder, signature.tags)
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = model.signatures[signature.name](**tensors)
    return {name: value.numpy() for name, value in outputs.items()}
  except Exception as error:  # Whatever a foreign model does, it is an outcome.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not _is_heading(line)), type(error).__name__)


def _is_heading(line: str) -> bool:
  return line.startswith(("Graph execution error", "Detected at node", "<stack traces", "Node:"))


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, tags: tuple[str, ...]) -> Any:
  return tf.saved_model.load(folder, tags=list(tags))


def _judged(
  name: str, found: dict[str, Any], expected: dict[str, Any], dtypes: Iterable[str]
) -> Comparison:
  """Returns how the worst output compares."""
  coarsest = max((_ALLOWED.get(tf.as_dtype(dtype), 0.0) for dtype in dtypes), default=0.0)
  comparisons = []
  for output, value in expected.items():
    error, allowed = _error(found[output], value, coarsest)
    status = AGREES if error <= allowed else DIFFERS
    message = "" if status == AGREES else f"of the output {output}"
    comparisons.append(Comparison(name, status, error, allowed, message))
  return max(comparisons, key=lambda each: (each.error or 0.0) / (each.allowed or 1.0))


def _error(found: np.ndarray, expected: np.ndarray, coarsest: float) -> tuple[float, float]:
  """Returns an output's error and what is allowed of it."""
  if found.shape != expected.shape:
    return math.inf, 0.0
  dtype = tf.as_dtype(expected.dtype)
  if not (dtype.is_floating or dtype.is_complex):
    return float(np.mean(found != expected)) if expected.size else 0.0, _ALLOWED_SHARE
  allowed = max(coarsest, _ALLOWED.get(dtype, _ALLOWED[tf.float32]))
  wide = np.complex128 if dtype.is_complex else np.float64
  found, expected = found.astype(wide), expected.astype(wide)
  finite = np.isfinite(expected)
  if not np.array_equal(finite, np.isfinite(found)):
    return math.inf, allowed
  difference = float(np.linalg.norm(found[finite] - expected[finite]))
  return difference / max(float(np.linalg.norm(expected[finite])), _LEAST_NORM), allowed
