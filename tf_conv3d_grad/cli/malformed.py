"""A handful of malformed calls of each op; TensorFlow's own end the process on some of them."""

from __future__ import annotations

from typing import Any

import numpy as np


def arguments(op: str, name: str) -> dict[str, Any]:
  """Returns the arguments of one of the `CALLS` of an op."""
  return {**WELL_FORMED[op], **CALLS[op][name]}


def _ones(*shape: int) -> np.ndarray:
  return np.ones(shape, np.float32)


_ATTRIBUTES: dict[str, Any] = {
  "strides": [1, 1, 1, 1, 1],
  "padding": "SAME",
  "data_format": "NDHWC",
  "dilations": [1, 1, 1, 1, 1],
}
_INPUT, _FILTER, _OUTPUT = (2, 4, 5, 6, 4), (3, 3, 3, 4, 6), (2, 4, 5, 6, 6)

# By the op's name. All are the same convolution.
WELL_FORMED: dict[str, dict[str, Any]] = {
  "Conv3D": {"input": _ones(*_INPUT), "filter": _ones(*_FILTER), **_ATTRIBUTES},
  "Conv3DBackpropInputV2": {
    "input_sizes": list(_INPUT),
    "filter": _ones(*_FILTER),
    "out_backprop": _ones(*_OUTPUT),
    **_ATTRIBUTES,
  },
  "Conv3DBackpropFilterV2": {
    "input": _ones(*_INPUT),
    "filter_sizes": list(_FILTER),
    "out_backprop": _ones(*_OUTPUT),
    **_ATTRIBUTES,
  },
}

# These are made in a function with jit_compile=True, the others eagerly.
COMPILED = ("filter without in channels, jit",)

_OF_ALL: dict[str, dict[str, Any]] = {
  "strides of zero": {"strides": [1, 1, 0, 1, 1]},
  "dilations of length 3": {"dilations": [1, 1, 1]},
  "dilations beyond int32": {"dilations": [1, 2**31, 1, 1, 1]},
}

# What differs from a well-formed call, by the op's name and the name it is shown under.
CALLS: dict[str, dict[str, dict[str, Any]]] = {
  "Conv3D": {
    "input of rank 0": {"input": _ones()},
    "input of rank 4": {"input": _ones(4, 5, 6, 4)},
    "filter of rank 4": {"filter": _ones(3, 3, 4, 6)},
    "filter without in channels": {"filter": _ones(3, 3, 3, 0, 6)},
    "filter longer than the input": {"filter": _ones(7, 3, 3, 4, 6), "padding": "VALID"},
    **_OF_ALL,
  },
  "Conv3DBackpropInputV2": {
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
    **_OF_ALL,
  },
  "Conv3DBackpropFilterV2": {
    "filter_sizes with -1 taps": {"filter_sizes": [3, -1, 3, 4, 6]},
    "filter_sizes of one number": {"filter_sizes": [4]},
    "input of rank 0": {"input": _ones()},
    "input of rank 4": {"input": _ones(4, 5, 6, 4)},
    "out_backprop of rank 4": {"out_backprop": _ones(4, 5, 6, 6)},
    "out_backprop of another depth": {"out_backprop": _ones(2, 3, 5, 6, 6)},
    **_OF_ALL,
  },
}
