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
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, Function
from tf_conv3d_grad.problem.layout import CHANNELS_LAST, rearranged
from tf_conv3d_grad.tensorflow.environment import Environment

# Python unrolls the taps; beyond so many only a loop is sensible.
_MAX_TAPS = 343
# Without XLA runs of so few channels are copied one by one, measured 4 to 14 times slower; longer
# ones as fast.
_MAX_FEW_CHANNELS, _UNCOMPILED_FACTOR_OF_FEW = 4, 4.0
# What calling the operations takes.
_UNCOMPILED_SECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much to compute at a time.

  Attributes:
    depth: How many depth cells of the convolution's output; None for all.
    samples: How many samples, a divisor of the batch; None for all. With fewer than all depth cells
      it is one.
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
  """See above."""

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
    if math.prod(problem.taps) > _MAX_TAPS:
      return []
    plan = _plan(problem)
    inside = _cost(function, problem, plan) if problem.is_static else None
    if environment.in_xla:
      return [Offer(self, plan, False, inside)]
    found = []
    if environment.mode is not False:
      found.append(Offer(self, plan, True, inside and inside.called()))
    if environment.mode is not True:
      is_few = problem.in_channels <= _MAX_FEW_CHANNELS
      factor = _UNCOMPILED_FACTOR_OF_FEW if is_few else 1.0
      outside = inside and dataclasses.replace(
        inside, seconds=factor * inside.seconds + _UNCOMPILED_SECONDS
      )
      found.append(Offer(self, plan, False, outside))
    return found

  def untiled(self, plan: Plan) -> Plan:
    """Returns the plan that computes everything at a time."""
    del plan
    return Plan()

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    dtype = accumulation_dtype(problem.dtype)
    input = rearranged(tf.cast(input, dtype), problem.layout, CHANNELS_LAST)  # noqa: A001
    weights = _weights(problem, tf.cast(filter, dtype))
    depth, tile, is_whole = _tiling(problem, plan)
    padded = tiles.pad(input, 1, depth)

    def compute(index: tf.Tensor) -> tf.Tensor:
      window = padded
      if not is_whole:
        window = shifts.window(padded, 0, index // depth.count * tile.batch, tile.batch)
      columns = _columns(tile, tiles.read(window, 1, depth, index % depth.count))
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
      columns = _columns(tile, tiles.read(window, 1, depth, index % depth.count))
      gradient = tf.transpose(tf.reshape(gradient, [-1, groups, out]), [1, 0, 2])
      return tf.matmul(columns, gradient, transpose_a=True)

    shape = [groups, math.prod(problem.taps) * problem.filter_in_channels, out]
    count = 1 if is_whole else problem.batch // tile.batch * depth.count
    total = tiles.sum(compute, count, tf.zeros(shape, dtype))
    total = tf.reshape(total, [groups, *problem.taps, problem.filter_in_channels, out])
    total = tf.transpose(total, [1, 2, 3, 4, 0, 5])
    return tf.cast(tf.reshape(total, problem.filter_shape), problem.dtype)


def _plan(problem: Problem) -> Plan:
  """Returns the plan that holds the columns of as many samples or planes as are allowed."""
  depth, height, width = problem.axes
  if not sizes.is_known(height.output, width.output):
    return Plan()
  size = accumulation_dtype(problem.dtype).size
  plane = height.output * width.output * math.prod(problem.taps) * problem.in_channels * size
  planes = max(1, tiles.MAX_COLUMN_BYTES // max(1, plane))
  if not (sizes.is_known(depth.output) and depth.output <= planes):
    return Plan(depth=planes)
  if not sizes.is_known(problem.batch):
    return Plan()
  held = plane * depth.output
  return Plan(samples=tiles.samples_within(problem.batch, held, tiles.MAX_COLUMN_BYTES))


def _cost(function: Function, problem: Problem, plan: Plan) -> Cost:
  """Returns what a plan for a static problem is to take inside of what XLA compiles."""
  dtype = accumulation_dtype(problem.dtype)
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
    seconds += column_bytes / cost.GROUP_ROWS_RATE
  tiling, tile, is_whole = _tiling(problem, plan)
  count = 1 if is_whole else problem.batch // tile.batch * tiling.count
  return Cost(seconds + (count - 1) * cost.TILE_SECONDS, column_bytes // max(1, count))


def _tiling(problem: Problem, plan: Plan) -> tuple[tiles.Tiling, Problem, bool]:
  """Returns the tiling of the output's depth, the problem on a tile, and if that is all."""
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


def _weights(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[g, taps * filter_in_channels, out]`."""
  taps, inner, groups = math.prod(problem.taps), problem.filter_in_channels, problem.groups
  out = problem.out_channels // groups
  weights = tf.transpose(tf.reshape(filter, [taps, inner, groups, out]), [2, 0, 1, 3])
  return tf.reshape(weights, [groups, taps * inner, out])
