"""Moving one axis by whole cells: where strides, dilations and padding become index arithmetic."""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad import geometry, sizes
from tf_conv3d_grad.problem import Axis
from tf_conv3d_grad.sizes import Size


def gather(tensor: tf.Tensor, dimension: int, axis: Axis) -> list[tf.Tensor]:
  """Reads, for every tap, the input cells that the output cells see through it.

  result[q][o] = tensor[o * stride + q * dilation - lead], zero where that is padding

  Args:
    tensor: Has `axis.input` cells along `dimension`.
    dimension: Which dimension to work on.
    axis: The axis; `taps` is known, `lead` is not negative, the lengths may be tensors.

  Returns:
    For each tap, a tensor with `axis.output` cells along `dimension`.
  """
  reach = sizes.maximum(axis.output - 1, 0) * axis.stride
  reach = reach + geometry.extent(axis.taps, axis.dilation)
  padded = pad(tensor, dimension, axis.lead, sizes.maximum(reach - axis.lead - axis.input, 0))
  return [
    _strided(padded, dimension, tap * axis.dilation, axis.output, axis.stride)
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


def merge(tensor: tf.Tensor, dimension: int) -> tf.Tensor:
  """Returns `tensor` with one dimension and the next made into one."""
  shape = sizes.shape_of(tensor)
  merged = [*shape[:dimension], shape[dimension] * shape[dimension + 1], *shape[dimension + 2 :]]
  return tf.reshape(tensor, sizes.as_tensor(merged))


def refit(tensor: tf.Tensor, dimension: int, before: int, new_length: Size) -> tf.Tensor:
  """Returns `tensor` with `before` zeros in front, negative to cut cells off, `new_length` long."""
  (length,) = sizes.shape_of(tensor)[dimension : dimension + 1]
  after = sizes.maximum(new_length - before - length, 0)
  return window(pad(tensor, dimension, max(before, 0), after), dimension, max(-before, 0),
  new_length)


def pad(tensor: tf.Tensor, dimension: int, before: Size, after: Size) -> tf.Tensor:
  """Returns `tensor` with zeros in front of and behind one dimension."""
  if sizes.is_known(before, after) and before == after == 0:
    return tensor
  paddings: list = [[0, 0]] * tensor.shape.rank
  paddings[dimension] = [before, after]
  if not sizes.is_known(before, after):
    paddings = tf.stack([sizes.as_tensor(pair) for pair in paddings])
  return tf.pad(tensor, paddings)


def window(tensor: tf.Tensor, dimension: int, first: Size, length: Size) -> tf.Tensor:
  """Returns `length` cells from `first` on along one dimension."""
  if sizes.is_known(first, length) and first == 0 and tensor.shape[dimension] == length:
    return tensor
  if sizes.is_known(first, length):  # under XLA, `tf.slice` has no second derivative
    index = [slice(None)] * tensor.shape.rank
    index[dimension] = slice(first, first + length)
    return tensor[tuple(index)]
  begin: list[Size] = [0] * tensor.shape.rank
  size = sizes.shape_of(tensor)  # XLA takes -1, "up to the end", only with a beginning it knows
  begin[dimension], size[dimension] = first, length
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
