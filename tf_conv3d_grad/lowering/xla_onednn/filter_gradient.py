"""The gradient in the filter, as a convolution of the input with `out_backprop` for a filter.

oneDNN's own gradient in the filter cannot be called inside of XLA. But with the roles of batch and
channels exchanged, in `sum over o of x[o * stride + q * dilation - pad] . y[o]` the cells `o` are
taps, `stride` is the dilation and `dilation` the stride: a convolution of large filter and small
result. The dimensions only have other names, nothing is transposed.

Samples are channels then, over which oneDNN adds up fastest where there are some sixteen. Where the
batch has fewer, slabs of depth cells, each with its own window of the input, are channels as well.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.xla_onednn import call
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import OF_FILTER, Layout
from tf_conv3d_grad.problem.sizes import Size

# How many channels to make of samples and slabs, of groups fewer: they are gathered once more. 32^3
# cells, 32 to 64 channels take 31 ms with one channel, 28 with 8 and 16, 38 with 32; 8x28^2 cells,
# 128 channels in 32 groups 36 with one, 14 with 4, 16 with 8.
_CHANNELS, _CHANNELS_OF_GROUP = 12, 6
# Bytes of both operands to give oneDNN at a time: 64^3 cells, 32 channels take 233 ms at once, 110
# by a quarter of that.
_BYTES = 16 << 20
# Cells of `out_backprop` to give it at a time where every channel is a group of its own.
_DEPTHWISE_CELLS = 4096
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
    slabs = tiles.of_output(depth.axis, plan.slab)
    if not slabs.is_whole:
      window, gradient = _by_slabs(problem.layout, slabs, window, gradient)
    return _of_piece(problem, convolution, window, gradient)

  batch, zero = sizes.maximum(problem.batch, 1), tf.zeros(problem.filter_shape, tf.float32)
  total = tiles.sum_of_parts(compute, batch, plan.samples, depth, zero)
  return tf.cast(total, problem.dtype)


def planned(problem: Problem, dtype: tf.DType) -> Plan:
  """Returns a plan of pieces and slabs that oneDNN is fast at.

  Args:
    problem: The problem, of which at most the batch is unknown.
    dtype: What oneDNN may be given.
  """
  planes, batch = problem.axes[0].output, problem.batch
  if joined(problem).is_depthwise:
    most = _DEPTHWISE_CELLS * planes // math.prod(axis.output for axis in problem.axes)
    return Plan(tf.float32, _tile(planes, most), samples=1)
  one = problem.replace(batch=1)
  held = dtype.size * (math.prod(one.input_shape) + math.prod(one.out_backprop_shape))
  samples = tiles.samples_within(batch, held, _BYTES) if sizes.is_known(batch) else 1
  depth = _tile(planes, _BYTES * planes // held)
  slab = _slab(problem, depth or planes, samples or batch, is_even=dtype == tf.bfloat16)
  return Plan(dtype, depth, samples, slab)


def _tile(planes: int, most: int) -> int | None:
  """Returns how many depth cells to take at a time, None for all."""
  return None if most >= planes else tiles.even(planes, max(1, most))


def _slab(problem: Problem, planes: int, samples: int, is_even: bool) -> int | None:
  """Returns how many depth cells are a channel of their own; None where samples are enough."""
  axis = problem.axes[0]
  channels = _CHANNELS if joined(problem).groups == 1 else _CHANNELS_OF_GROUP
  # With so many the windows are at most three times as long as what they are cut from.
  least = -(-(geometry.extent(axis.taps, axis.dilation) - axis.stride) // (2 * axis.stride))
  wanted = min(planes, max(1, least, -(-planes * samples // channels)))

  def in_all(slab: int) -> int:
    return slab * -(-planes // slab)

  slabs = (
    slab
    for slab in range(wanted // 2 + 1, min((4 if is_even else 2) * wanted, planes) + 1)
    if not (is_even and samples * (in_all(slab) // slab) % 2)
  )
  best = min(slabs, key=lambda slab: (in_all(slab), abs(slab - wanted)), default=planes)
  return None if best == planes else best


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
  slabs = tiles.of_output(tiles.of_output(problem.axes[0], plan.depth).axis, plan.slab)
  axes = [_exchanged(axis) for axis in (slabs.axis, *problem.axes[1:])]
  samples = (plan.samples or problem.batch) * slabs.count
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


def _by_slabs(
  layout: Layout, slabs: tiles.Tiling, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the operands with slabs of depth cells for samples."""
  batch, (plane, *_), _ = layout
  missing = slabs.count * slabs.axis.output - out_backprop.shape[plane]
  out_backprop = shifts.pad(out_backprop, plane, 0, missing)
  split = tiles.windows(input, plane, slabs), shifts.split(out_backprop, plane, slabs.axis.output)
  order = [batch, plane, *(d for d in range(6) if d not in (batch, plane))]
  of_slabs, gradients = (shifts.merge(tf.transpose(each, order), batch) for each in split)
  return of_slabs, gradients


def _of_piece(
  problem: Problem, convolution: Problem, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient of a piece, as a convolution."""
  batch, spatial, channels = problem.layout
  if problem.groups > 1:  # a group's samples are its channels
    split = shifts.split(input, channels, problem.filter_in_channels)
    order = [channels, *(d for d in range(6) if d != channels)]
    input = shifts.merge(tf.transpose(split, order), batch)  # noqa: A001
  of_input = Layout(batch=channels, spatial=spatial, channels=batch)
  layouts = of_input, problem.layout, OF_FILTER
  return call.convolution(convolution, layouts, out_backprop, input, tf.float32)
