"""Moving one axis by whole cells: where strides, dilations and padding become index arithmetic."""

import tensorflow as tf

from tf_conv3d_grad import geometry, sizes
from tf_conv3d_grad.problem import Axis
from tf_conv3d_grad.sizes import Size


def overlap_add(per_tap: list[tf.Tensor], dimension: int, axis: Axis) -> tf.Tensor:
  """Adds every tap's contribution to the result cells that it reaches.

  result[o * stride + q * dilation - lead] += per_tap[q][o]

  Args:
    per_tap: For each tap, a tensor with `axis.output` cells along `dimension`.
    dimension: Which dimension to work on.
    axis: The axis; `taps` and `lead` are known, its lengths may be tensors.

  Returns:
    A tensor with `axis.input` cells along `dimension`.
  """
  per_phase = -(-axis.input // axis.stride)
  return interleave(
    {
      phase.residue: _sum(
        place(per_tap[tap], dimension, axis.output, shift, per_phase)
        for tap, shift in zip(phase.taps, phase.shifts)
      )
      for phase in geometry.phases(axis.taps, axis.stride, axis.dilation, axis.lead)
    },
    dimension,
    axis,
  )


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
  shape = sizes.shape_of(stacked)
  joined = tf.reshape(
    stacked,
    sizes.as_tensor(
      [*shape[:dimension], shape[dimension] * axis.stride, *shape[dimension + 2 :]]
    ),
  )
  return window(joined, dimension, 0, axis.input)


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


def place(part: tf.Tensor, dimension: int, length: Size, shift: int, new_length: Size) -> tf.Tensor:
  """Returns `part`, of `length` cells, moved by `shift` cells on an axis of `new_length` cells."""
  if sizes.is_known(length, new_length):
    first, last = max(0, -shift), min(length, new_length - shift)
    if first >= last:
      return pad(window(part, dimension, 0, 0), dimension, 0, new_length)
    part = window(part, dimension, first, last - first)
    return pad(part, dimension, first + shift, new_length - last - shift)
  first = max(-shift, 0)
  part = pad(part, dimension, max(shift, 0), sizes.maximum(new_length - length - shift, 0))
  return window(part, dimension, first, new_length)


def pad(tensor: tf.Tensor, dimension: int, before: Size, after: Size) -> tf.Tensor:
  """Returns `tensor` with zeros in front of and behind one dimension."""
  if sizes.is_known(before, after) and before == after == 0:
    return tensor
  paddings = [sizes.as_tensor([0, 0])] * tensor.shape.rank
  paddings[dimension] = sizes.as_tensor([before, after])
  return tf.pad(tensor, tf.stack(paddings))


def window(tensor: tf.Tensor, dimension: int, first: Size, length: Size) -> tf.Tensor:
  """Returns `length` cells from `first` on along one dimension."""
  if sizes.is_known(first, length) and first == 0 and tensor.shape[dimension] == length:
    return tensor
  begin: list[Size] = [0] * tensor.shape.rank
  # XLA takes -1, "up to the end", only where the beginning is known.
  size = [-1 if known is None else known for known in tensor.shape.as_list()]
  begin[dimension], size[dimension] = first, length
  return tf.slice(tensor, sizes.as_tensor(begin), sizes.as_tensor(size))


def _sum(parts) -> tf.Tensor:
  first, *rest = parts
  for part in rest:
    first = first + part
  return first


def _strided(
  tensor: tf.Tensor, dimension: int, first: Size, length: Size, stride: int
) -> tf.Tensor:
  """Returns every `stride`-th cell from `first` on, `length` of them."""
  if stride > 1:
    index = [slice(None)] * tensor.shape.rank
    index[dimension] = slice(first, None, stride)
    tensor, first = tensor[tuple(index)], 0
  return window(tensor, dimension, first, length)
