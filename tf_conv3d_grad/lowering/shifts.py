"""Moves one axis by whole cells. Strides, dilations and padding become index arithmetic here."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.sizes import Size


def gather(
  tensor: tf.Tensor, dimension: int, axis: Axis, in_xla: bool = False
) -> list[tf.Tensor]:
  """Reads, for every tap, the input cells that the output cells see through it.

  result[q][o] = tensor[o * stride + q * dilation - pad], zero where that is padding

  Args:
    tensor: Has `axis.input` cells along `dimension`.
    dimension: Which dimension to work on.
    axis: The axis; `taps` is known, `pad` is not negative, the lengths may be tensors.
    in_xla: Whether XLA compiles this, which reads every second cell as fast as a run of them.

  Returns:
    For each tap, a tensor with `axis.output` cells along `dimension`.
  """
  reach = axis.reach
  by_runs = sizes.is_known(axis.output) and axis.output > 1 and axis.stride > 1 and not in_xla
  if by_runs:
    reach += axis.stride - 1
  strided = _strided_by_runs if by_runs else _strided
  padded = pad(tensor, dimension, axis.pad, sizes.maximum(reach - axis.pad - axis.input, 0))
  return [
    strided(padded, dimension, tap * axis.dilation, axis.output, axis.stride)
    for tap in range(axis.taps)
  ]


def interleave(by_residue: dict[int, tf.Tensor], dimension: int, axis: Axis) -> tf.Tensor:
  """Joins the phases of a result: cell `stride * m + residue` is cell `m` of that phase.

  Args:
    by_residue: The phases, each with `ceil(axis.input / stride)` cells; those left out are zero.
    dimension: Which dimension to work on.
    axis: The axis.

  Returns:
    A tensor with `axis.input` cells along `dimension`.
  """
  if axis.stride == 1:
    return by_residue[0]
  zeros = tf.zeros_like(next(iter(by_residue.values())))
  stacked = tf.stack([by_residue.get(r, zeros) for r in range(axis.stride)], dimension + 1)
  return window(merge(stacked, dimension), dimension, 0, axis.input)


def interleave_all(
  results: dict[tuple[int, ...], tf.Tensor], axes: Sequence[tuple[int, Axis]]
) -> tf.Tensor:
  """Joins the phases along several axes, the last axis first.

  Args:
    results: The phases by their residues, one for each axis; those left out are zero.
    axes: Which dimension each axis is, and the axis.
  """
  for dimension, axis in reversed(axes):
    joined: dict[tuple[int, ...], dict[int, tf.Tensor]] = {}
    for (*outer, residue), result in results.items():
      joined.setdefault(tuple(outer), {})[residue] = result
    results = {
      outer: interleave(by_residue, dimension, axis) for outer, by_residue in joined.items()
    }
  return results[()]


def merge(tensor: tf.Tensor, dimension: int) -> tf.Tensor:
  """Returns `tensor` with one dimension and the next made into one."""
  shape = sizes.shape_of(tensor)
  merged = [*shape[:dimension], shape[dimension] * shape[dimension + 1], *shape[dimension + 2 :]]
  return tf.reshape(tensor, sizes.as_tensor(merged))


def split(tensor: tf.Tensor, dimension: int, length: int) -> tf.Tensor:
  """Returns `tensor` with one dimension made into two, the second of a length."""
  shape = sizes.shape_of(tensor)
  shape[dimension : dimension + 1] = [shape[dimension] // length, length]
  return tf.reshape(tensor, sizes.as_tensor(shape))


def refit(tensor: tf.Tensor, changes: dict[int, tuple[Size, Size]]) -> tf.Tensor:
  """Returns `tensor` with some of its dimensions moved and of other lengths.

  Args:
    tensor: The tensor, of known rank.
    changes: For each of those dimensions, two numbers: how many zeros to put in front, negative to
      cut cells off there, and the new length, to which it is cut off or padded behind.
  """
  shape = sizes.shape_of(tensor)
  windows: dict[int, tuple[Size, Size]] = {}
  paddings: dict[int, tuple[Size, Size]] = {}
  for dimension, (before, new_length) in changes.items():
    length = shape[dimension]
    first = sizes.minimum(sizes.maximum(-before, 0), length)
    front = sizes.minimum(sizes.maximum(before, 0), new_length)
    kept = sizes.minimum(length - first, new_length - front)
    windows[dimension] = first, kept
    paddings[dimension] = front, new_length - front - kept
  return _padded(_windows(tensor, windows), paddings)


def added(terms: list[tf.Tensor]) -> tf.Tensor:
  """Returns the sum of some tensors of one shape."""
  return terms[0] if len(terms) == 1 else tf.add_n(terms)


def pad(tensor: tf.Tensor, dimension: int, before: Size, after: Size) -> tf.Tensor:
  """Returns `tensor` with zeros in front of and behind the cells of one dimension."""
  return _padded(tensor, {dimension: (before, after)})


def window(tensor: tf.Tensor, dimension: int, first: Size, length: Size) -> tf.Tensor:
  """Returns `length` cells from `first` on along one dimension."""
  return _windows(tensor, {dimension: (first, length)})


def _padded(tensor: tf.Tensor, by_dimension: dict[int, tuple[Size, Size]]) -> tf.Tensor:
  """Returns `tensor` with so many zeros in front of and behind each of these dimensions."""
  known = all(sizes.is_known(*pair) for pair in by_dimension.values())
  if known and all(pair == (0, 0) for pair in by_dimension.values()):
    return tensor
  paddings: list = [[0, 0]] * tensor.shape.rank
  for dimension, pair in by_dimension.items():
    paddings[dimension] = pair
  if not known:
    paddings = tf.stack([sizes.as_tensor(pair) for pair in paddings])
  return tf.pad(tensor, paddings)


def _windows(tensor: tf.Tensor, by_dimension: dict[int, tuple[Size, Size]]) -> tf.Tensor:
  """Returns the cells from the first of a pair on, as many as the second, of these dimensions."""
  if all(sizes.is_known(*pair) for pair in by_dimension.values()):
    if all(pair == (0, tensor.shape[d]) for d, pair in by_dimension.items()):
      return tensor
    # Under XLA, `tf.slice` has no second derivative. In eager code, an index takes 0.3 ms.
    if not tf.executing_eagerly():
      index = [slice(None)] * tensor.shape.rank
      for dimension, (first, length) in by_dimension.items():
        index[dimension] = slice(first, first + length)
      return tensor[tuple(index)]
  begin: list[Size] = [0] * tensor.shape.rank
  size = sizes.shape_of(tensor)  # XLA takes -1, "up to the end", only with a beginning it knows
  for dimension, pair in by_dimension.items():
    begin[dimension], size[dimension] = pair
  return tf.slice(tensor, sizes.as_tensor(begin), sizes.as_tensor(size))


def _strided(
  tensor: tf.Tensor, dimension: int, first: Size, length: Size, stride: int
) -> tf.Tensor:
  """Returns every `stride`-th cell from `first` on, `length` of them."""
  if stride > 1:
    index = [slice(None)] * tensor.shape.rank
    index[dimension] = slice(first, None, stride)
    tensor, first = tensor[tuple(index)], 0
  return window(tensor, dimension, first, length)


def _strided_by_runs(
  tensor: tf.Tensor, dimension: int, first: Size, length: int, stride: int
) -> tf.Tensor:
  """Returns the same as `_strided`, of a tensor with `length * stride` cells from `first` on.

  TensorFlow copies strided slices element by element: 37 ms for a depthwise convolution that takes
  6 in this way.
  """
  read = split(window(tensor, dimension, first, length * stride), dimension, stride)
  return read[(*[slice(None)] * (dimension + 1), 0)]
