"""The convolution, as products of every output cell's neighbourhood and the filter."""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.im2col import cellwise
from tf_conv3d_grad.lowering.im2col.plan import Plan, tiled
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_LAST, rearranged


def conv3d(
  problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the convolution."""
  dtype = accumulation_dtype(problem.dtype)
  input = rearranged(tf.cast(input, dtype), problem.layout, CHANNELS_LAST)  # noqa: A001
  weights = _weights(problem, tf.cast(filter, dtype))
  if problem.is_depthwise:
    problem, input = cellwise.without_padding(problem, input)  # noqa: A001
  depth, samples, part = tiled(problem, plan)
  padded = tiles.pad(input, 1, depth)

  def compute(index: tf.Tensor) -> tf.Tensor:
    window = padded
    if samples is not None:
      window = shifts.window(padded, 0, index // depth.count * samples, samples)
    window = tiles.read(window, 1, depth, index % depth.count)
    if problem.is_depthwise:
      return tf.cast(cellwise.conv3d(part, window, weights, plan.in_xla), problem.dtype)
    columns = _columns(part, window, plan.in_xla)
    product = tf.transpose(tf.matmul(columns, weights), [1, 0, 2])  # [M, g, out]
    shape = [part.batch, *(axis.output for axis in part.axes), problem.out_channels]
    return tf.cast(tf.reshape(product, sizes.as_tensor(shape)), problem.dtype)

  if samples is None:
    result = compute(0)
  else:
    count = tiles.parts(problem.batch, samples, depth)
    result = tiles.map(compute, count, problem.dtype)
    planes = depth.count * depth.axis.output
    shape = [problem.batch, planes, *(a.output for a in problem.axes[1:]), problem.out_channels]
    result = tf.reshape(result, sizes.as_tensor(shape))
    result = shifts.window(result, 1, 0, problem.axes[0].output)
  return rearranged(result, CHANNELS_LAST, problem.layout)


def _columns(problem: Problem, input: tf.Tensor, in_xla: bool) -> tf.Tensor:  # noqa: A002
  """Returns every output cell's neighbourhood in the input, `[g, M, taps * filter_in_channels]`."""
  columns, taps = input, math.prod(problem.taps)
  # Axis by axis, and stacked: see `overlap_add.columns`.
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    columns = tf.stack(shifts.gather(columns, dimension, axis, in_xla), axis=-2)
  groups, inner = problem.groups, problem.filter_in_channels
  columns = tf.reshape(columns, [-1, taps, groups, inner])
  return tf.reshape(tf.transpose(columns, [2, 0, 1, 3]), [groups, -1, taps * inner])


def _weights(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[g, taps * filter_in_channels, out]`."""
  taps, inner, groups = math.prod(problem.taps), problem.filter_in_channels, problem.groups
  out = problem.out_channels // groups
  weights = tf.transpose(tf.reshape(filter, [taps, inner, groups, out]), [2, 0, 1, 3])
  return tf.reshape(weights, [groups, taps * inner, out])
