"""How long an overlap-add is expected to take, by its plan."""

from __future__ import annotations

import math

from tf_conv3d_grad.lowering import cost, tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST

# With rows channels last and columns channels first, both are transposed: gathering takes twice as
# long.
_GATHER_TRANSPOSED = 2
# Bytes a second of adding columns up. Columns larger than the cache are slower, and so are runs of
# 1 or 2 channels. Columns held channels first are rows of cells, and faster.
_SCATTER_RATE, _SCATTER_CHANNEL_RATE = 8e9, 3.4e9
_SCATTER_FIRST_RATE = 15e9
_CACHE_BYTES, _OUT_OF_CACHE_RATE = 12 << 20, 5.4e9
# Bytes a second of reading a filter; of one whose gathered taps have to be moved beside its out
# channels; and of one with groups, which is transposed.
_FILTER_RATE, _GATHERED_FILTER_RATE, _GROUPED_FILTER_RATE = 6e9, 2.2e9, 0.7e9
# Bytes a second of transposing between group-major and cell-major order: of a product's rows, and
# of its columns; and the in channels of a group at which columns are half as fast.
_GROUP_ROWS_RATE, _GROUP_COLUMNS_RATE, _GROUP_RUN = 9e9, 9e9, 8
# Seconds of one more operation.
_OPERATION = 10e-6
# Products a second of a depthwise problem, whose shifts, products and sums are one loop.
_DEPTHWISE_RATE = 5e9
# How many times as long a plan takes without XLA, and how many seconds its calls take besides.
# Every shifted column is copied before it is added: measured 1.1 to 2 times as long in graphs, 2 to
# 8 times from eager code, and 1.7 to 2.5 times in tiles. Where nothing overlaps, it is one product
# and one transposition: 1.3 to 1.8 times as long.
_GRAPH_FACTOR, _EAGER_FACTOR, _TILED_FACTOR, _UNCOMPILED_SECONDS = 1.5, 4.0, 2.4, 1.8e-3
_UNCOMPILED_CELLWISE_FACTOR, _UNCOMPILED_CELLWISE_SECONDS = 1.6, 2e-4


def of_plan(problem: Problem, plan: Plan) -> Cost:
  """Returns the cost of a plan for a canonical, static problem, inside of XLA."""
  if problem.is_depthwise:
    return Cost(cost.flops(problem) / _DEPTHWISE_RATE, 0)
  dtype = accumulation_dtype(problem.dtype)
  axes = list(problem.axes)
  count, batch, samples = 1, problem.batch, plan.samples
  for a, length in enumerate(plan.tile):
    tiling = tiles.of_result(axes[a], length)
    if not tiling.is_whole:
      count, samples, axes[a] = count * tiling.count, 1, tiling.axis
  if samples is not None:
    count, batch = count * -(-batch // samples), samples
  # Without channels there is nothing to compute, but nothing to fail for either.
  inner, groups = max(1, problem.filter_in_channels), problem.groups
  out = max(1, problem.out_channels // groups)

  cells, scattered_taps, phases, gathered_taps, stacked = batch, 1, 1, 1, 0
  for axis, is_gathered in zip(axes, plan.gathered):
    if is_gathered and not axis.is_shuffled:
      cells = cells * -(-axis.input // axis.stride)
      phases, gathered_taps = phases * min(axis.stride, axis.taps), gathered_taps * axis.taps
      stacked += gathered_taps
    else:
      cells, scattered_taps = cells * axis.output, scattered_taps * axis.taps
  # Over all phases together every tap is multiplied once.
  products = 2 * cells * gathered_taps * scattered_taps * inner * out * groups
  depth = gathered_taps / phases * out
  width = scattered_taps * inner
  rate = cost.PRODUCT_RATE[dtype] * cost.efficiency(depth) * cost.efficiency(width)
  copied = dtype.size * cells * stacked * out * groups  # what each axis leaves on the way
  column_bytes = dtype.size * cells * width * groups
  seconds = products / rate
  if gathered_taps > phases or groups > 1:
    is_transposed = plan.columns == CHANNELS_FIRST and plan.rows == CHANNELS_LAST
    transposed = _GATHER_TRANSPOSED if is_transposed else 1
    run = min(1.0, (out * groups + 2) / (cost.GATHER_RUN + 2))
    seconds += transposed * copied / (cost.GATHER_RATE * run)
  if groups > 1:
    seconds += dtype.size * cells * gathered_taps * out * groups / _GROUP_ROWS_RATE
    columns_rate = _GROUP_COLUMNS_RATE * cost.efficiency(inner, _GROUP_RUN)
    seconds += column_bytes * phases / columns_rate
  filter_rate = _GATHERED_FILTER_RATE if gathered_taps > phases else _FILTER_RATE
  weights = math.prod(problem.taps) * inner * problem.out_channels
  seconds += dtype.size * weights / (_GROUPED_FILTER_RATE if groups > 1 else filter_rate)
  if problem.is_pointwise:
    scatter_rate = math.inf  # the columns are the result
    moved = dtype.size * cells * (out + width) * groups
    seconds = max(seconds, moved / cost.POINTWISE_RATE)
  elif problem.is_non_overlapping:
    scatter_rate = cost.MOVE_RATE
  elif plan.columns == CHANNELS_FIRST:
    scatter_rate = _SCATTER_FIRST_RATE
  else:
    limit = _OUT_OF_CACHE_RATE if column_bytes > _CACHE_BYTES else _SCATTER_RATE
    scatter_rate = min(limit, inner * _SCATTER_CHANNEL_RATE)
  seconds += column_bytes * phases / scatter_rate
  result = dtype.size * batch * math.prod(axis.input for axis in axes) * problem.in_channels
  seconds += result * sum(axis.stride > 1 for axis in axes) / cost.MOVE_RATE
  if count > 1:  # each tile is put into the result
    seconds += result / cost.MOVE_RATE
  shuffled_taps = math.prod(axis.taps for axis in axes if axis.is_shuffled)
  operations = gathered_taps + scattered_taps // shuffled_taps  # those are one transposition
  seconds += operations * _OPERATION
  held = column_bytes * phases + copied // max(1, phases)
  seconds = count * seconds + (count - 1) * cost.TILE_SECONDS
  return Cost(seconds, int(held), cost.compiling(problem))


def uncompiled(problem: Problem, plan: Plan, compiled: Cost, in_graph: bool) -> Cost:
  """Returns the cost of a plan outside of XLA, in a graph or not, given that inside of it."""
  factor, calls = _GRAPH_FACTOR if in_graph else _EAGER_FACTOR, _UNCOMPILED_SECONDS
  if problem.is_non_overlapping:
    factor, calls = _UNCOMPILED_CELLWISE_FACTOR, _UNCOMPILED_CELLWISE_SECONDS
  elif plan.tile != (None, None):
    factor = _TILED_FACTOR
  return Cost(factor * compiled.seconds + calls, 2 * compiled.column_bytes)
