"""The convolution and its gradient in the filter, as one matrix product each.

`conv3d` multiplies every output cell's neighbourhood in the input by the filter, `backprop_filter`
by `out_backprop`. Works for every dtype, format, dilation and group count, compiled or not; the
numbers of taps, of channels and of groups must be known.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.lowering import cost, shifts, tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.problem.layout import CHANNELS_LAST, rearranged
from tf_conv3d_grad.tensorflow.environment import Environment

# Python unrolls the taps. Beyond so many, only a loop is sensible.
_MAX_TAPS = 343
# Without XLA, runs of up to so many channels are copied one by one: measured 4 to 14 times slower.
# Longer runs are as fast.
_MAX_FEW_CHANNELS, _UNCOMPILED_FACTOR_OF_FEW = 4, 4.0
# Seconds of calling the operations, and of one more of them.
_UNCOMPILED_SECONDS = 1e-3
_OPERATION_SECONDS = 30e-6
# The in channels of a group at which putting its columns in order is half as fast as for wide ones.
_GROUP_RUN = 24
# Products a second taken cell by cell in float32, compiled and uncompiled. How many times as long
# the uncompiled ones take with strides, and with several out channels for each in channel.
_CELLWISE_RATE = {CONV3D: 5e9, BACKPROP_FILTER: 0.75e9}
_UNCOMPILED_CELLWISE_RATE = {CONV3D: 0.75e9, BACKPROP_FILTER: 1.15e9}
_UNCOMPILED_STRIDED_FACTOR, _UNCOMPILED_SEVERAL_FACTOR = 10.0, 3.0
# How many bytes of cells to hold at a time where products are taken cell by cell.
_CELLWISE_BYTES = 8 << 20
# Where a filter spans more cells than this, and more times the input, padding is most of the work.
_MAX_PADDED, _MAX_PADDED_FACTOR = 64, 8


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much to compute at a time.

  Attributes:
    depth: How many depth cells of the convolution's output; None for all.
    samples: How many samples, a divisor of the batch; None for all. It is 1 with fewer than all
      depth cells.
  """

  depth: int | None = None
  samples: int | None = None

  def fields(self) -> dict:
    """Returns what names this plan in files, in JSON's types; not to be worded anew."""
    return dataclasses.asdict(self)

  def __str__(self) -> str:
    tiled = "" if self.depth is None else f"tiles of {self.depth}"
    by_samples = "" if self.samples is None else f"samples by {self.samples}"
    return ", ".join(part for part in (tiled, by_samples) if part)


class Im2col(Lowering):
  """Matrix products of neighbourhoods of the input."""

  name = "im2col"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns one plan: the largest tiles that memory allows; compiled, uncompiled or both."""
    known = sizes.is_known(
      *problem.taps,
      problem.in_channels,
      problem.filter_in_channels,
      problem.out_channels,
      *(axis.pad for axis in problem.axes),
    )
    if function is BACKPROP_INPUT or environment.device == "GPU" or not known:
      return []
    if math.prod(problem.taps) > _MAX_TAPS or _pads_much(problem):
      return []
    plan = _plan(problem)
    inside = _cost(function, problem, plan) if problem.is_static else None
    if environment.in_xla:
      return [Offer(self, plan, False, inside)]
    found = []
    if environment.mode is not False:
      found.append(Offer(self, plan, True, inside and inside.called()))
    if environment.mode is not True:
      outside = inside and _uncompiled_cost(function, problem, inside)
      found.append(Offer(self, plan, False, outside))
    return found

  def untiled(self, plan: Plan) -> Plan:
    """Returns the plan that computes everything at once."""
    del plan
    return Plan()

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    dtype = accumulation_dtype(problem.dtype)
    input = rearranged(tf.cast(input, dtype), problem.layout, CHANNELS_LAST)  # noqa: A001
    weights = _weights(problem, tf.cast(filter, dtype))
    if problem.is_depthwise:
      problem, input = _padded(problem, input)  # noqa: A001
    depth, tile, is_whole = _tiling(problem, plan)
    padded = tiles.pad(input, 1, depth)

    def compute(index: tf.Tensor) -> tf.Tensor:
      window = padded
      if not is_whole:
        window = shifts.window(padded, 0, index // depth.count * tile.batch, tile.batch)
      window = tiles.read(window, 1, depth, index % depth.count)
      if problem.is_depthwise:
        return tf.cast(_cellwise(tile, window, weights), problem.dtype)
      columns = _columns(tile, window)
      product = tf.transpose(tf.matmul(columns, weights), [1, 0, 2])  # [M, g, out]
      shape = [tile.batch, *(axis.output for axis in tile.axes), problem.out_channels]
      return tf.cast(tf.reshape(product, sizes.as_tensor(shape)), problem.dtype)

    if is_whole:
      result = compute(0)
    else:
      count = problem.batch // tile.batch * depth.count
      result = tiles.map(compute, count, problem.dtype)
      planes = depth.count * depth.axis.output
      shape = [problem.batch, planes, *(a.output for a in problem.axes[1:]), problem.out_channels]
      result = tf.reshape(result, sizes.as_tensor(shape))
      result = shifts.window(result, 1, 0, problem.axes[0].output)
    return rearranged(result, CHANNELS_LAST, problem.layout)

  def backprop_filter(
    self, problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its filter."""
    dtype = accumulation_dtype(problem.dtype)
    groups, out = problem.groups, problem.out_channels // problem.groups
    input, out_backprop = (  # noqa: A001
      rearranged(tf.cast(tensor, dtype), problem.layout, CHANNELS_LAST)
      for tensor in (input, out_backprop)
    )
    if problem.is_depthwise:
      problem, input = _padded(problem, input)  # noqa: A001
    depth, tile, is_whole = _tiling(problem, plan)
    padded = tiles.pad(input, 1, depth)
    missing = depth.count * depth.axis.output - problem.axes[0].output
    out_backprop = shifts.pad(out_backprop, 1, 0, 0 if depth.is_whole else missing)

    def compute(index: tf.Tensor) -> tf.Tensor:
      window, gradient = padded, out_backprop
      if not is_whole:
        sample = index // depth.count * tile.batch
        window = shifts.window(padded, 0, sample, tile.batch)
        gradient = shifts.window(out_backprop, 0, sample, tile.batch)
        first = sizes.cast(index % depth.count) * depth.axis.output
        gradient = shifts.window(gradient, 1, first, depth.axis.output)
      window = tiles.read(window, 1, depth, index % depth.count)
      if problem.is_depthwise:
        return _cellwise_backprop_filter(tile, window, gradient)
      columns = _columns(tile, window)
      gradient = tf.transpose(tf.reshape(gradient, [-1, groups, out]), [1, 0, 2])
      return tf.matmul(columns, gradient, transpose_a=True)

    shape = [groups, math.prod(problem.taps) * problem.filter_in_channels, out]
    count = 1 if is_whole else problem.batch // tile.batch * depth.count
    total = tiles.sum(compute, count, tf.zeros(shape, dtype))
    total = tf.reshape(total, [groups, *problem.taps, problem.filter_in_channels, out])
    total = tf.transpose(total, [1, 2, 3, 4, 0, 5])
    return tf.cast(tf.reshape(total, problem.filter_shape), problem.dtype)


def _pads_much(problem: Problem) -> bool:
  """Returns whether most of what is held would be padding, as with a dilation of millions."""
  for axis in problem.axes:
    extent = geometry.extent(axis.taps, axis.dilation)
    cells = axis.input if sizes.is_known(axis.input) else _MAX_PADDED
    if extent > _MAX_PADDED + _MAX_PADDED_FACTOR * cells:
      return True
  return False


def _plan(problem: Problem) -> Plan:
  """Returns the plan that holds the columns of as many samples or planes as are allowed."""
  depth, height, width = problem.axes
  if not sizes.is_known(height.output, width.output):
    return Plan()
  size = accumulation_dtype(problem.dtype).size
  plane, budget = height.output * width.output * size, tiles.MAX_COLUMN_BYTES
  if problem.is_depthwise:
    plane, budget = plane * problem.out_channels, _CELLWISE_BYTES
  else:
    plane *= math.prod(problem.taps) * problem.in_channels
  planes = max(1, budget // max(1, plane))
  if not (sizes.is_known(depth.output) and depth.output <= planes):
    return Plan(depth=planes)
  if not sizes.is_known(problem.batch):
    return Plan()
  held = plane * depth.output
  return Plan(samples=tiles.samples_within(problem.batch, held, budget))


def _cost(function: Function, problem: Problem, plan: Plan) -> Cost:
  """Returns how long a plan for a static problem should take inside of XLA."""
  dtype = accumulation_dtype(problem.dtype)
  if problem.is_depthwise:
    products = cost.flops(problem) / 2
    return Cost(products / _CELLWISE_RATE[function] * dtype.size / 4, 0)
  groups, inner = problem.groups, max(1, problem.filter_in_channels)
  out = max(1, problem.out_channels // groups)
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  neighbourhood = math.prod(problem.taps) * inner
  depth = cells if function is BACKPROP_FILTER else neighbourhood  # what the product contracts
  rate = cost.PRODUCT_RATE[dtype] * cost.efficiency(depth) * cost.efficiency(out)
  column_bytes = dtype.size * cells * neighbourhood * groups
  run = min(1.0, (inner * groups + 2) / (cost.GATHER_RUN + 2))
  seconds = cost.flops(problem) / rate + column_bytes / (cost.GATHER_RATE * run)
  if groups > 1:
    seconds += column_bytes / (cost.GROUP_ROWS_RATE * cost.efficiency(inner, _GROUP_RUN))
  tiling, tile, is_whole = _tiling(problem, plan)
  count = 1 if is_whole else problem.batch // tile.batch * tiling.count
  return Cost(seconds + (count - 1) * cost.TILE_SECONDS, column_bytes // max(1, count))


def _uncompiled_cost(function: Function, problem: Problem, inside: Cost) -> Cost:
  """Returns how long a static problem should take without XLA, from its cost inside of it."""
  if problem.is_depthwise:
    factor = _CELLWISE_RATE[function] / _UNCOMPILED_CELLWISE_RATE[function]
    if max(problem.strides) > 1:
      factor *= _UNCOMPILED_STRIDED_FACTOR
    if problem.out_channels > problem.groups:
      factor *= _UNCOMPILED_SEVERAL_FACTOR
    seconds = factor * inside.seconds + _OPERATION_SECONDS * 3 * math.prod(problem.taps)
    return dataclasses.replace(inside, seconds=seconds)
  factor = _UNCOMPILED_FACTOR_OF_FEW if problem.in_channels <= _MAX_FEW_CHANNELS else 1.0
  return dataclasses.replace(inside, seconds=factor * inside.seconds + _UNCOMPILED_SECONDS)


def _tiling(problem: Problem, plan: Plan) -> tuple[tiles.Tiling, Problem, bool]:
  """Returns the tiling of the output's depth, the problem on a tile, and whether that is all."""
  depth = tiles.of_output(problem.axes[0], plan.depth)
  tile = problem.replace(axes=(depth.axis, *problem.axes[1:]))
  if depth.is_whole and plan.samples is None:
    return depth, tile, True
  samples = plan.samples if depth.is_whole and plan.samples is not None else 1
  return depth, tile.replace(batch=samples), False


def _columns(problem: Problem, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns every output cell's neighbourhood in the input, `[g, M, taps * filter_in_channels]`."""
  columns, taps = input, math.prod(problem.taps)
  # Axis by axis, and stacked: see `overlap_add.columns`.
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    columns = tf.stack(shifts.gather(columns, dimension, axis), axis=-2)
  groups, inner = problem.groups, problem.filter_in_channels
  columns = tf.reshape(columns, [-1, taps, groups, inner])
  return tf.reshape(tf.transpose(columns, [2, 0, 1, 3]), [groups, -1, taps * inner])


def _padded(problem: Problem, input: tf.Tensor) -> tuple[Problem, tf.Tensor]:  # noqa: A002
  """Returns a problem of the same output without padding, and its input.

  Padding each tile anew would make XLA compute it cell by cell, with a test for each.
  """
  changes, axes = {}, []
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    reach = sizes.maximum(axis.output - 1, 0) * axis.stride
    length = reach + geometry.extent(axis.taps, axis.dilation)
    changes[dimension] = axis.pad, length
    axes.append(dataclasses.replace(axis, input=length, pad=0))
  depth, height, width = axes
  return problem.replace(axes=(depth, height, width)), shifts.refit(input, changes)


def _windows(problem: Problem, input: tf.Tensor) -> list[tf.Tensor]:  # noqa: A002
  """Returns what every output cell sees through each tap, `[batch, D, H, W, g, 1]`."""
  windows = [input]
  for dimension, axis in zip(CHANNELS_LAST.spatial, problem.axes):
    windows = [each for window in windows for each in shifts.gather(window, dimension, axis)]
  if problem.out_channels == problem.groups:
    return windows
  return [window[..., tf.newaxis] for window in windows]


def _cellwise(problem: Problem, input: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution of a depthwise problem: scaled windows, added up.

  A matrix product for each group, with few columns, would take 10 times as long.
  """
  by_tap = tf.transpose(weights, [1, 0, 2])  # [taps, g, out]
  if problem.out_channels == problem.groups:
    by_tap = by_tap[..., 0]
  windows = _windows(problem, input)
  result = shifts.added([window * by_tap[tap] for tap, window in enumerate(windows)])
  shape = [problem.batch, *(axis.output for axis in problem.axes), problem.out_channels]
  return tf.reshape(result, sizes.as_tensor(shape))


def _cellwise_backprop_filter(
  problem: Problem, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient in the filter of a depthwise problem, `[g, taps, out]`."""
  groups, out = problem.groups, problem.out_channels // problem.groups
  if out > 1:
    lengths = [axis.output for axis in problem.axes]
    shape = [problem.batch, *lengths, groups, out]
    out_backprop = tf.reshape(out_backprop, sizes.as_tensor(shape))
  sums = [tf.reduce_sum(each * out_backprop, [0, 1, 2, 3]) for each in _windows(problem, input)]
  return tf.reshape(tf.stack(sums, axis=1), [groups, -1, out])


def _weights(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[g, taps * filter_in_channels, out]`."""
  taps, inner, groups = math.prod(problem.taps), problem.filter_in_channels, problem.groups
  out = problem.out_channels // groups
  weights = tf.transpose(tf.reshape(filter, [taps, inner, groups, out]), [2, 0, 1, 3])
  return tf.reshape(weights, [groups, taps * inner, out])
