"""The op's two derivatives as one matrix product each, over every cell's neighbourhood (im2col).

`conv3d` multiplies the neighbourhoods of the input by the filter, `backprop_filter` by
`out_backprop`. Works for every dtype, format, dilation and group count, compiled or not; the
numbers of taps, of channels and of groups must be known.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad import sizes
from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.overlap_add import accumulation_dtype
from tf_conv3d_grad.plan import Plan
from tf_conv3d_grad.problem import Problem, channels_last, from_channels_last

# Channels last: batch, depth, height, width, channels.
_SPATIAL = (1, 2, 3)


def conv3d(problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution itself, the op's derivative in `out_backprop`."""
  dtype = accumulation_dtype(problem.dtype)
  input = tf.cast(channels_last(input, problem.data_format), dtype)  # noqa: A001
  groups = problem.groups
  weights = _split_groups(tf.cast(filter, dtype), groups)  # [taps, in, g, out]
  inner = math.prod(problem.taps) * problem.filter_in_channels
  weights = tf.reshape(
    tf.transpose(weights, [2, 0, 1, 3]), [groups, inner, problem.out_channels // groups]
  )
  depth, piece, whole = _output_tiles(problem, plan)
  padded = tiles.pad(input, 1, depth)

  def compute(index: tf.Tensor) -> tf.Tensor:
    window = padded
    if not whole:
      window = shifts.window(padded, 0, index // depth.pieces * piece.batch, piece.batch)
    columns = _columns(piece, tiles.read(window, 1, depth, index % depth.pieces))
    product = tf.transpose(tf.matmul(columns, weights), [1, 0, 2])  # [M, g, out]
    shape = [piece.batch, *(axis.output for axis in piece.axes), problem.out_channels]
    return tf.cast(tf.reshape(product, sizes.as_tensor(shape)), problem.dtype)

  if whole:
    result = compute(0)
  else:
    count = problem.batch // piece.batch * depth.pieces
    result = tiles.map_pieces(compute, count, problem.dtype)
    planes = depth.pieces * depth.axis.output
    shape = [problem.batch, planes, *(a.output for a in problem.axes[1:]), problem.out_channels]
    result = tf.reshape(result, sizes.as_tensor(shape))
    result = shifts.window(result, 1, 0, problem.axes[0].output)
  return from_channels_last(result, problem.data_format)


def backprop_filter(
  problem: Problem,
  plan: Plan,
  input: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its filter, the op's derivative in `filter`."""
  dtype = accumulation_dtype(problem.dtype)
  groups, out = problem.groups, problem.out_channels // problem.groups
  input, out_backprop = (  # noqa: A001
    tf.cast(channels_last(tensor, problem.data_format), dtype) for tensor in (input, out_backprop)
  )
  depth, piece, whole = _output_tiles(problem, plan)
  padded = tiles.pad(input, 1, depth)
  missing = depth.pieces * depth.axis.output - problem.axes[0].output
  out_backprop = shifts.pad(out_backprop, 1, 0, 0 if depth.is_whole else missing)

  def compute(index: tf.Tensor) -> tf.Tensor:
    window, gradient = padded, out_backprop
    if not whole:
      sample = index // depth.pieces * piece.batch
      window = shifts.window(padded, 0, sample, piece.batch)
      gradient = shifts.window(out_backprop, 0, sample, piece.batch)
      first = sizes.cast(index % depth.pieces) * depth.axis.output
      gradient = shifts.window(gradient, 1, first, depth.axis.output)
    columns = _columns(piece, tiles.read(window, 1, depth, index % depth.pieces))
    gradient = tf.transpose(tf.reshape(gradient, [-1, groups, out]), [1, 0, 2])
    return tf.matmul(columns, gradient, transpose_a=True)

  shape = [groups, math.prod(problem.taps) * problem.filter_in_channels, out]
  count = 1 if whole else problem.batch // piece.batch * depth.pieces
  total = tiles.sum_pieces(compute, count, tf.zeros(shape, dtype))
  total = tf.reshape(total, [groups, *problem.taps, problem.filter_in_channels, out])
  total = tf.transpose(total, [1, 2, 3, 4, 0, 5])
  return tf.cast(tf.reshape(total, problem.filter_shape), problem.dtype)


def _output_tiles(problem: Problem, plan: Plan) -> tuple[tiles.Tiling, Problem, bool]:
  """Returns the tiling of the convolution's output, the problem on a piece, and if that is all."""
  depth = tiles.of_output(problem.axes[0], plan.tile[0])
  piece = problem.replace(axes=(depth.axis, *problem.axes[1:]))
  if depth.is_whole and plan.samples is None:
    return depth, piece, True
  samples = plan.samples if depth.is_whole and plan.samples is not None else 1
  return depth, piece.replace(batch=samples), False


def _columns(problem: Problem, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns every output cell's neighbourhood in the input, `[g, M, taps * filter_in_channels]`."""
  columns, taps = input, math.prod(problem.taps)
  for a in range(3):  # axis by axis, and stacked: see `overlap_add._gathered`
    columns = tf.stack(shifts.gather(columns, _SPATIAL[a], problem.axes[a]), axis=-2)
  groups, inner = problem.groups, problem.filter_in_channels
  columns = tf.reshape(columns, [-1, taps, groups, inner])
  return tf.reshape(tf.transpose(columns, [2, 0, 1, 3]), [groups, -1, taps * inner])


def _split_groups(filter: tf.Tensor, groups: int) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[taps, in, groups, out]`."""
  *taps, inner, out = filter.shape.as_list()
  return tf.reshape(filter, [math.prod(taps), inner, groups, out // groups])
