"""The gradient in the filter, as a convolution of the input with `out_backprop` for a filter.

oneDNN's own gradient in the filter cannot be called inside of XLA. But with the roles of batch and
channels exchanged, in `sum over o of x[o * stride + q * dilation - pad] . y[o]` the cells `o` are
taps, `stride` is the dilation and `dilation` the stride: a convolution of large filter and small
result. The dimensions only have other names, nothing is transposed.

oneDNN is fast at it up to some thousand cells of one sample; beyond, the sum is taken piece by
piece.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.xla_onednn import call
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import NDHWC, OF_FILTER, Layout
from tf_conv3d_grad.problem.sizes import Size

# Cells of `out_backprop` to give oneDNN at a time. 32^3 cells of 32 and 64 channels: 139 ms at
# once, 93 to 95 by 2,000 or 4,000.
_CELLS = 4096
# Out channels of a group below which several groups are computed as one, whose filter has all of
# their products: 8x16^2 cells, 128 channels in 32 groups take 478 ms by 4 and 27 by 16 channels. Of
# depthwise groups oneDNN has kernels.
_LEAST_OUT = 16


def backprop_filter(
  problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient of the convolution in its filter."""
  larger = joined(problem)
  return _of_groups(_sum(larger, plan, input, out_backprop), problem, larger)


def _sum(
  problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient, added up piece by piece."""
  layout = problem.layout
  input, out_backprop = (  # noqa: A001
    call.at_least_one_sample(tf.cast(tensor, plan.dtype), problem)
    for tensor in (input, out_backprop)
  )
  depth = tiles.of_output(problem.axes[0], plan.depth)
  samples = plan.samples or problem.batch
  convolution = as_convolution(problem, plan)
  plane = layout.spatial[0]
  if not depth.is_whole:
    input = tiles.pad(input, plane, depth)  # noqa: A001
    missing = depth.count * depth.axis.output - problem.axes[0].output
    out_backprop = shifts.pad(out_backprop, plane, 0, missing)

  def compute(sample: Size, tile: Size) -> tf.Tensor:
    window = shifts.window(input, layout.batch, sample, samples)
    window = tiles.read(window, plane, depth, tile)
    gradient = shifts.window(out_backprop, layout.batch, sample, samples)
    planes = depth.axis.output
    gradient = shifts.window(gradient, plane, tile * planes, planes)
    return _of_piece(problem, convolution, window, gradient)

  batch, zero = sizes.maximum(problem.batch, 1), tf.zeros(problem.filter_shape, plan.dtype)
  total = tiles.sum_of_parts(compute, batch, plan.samples, depth, zero)
  return tf.cast(total, problem.dtype)


def planned(problem: Problem) -> Plan:
  """Returns a plan of pieces that oneDNN is fast at; of the problem the batch may be unknown.

  In bfloat16 oneDNN takes twice as long: 32^3 cells of 32 and 64 channels 142 and 93 ms.
  """
  dtype = tf.float32
  cells = math.prod(axis.output for axis in problem.axes)
  planes = problem.axes[0].output
  if cells > _CELLS and planes > 1:
    most = max(1, _CELLS * planes // cells)
    return Plan(dtype, depth=tiles.even(planes, most), samples=1)
  if sizes.is_known(problem.batch) and (problem.batch == 1 or problem.groups == 1):
    return Plan(dtype, samples=tiles.samples_within(problem.batch, cells, _CELLS))
  return Plan(dtype, samples=1)


def joined(problem: Problem) -> Problem:
  """Returns a problem of fewer and larger groups, of whose filter a part is wanted."""
  out = problem.out_channels // problem.groups
  if problem.groups == 1 or problem.filter_in_channels == out == 1:
    return problem
  sizes_of_one = (n for n in range(1, problem.groups + 1) if problem.groups % n == 0)
  several = next(n for n in sizes_of_one if n * out >= _LEAST_OUT or n == problem.groups)
  return problem.replace(filter_in_channels=several * problem.filter_in_channels)


def as_convolution(problem: Problem, plan: Plan) -> Problem:
  """Returns the convolution that the gradient of one piece is."""
  problem = joined(problem)
  depth = tiles.of_output(problem.axes[0], plan.depth)
  axes = [_exchanged(axis) for axis in (depth.axis, *problem.axes[1:])]
  samples = plan.samples or problem.batch
  return problem.replace(
    batch=problem.filter_in_channels,
    axes=(axes[0], axes[1], axes[2]),
    in_channels=samples * problem.groups,
    filter_in_channels=samples,
  )


def _of_groups(result: tf.Tensor, problem: Problem, larger: Problem) -> tf.Tensor:
  """Returns what belongs to a problem's own groups of the gradient of a joined one."""
  if larger == problem:
    return result
  groups, inner = larger.groups, problem.filter_in_channels
  several, out = problem.groups // groups, problem.out_channels // problem.groups
  split = tf.reshape(result, [-1, several, inner, groups, several, out])
  own = tf.stack([split[:, group, :, :, group] for group in range(several)], axis=3)
  return tf.reshape(own, problem.filter_shape)


def _exchanged(axis: Axis) -> Axis:
  return Axis(axis.input, axis.taps, axis.output, axis.dilation, axis.stride, axis.pad)


def _of_piece(
  problem: Problem, convolution: Problem, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient of a piece, as a convolution."""
  batch, spatial, channels = problem.layout
  of_input = Layout(batch=channels, spatial=spatial, channels=batch)
  if problem.groups > 1:  # of one sample, in whose place the groups are
    lengths = [axis.input for axis in convolution.axes]
    if problem.data_format == NDHWC:
      split = tf.reshape(input, [*lengths, problem.groups, problem.filter_in_channels])
      input = tf.transpose(split, [3, 0, 1, 2, 4])  # noqa: A001
    else:
      shape = [problem.groups, problem.filter_in_channels, *lengths]
      input = tf.reshape(input, shape)  # noqa: A001
      of_input = Layout(batch=1, spatial=spatial, channels=0)
  return call.convolution(convolution, (of_input, problem.layout, OF_FILTER), out_backprop, input)
