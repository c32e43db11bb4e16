"""Depthwise problems, cell by cell: windows of the input, scaled or added up.

A matrix product for each group, with few columns, would take 10 times as long.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.im2col.plan import Plan, tiled
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_LAST
from tf_conv3d_grad.problem.sizes import Size


def conv3d(
  problem: Problem, input: tf.Tensor, weights: tf.Tensor, in_xla: bool  # noqa: A002
) -> tf.Tensor:
  """Returns the convolution of a depthwise problem: scaled windows, added up."""
  by_tap = tf.transpose(weights, [1, 0, 2])  # [taps, g, out]
  if problem.out_channels == problem.groups:
    by_tap = by_tap[..., 0]
  windows = _windows(problem, input, in_xla)
  result = shifts.added([window * by_tap[tap] for tap, window in enumerate(windows)])
  shape = [problem.batch, *(axis.output for axis in problem.axes), problem.out_channels]
  return tf.reshape(result, sizes.as_tensor(shape))


def backprop_filter(
  problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient in the filter of a depthwise problem, `[g, taps, out]`."""
  problem, input = without_padding(problem, input)  # noqa: A001
  depth, samples, part = tiled(problem, plan)
  padded = tiles.pad(input, 1, depth)
  missing = depth.count * depth.axis.output - problem.axes[0].output
  out_backprop = shifts.pad(out_backprop, 1, 0, 0 if depth.is_whole else missing)

  def compute(sample: Size, tile: Size) -> tf.Tensor:
    window = shifts.window(padded, 0, sample, part.batch)
    window = tiles.read(window, 1, depth, tile)
    gradient = shifts.window(out_backprop, 0, sample, part.batch)
    planes = depth.axis.output
    return _of_part(part, window, shifts.window(gradient, 1, tile * planes, planes), plan.in_xla)

  shape = [problem.groups, math.prod(problem.taps), problem.out_channels // problem.groups]
  zero = tf.zeros(shape, input.dtype)
  return tiles.sum_of_parts(compute, problem.batch, samples, depth, zero)


def without_padding(problem: Problem, input: tf.Tensor) -> tuple[Problem, tf.Tensor]:  # noqa: A002
  """Returns a problem of the same output without padding, and its input.

  Padding each tile anew would make XLA compute it cell by cell, with a test for each.
  """
  changes, axes = {}, []
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    changes[dimension] = axis.pad, axis.reach
    axes.append(dataclasses.replace(axis, input=axis.reach, pad=0))
  depth, height, width = axes
  return problem.replace(axes=(depth, height, width)), shifts.refit(input, changes)


def _of_part(
  problem: Problem, input: tf.Tensor, out_backprop: tf.Tensor, in_xla: bool  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient in the filter of a depthwise problem, `[g, taps, out]`."""
  groups, out = problem.groups, problem.out_channels // problem.groups
  if out > 1:
    lengths = [axis.output for axis in problem.axes]
    shape = [problem.batch, *lengths, groups, out]
    out_backprop = tf.reshape(out_backprop, sizes.as_tensor(shape))
  windows = _windows(problem, input, in_xla)
  sums = [tf.reduce_sum(window * out_backprop, [0, 1, 2, 3]) for window in windows]
  return tf.reshape(tf.stack(sums, axis=1), [groups, -1, out])


def _windows(
  problem: Problem, input: tf.Tensor, in_xla: bool  # noqa: A002
) -> list[tf.Tensor]:
  """Returns what every output cell sees through each tap, `[batch, D, H, W, g, 1]`."""
  windows = [input]
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    windows = [
      each for window in windows for each in shifts.gather(window, dimension, axis, in_xla)
    ]
  if problem.out_channels == problem.groups:
    return windows
  return [window[..., tf.newaxis] for window in windows]
