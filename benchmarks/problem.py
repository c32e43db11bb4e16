"""A case as the contestants' programs read it: plain numbers, and tensors in files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_conv3d_grad.conformance.case import Case


def describe(case: Case) -> dict[str, Any]:
  """Returns what a contestant has to know of a case, as JSON can hold it."""
  lead, trail = zip(*_paddings(case))
  return {
    "batch": case.batch,
    "input_size": case.input_size,
    "in_channels": case.in_channels,
    "groups": case.groups,
    "strides3": case.strides,
    "dilations3": case.dilations,
    "lead": lead,
    "trail": trail,
    "dtype": case.dtype,
    "input_sizes": case.input_sizes,
    **case.attributes(),
  }


def save_tensors(case: Case, folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Writes the case's random tensors, none of whose elements is zero, and returns them.

  Halves are written as float32, which holds them exactly and which every NumPy reads.
  """
  arguments = case.arguments()
  tensors = {}
  for name in ("filter", "out_backprop"):
    dtype = np.float64 if case.dtype == "float64" else np.float32
    tensors[name] = arguments[name].astype(dtype)
    np.save(folder / f"{name}.npy", tensors[name])
  return tensors


def tensor_bytes(case: Case) -> int:
  """Returns the size of the filter, `out_backprop` and the result together: the least to move."""
  size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[case.dtype]
  shapes = (case.filter_shape, case.out_backprop_shape, case.input_sizes)
  return size * sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)


def _paddings(case: Case) -> Iterator[tuple[int, int]]:
  """Yields each axis's padding in front and behind, as TensorFlow splits it."""
  for n, o, k, s, d in zip(
    case.input_size, case.output_size, case.taps, case.strides, case.dilations
  ):
    total = max((o - 1) * s + (k - 1) * d + 1 - n, 0) if case.padding == "SAME" else 0
    yield total // 2, total - total // 2
