"""The gradient in the filter, as products of neighbourhoods in the input and `out_backprop`.

Columns are held channels first: a row of them is what all cells see through one tap, in one
channel. So rows are copied as runs of cells, and the product takes columns as they are. With the
neighbourhoods as rows, the product would transpose them first: 24^3 cells of 48 channels took 43 to
120 ms instead of 17 to 35.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.im2col.plan import Plan, tiled
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_LAST
from tf_conv3d_grad.problem.sizes import Size


def backprop_filter(
  problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient in the filter, `[g, taps * inner, out]`, of tensors channels last."""
  first, second, third = map(_without_idle_stride, problem.axes)
  problem = problem.replace(axes=(first, second, third))
  depth, samples, part = tiled(problem, plan)
  groups, out = problem.groups, problem.out_channels // problem.groups
  rows = math.prod(problem.taps) * problem.filter_in_channels
  planes = depth.axis.output
  whole = dataclasses.replace(depth.axis, pad=problem.axes[0].pad, output=depth.count * planes)
  phases = _phases(problem.replace(axes=(whole, *problem.axes[1:])), input)
  out_backprop = shifts.pad(out_backprop, 1, 0, whole.output - problem.axes[0].output)
  shape = [*sizes.shape_of(out_backprop)[:4], groups, out]
  split = tf.reshape(out_backprop, sizes.as_tensor(shape))
  gradients = tf.transpose(split, [4, 0, 1, 2, 3, 5])

  def compute(sample: Size, tile: Size) -> tf.Tensor:
    plane, stride = tile * planes, depth.axis.stride
    window = shifts.window(phases, 3, sample, part.batch)
    window = shifts.window(window, 4, plane * stride, _cells(depth.axis) * stride)
    gradient = shifts.window(gradients, 1, sample, part.batch)
    gradient = shifts.window(gradient, 2, plane, planes)
    columns = tf.reshape(_columns(part, window), [groups, rows, -1])
    return tf.matmul(columns, tf.reshape(gradient, [groups, -1, out]))

  zero = tf.zeros([groups, rows, out], input.dtype)
  return tiles.sum_of_parts(compute, problem.batch, samples, depth, zero)


def of_one_tap(problem: Problem, input: tf.Tensor, out_backprop: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the gradient in a pointwise filter, `[in, out]`, of tensors in the problem's layout.

  It is one product of them as they are.
  """
  is_last = problem.layout == CHANNELS_LAST
  is_single = sizes.is_known(problem.batch) and problem.batch == 1

  def matrix(tensor: tf.Tensor) -> tf.Tensor:
    batch, lengths, channels = problem.layout.split(sizes.shape_of(tensor))
    cells = math.prod(lengths)
    if is_last:
      shape = [batch * cells, channels]
    else:
      shape = [channels, cells] if is_single else [batch, channels, cells]
    return tf.reshape(tensor, sizes.as_tensor(shape))

  product = tf.matmul(
    matrix(input), matrix(out_backprop), transpose_a=is_last, transpose_b=not is_last
  )
  return product if is_last or is_single else tf.reduce_sum(product, 0)


def _without_idle_stride(axis: Axis) -> Axis:
  """Returns an axis without the stride of a single cell, whose phases would be mostly padding."""
  if sizes.is_known(axis.output) and axis.output == 1:
    return dataclasses.replace(axis, stride=1)
  return axis


def _phases(problem: Problem, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the padded input, `[g, phases of width, inner, batch, D, H, W of a phase]`."""
  lengths = [_cells(axis) for axis in problem.axes]
  padded = shifts.refit(input, {
    dimension: (axis.pad, length * axis.stride)
    for dimension, axis, length in zip(CHANNELS_LAST.spatial, problem.axes, lengths)
  })  # fmt: skip
  shape = [*sizes.shape_of(padded)[:3], lengths[2], problem.axes[2].stride]
  shape += [problem.groups, problem.filter_in_channels]
  return tf.transpose(tf.reshape(padded, sizes.as_tensor(shape)), [5, 4, 6, 0, 1, 2, 3])


def _columns(problem: Problem, phases: tf.Tensor) -> tf.Tensor:
  """Returns every output cell's neighbourhood, `[g, taps * inner, cells]` but for its shape.

  Args:
    problem: A tile of the problem.
    phases: The part of `_phases` that it reads.
  """
  depth, height, width = problem.axes
  groups, batch = problem.groups, problem.batch
  # Width first: its runs are short, and its cells are the fewest now.
  columns = _seen(phases, 1, 6, width)
  lengths = [*sizes.shape_of(phases)[4:6], width.output]
  for place, dimension, axis in ((1, 4, height), (0, 3, depth)):
    before, after = lengths[:place], lengths[place + 1 :]
    split = [groups, -1, batch, *before, _cells(axis), axis.stride, *after]
    columns = _seen(tf.reshape(columns, sizes.as_tensor(split)), dimension + 1, dimension, axis)
    lengths[place] = axis.output
  return columns


def _seen(tensor: tf.Tensor, phases: int, cells: int, axis: Axis) -> tf.Tensor:
  """Returns what the output cells see along an axis, all taps beside each other in dimension 1.

  Args:
    tensor: The tensor.
    phases: Which dimension the phases of the axis are.
    cells: Which dimension the cells of a phase are.
    axis: The axis.
  """
  windows = []
  for tap in range(axis.taps):
    first, phase = divmod(tap * axis.dilation, axis.stride)
    of_phase = shifts.window(tensor, phases, phase, 1)
    windows.append(shifts.window(of_phase, cells, first, axis.output))
  return tf.concat(windows, 1)


def _cells(axis: Axis) -> Size:
  """Returns how many cells of each phase of the input the output cells see."""
  return axis.output + (axis.taps - 1) * axis.dilation // axis.stride
