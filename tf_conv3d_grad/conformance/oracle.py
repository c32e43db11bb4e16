"""The exact results, in NumPy float64, straight from the definition of the convolution.

    y[o] = sum over taps q of x[o*s + q*d - p] . w[q]

and its two adjoints, each a loop over the taps with explicit indices. Nothing here is shared with
the package under test, and every product is formed, so infinities and NaNs reach exactly the cells
that the definition says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, FWD

_Index = tuple[np.ndarray, ...]


def exact(case: Case, arguments: dict[str, Any]) -> np.ndarray:
  """Returns what the op of the case's direction has to return.

  Args:
    case: The `Case`.
    arguments: The two operands, by the names that the op has for them; others are not looked at.
  """
  functions = {FWD: conv3d, BWD_D: conv3d_backprop_input, BWD_W: conv3d_backprop_filter}
  operands = (arguments[name] for name in case.direction.operands)
  return functions[case.direction](case, *operands)


def usual_norm(case: Case, arguments: dict[str, Any]) -> float:
  """Returns the 2-norm of the exact result in the root mean square over all signs of the operands.

  With signs drawn at random the products are uncorrelated, so their squares add up.

  Args:
    case: The `Case`.
    arguments: As for `exact`.
  """
  squares = {
    name: np.square(np.asarray(arguments[name]).astype(np.float64))
    for name in case.direction.operands
  }
  return float(np.sqrt(np.sum(exact(case, squares))))


def conv3d(case: Case, x: np.ndarray, filter: np.ndarray) -> np.ndarray:
  """Returns the convolution of `x` with `filter`, as `tf.nn.conv3d` defines it.

  Args:
    case: The `Case` that gives the geometry.
    x: The input, of shape `case.input_sizes`.
    filter: The filter, of shape `case.filter_shape`.

  Returns:
    A float64 array of shape `case.out_backprop_shape`.
  """
  x = _channels_last(case, x)
  w = _split_filter(case, filter)
  y = np.zeros((case.batch, *case.output_size, case.groups, w.shape[-1]))
  for tap, cells, positions in _taps(case):
    y[cells] += np.einsum("bdhwgi,gio->bdhwgo", x[positions], w[tap])
  return _in_format(case, y)


def conv3d_backprop_input(
  case: Case, filter: np.ndarray, out_backprop: np.ndarray
) -> np.ndarray:
  """Returns the gradient of the convolution's input.

  Args:
    case: The `Case` that gives the geometry.
    filter: The filter, of shape `case.filter_shape`.
    out_backprop: The gradient of the output, of shape `case.out_backprop_shape`.

  Returns:
    A float64 array of shape `case.input_sizes`.
  """
  dy = _channels_last(case, out_backprop)
  w = _split_filter(case, filter)
  dx = np.zeros((case.batch, *case.input_size, case.groups, w.shape[-2]))
  for tap, cells, positions in _taps(case):
    dx[positions] += np.einsum("bdhwgo,gio->bdhwgi", dy[cells], w[tap])
  return _in_format(case, dx)


def conv3d_backprop_filter(case: Case, x: np.ndarray, out_backprop: np.ndarray) -> np.ndarray:
  """Returns the gradient of the convolution's filter.

  Args:
    case: The `Case` that gives the geometry.
    x: The input, of shape `case.input_sizes`.
    out_backprop: The gradient of the output, of shape `case.out_backprop_shape`.

  Returns:
    A float64 array of shape `case.filter_shape`.
  """
  x = _channels_last(case, x)
  dy = _channels_last(case, out_backprop)
  dw = np.zeros((*case.taps, case.groups, x.shape[-1], dy.shape[-1]))
  for tap, cells, positions in _taps(case):
    dw[tap] = np.einsum("bdhwgi,bdhwgo->gio", x[positions], dy[cells])
  return np.moveaxis(dw, 3, 4).reshape(case.filter_shape)


def _taps(case: Case) -> Iterator[tuple[tuple[int, ...], _Index, _Index]]:
  """Yields each tap with the output cells and the input positions that it joins, as indices."""
  axes = [
    _axis(*sizes, case.padding)
    for sizes in zip(case.input_size, case.output_size, case.taps, case.strides, case.dilations)
  ]
  images = np.arange(case.batch)
  for tap in itertools.product(*(range(taps) for taps in case.taps)):
    joined = [axis[q] for axis, q in zip(axes, tap)]
    cells = np.ix_(images, *(cells for cells, _ in joined))
    positions = np.ix_(images, *(positions for _, positions in joined))
    yield tap, cells, positions


def _axis(
  n: int, o: int, k: int, s: int, d: int, padding: str
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns for each tap of one axis the output cells it serves and the positions it reads."""
  total_pad = max((o - 1) * s + (k - 1) * d + 1 - n, 0) if padding == "SAME" else 0
  cells = np.arange(o)
  joined = []
  for q in range(k):
    positions = cells * s + q * d - total_pad // 2
    inside = (positions >= 0) & (positions < n)
    joined.append((cells[inside], positions[inside]))
  return joined


def _channels_last(case: Case, tensor: np.ndarray) -> np.ndarray:
  """Returns batch, depth, height, width, group, channel of the group; in float64."""
  tensor = np.asarray(tensor).astype(np.float64)
  if case.data_format == "NCDHW":
    tensor = np.moveaxis(tensor, 1, -1)
  return tensor.reshape((*tensor.shape[:-1], case.groups, tensor.shape[-1] // case.groups))


def _in_format(case: Case, tensor: np.ndarray) -> np.ndarray:
  """Undoes `_channels_last`."""
  tensor = tensor.reshape((*tensor.shape[:4], tensor.shape[4] * tensor.shape[5]))
  return np.moveaxis(tensor, -1, 1) if case.data_format == "NCDHW" else tensor


def _split_filter(case: Case, filter: np.ndarray) -> np.ndarray:
  """Returns the filter as depth, height, width, group, in channel, out channel of the group."""
  filter = np.asarray(filter).astype(np.float64)
  *front, out_channels = filter.shape
  split = filter.reshape((*front, case.groups, out_channels // case.groups))
  return np.moveaxis(split, 4, 3)
