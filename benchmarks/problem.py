"""A case as the contestants' programs read it: plain numbers, and tensors in files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_conv3d_grad.conformance.case import Case

# A convolution's tensors; each of the three functions takes two of them and returns the third.
_TENSORS = ("input", "filter", "out_backprop")


def describe(case: Case) -> dict[str, Any]:
  """Returns what a contestant has to know of a case, as JSON can hold it.

  `direction` names the function, `operands` the two tensors that it takes, and `arguments` are the
  other arguments of its `op`. `shapes` has all three tensors.
  """
  direction = case.direction
  lead, trail = zip(*_paddings(case))
  return {
    "direction": direction.name,
    "op": direction.op,
    "operands": direction.operands,
    "arguments": arguments(case),
    "shapes": {name: case.shape_of(name) for name in _TENSORS},
    "data_format": case.data_format,
    "input_size": case.input_size,
    "groups": case.groups,
    "strides3": case.strides,
    "dilations3": case.dilations,
    "lead": lead,
    "trail": trail,
    "dtype": case.dtype,
  }


def arguments(case: Case) -> dict[str, Any]:
  """Returns all arguments of the case's op but its operands."""
  sizes = case.direction.sizes
  return {**({sizes: case.result_shape} if sizes else {}), **case.attributes()}


def save_tensors(case: Case, folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Writes the case's operands, random and without zeros, and returns them by name.

  Halves are written as float32, which holds them exactly and which every NumPy reads.
  """
  given = case.arguments()
  tensors = {}
  for name in case.direction.operands:
    dtype = np.float64 if case.dtype == "float64" else np.float32
    tensors[name] = given[name].astype(dtype)
    np.save(folder / f"{name}.npy", tensors[name])
  return tensors


def tensor_bytes(case: Case) -> int:
  """Returns the size of the operands and the result together: the least to move."""
  size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[case.dtype]
  return size * sum(int(np.prod(case.shape_of(name), dtype=np.int64)) for name in _TENSORS)


def _paddings(case: Case) -> Iterator[tuple[int, int]]:
  """Yields each axis's padding in front and behind, as TensorFlow splits it."""
  for n, o, k, s, d in zip(
    case.input_size, case.output_size, case.taps, case.strides, case.dilations
  ):
    total = max((o - 1) * s + (k - 1) * d + 1 - n, 0) if case.padding == "SAME" else 0
    yield total // 2, total - total // 2
