"""A handful of malformed calls; TensorFlow's own op ends the process on some of them."""

from __future__ import annotations

from typing import Any

import numpy as np


def arguments(name: str) -> dict[str, Any]:
  """Returns the arguments of one of `CALLS`."""
  return {**WELL_FORMED, **CALLS[name]}


def _ones(*shape: int) -> np.ndarray:
  return np.ones(shape, np.float32)


WELL_FORMED: dict[str, Any] = {
  "input_sizes": [2, 4, 5, 6, 4],
  "filter": _ones(3, 3, 3, 4, 6),
  "out_backprop": _ones(2, 4, 5, 6, 6),
  "strides": [1, 1, 1, 1, 1],
  "padding": "SAME",
  "data_format": "NDHWC",
  "dilations": [1, 1, 1, 1, 1],
}

# These are made in a function with jit_compile=True, the others eagerly.
COMPILED = ("filter without in channels, jit",)

# What differs from a well-formed call, by the name it is shown under.
CALLS: dict[str, dict[str, Any]] = {
  "input_sizes with a depth of -1": {"input_sizes": [2, -1, 5, 6, 4]},
  "input_sizes of one number": {"input_sizes": [4]},
  "filter of rank 4": {"filter": _ones(3, 3, 4, 6)},
  "filter without in channels, jit": {"filter": _ones(3, 3, 3, 0, 6)},
  "out_backprop of rank 4, NCDHW": {
    "input_sizes": [2, 4, 4, 5, 6],
    "out_backprop": _ones(2, 6, 5, 6),
    "data_format": "NCDHW",
  },
  "out_backprop of another depth": {"out_backprop": _ones(2, 3, 5, 6, 6)},
  "strides of zero": {"strides": [1, 1, 0, 1, 1]},
  "dilations of length 3": {"dilations": [1, 1, 1]},
  "dilations beyond int32": {"dilations": [1, 2**31, 1, 1, 1]},
}
