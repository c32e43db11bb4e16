"""Which overlap-adds are worth considering for a problem."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.overlap_add import costs
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.lowering.tiles import even, samples_within
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST, NCDHW, Layout
from tf_conv3d_grad.tensorflow import private

# How many bytes of columns may be held at a time, where each operation of a tile is one more call.
# The matrix product also packs its operands: with 83 MB of columns a call takes 125 MB more than
# with 13 MB.
MAX_COLUMN_BYTES = 40 << 20
# Bytes of columns to hold so that they fit a cache, which inside of XLA is mostly faster. And where
# oneDNN is off, a compiled call that holds 32 MB gets fresh pages each time: 22^3 cells, 36 to 72
# channels in 3 groups take 26 ms with 39 MB and 9 with 10.
_CACHE_COLUMN_BYTES = (16 << 20, 6 << 20)
# Those of few in channels may be more, where that is all at once and nothing strides: 48^3 cells,
# 32 channels to 3 take 7.2 ms with 34 MB, 12.8 in tiles of 13; without oneDNN 20 and 13, and 40^3
# cells, 16 to 3, 3.8 with 20 MB, 8.4 in tiles of 9. But 64 to 3, k=7, s=2, 17 with 32 MB, 14 with
# 16.
_WHOLE_BYTES_OF_FEW, _WHOLE_BYTES_OF_FEW_WITHOUT_ONEDNN = MAX_COLUMN_BYTES, 24 << 20
# Python unrolls the taps and phases of an axis. Beyond so many, only a loop is sensible.
_MAX_UNROLLED = 64
_MAX_PHASES = 64
# XLA takes long to compile more gathered neighbours than this.
_MAX_NEIGHBOURS = 27
# Rows of at least so many cells are worth height and width as the inner loops.
_LEAST_WIDTH = 16
# Columns of up to so many in channels are worth holding channels first. Longer runs are long
# enough.
_MAX_FEW_CHANNELS = 8
# With all axes gathered, rows of up to so many out channels are held channels first.
_MAX_FEW_ROWS = 4


def can_unroll(problem: Problem) -> bool:
  """Returns whether enough is known of a canonical problem to unroll its taps and phases."""
  if not problem.has_known_taps:
    return False
  unrolled = [axis for axis in problem.axes if not axis.is_shuffled]
  if any(max(axis.stride, axis.taps) > _MAX_UNROLLED for axis in unrolled):
    return False
  return math.prod(min(axis.stride, axis.taps) for axis in unrolled) <= _MAX_PHASES


class Plans(NamedTuple):
  """Plans with their costs inside of XLA, None where sizes are unknown; the least cost first.

  Attributes:
    inside: Those for what XLA compiles.
    outside: Those for anything else.
  """

  inside: list[tuple[Plan, Cost | None]]
  outside: list[tuple[Plan, Cost | None]]


def plans(problem: Problem) -> Plans:
  """Returns plans for a canonical problem that can be unrolled."""
  if not problem.is_static:
    per_sample = problem.replace(batch=1)
    if per_sample.is_static:
      inside, outside = plans(per_sample)
      return Plans([(inside[0][0], None)], [(outside[0][0], None)])
    plan = Plan(gathered=(problem.axes[0].taps > 1, False, False))
    return Plans([(dataclasses.replace(plan, in_xla=True), None)], [(plan, None)])
  found = [*candidates(problem)]
  in_cache = [_in_cache(problem, tilings) for tilings in found]
  in_xla = [(dataclasses.replace(plan, in_xla=True), cost) for plan, cost in _least(in_cache)]
  return Plans(in_xla, _least(found))


def _in_cache(problem: Problem, tilings: list[tuple[Plan, Cost]]) -> list[tuple[Plan, Cost]]:
  """Returns the tilings for inside of XLA."""
  plan, cost = tilings[0]
  most = (
    _WHOLE_BYTES_OF_FEW if private.onednn_enabled() else _WHOLE_BYTES_OF_FEW_WITHOUT_ONEDNN
  )
  is_whole = plan.tile == (None, None) and plan.samples is None
  are_few = problem.in_channels <= _MAX_FEW_CHANNELS and problem.strides == (1, 1, 1)
  if is_whole and are_few and cost.column_bytes <= most:
    return tilings
  return tilings[-len(_CACHE_COLUMN_BYTES) :]


def _least(found: list[list[tuple[Plan, Cost]]]) -> list[tuple[Plan, Cost | None]]:
  """Returns the tiling of the least cost of each set of axes and layout, the least first."""
  least = [min(tilings, key=lambda offer: offer[1].seconds) for tilings in found]
  return [*sorted(least, key=lambda offer: offer[1].seconds)]


def candidates(problem: Problem) -> Iterator[list[tuple[Plan, Cost]]]:
  """Yields for each set of gathered axes and each layout its tilings, with their costs.

  For a canonical, static problem that can be unrolled.
  """
  if problem.is_depthwise:
    yield _depthwise(problem)
    return
  for gathered, (rows, columns) in itertools.product(gatherable(problem), layouts(problem)):
    if all(gathered) and problem.out_channels <= _MAX_FEW_ROWS:
      rows = CHANNELS_FIRST
    yield tiled(problem, Plan(gathered, rows, columns))


def _depthwise(problem: Problem) -> list[tuple[Plan, Cost]]:
  """Shifts, scales and adds; no columns are held."""
  is_wide = problem.data_format == NCDHW and problem.axes[2].input >= _LEAST_WIDTH
  layout = CHANNELS_FIRST if is_wide else CHANNELS_LAST
  plan = Plan(gathered=(True, True, True), rows=layout, columns=layout)
  return [(plan, costs.of_plan(problem, plan))]


def gatherable(problem: Problem) -> list[tuple[bool, bool, bool]]:
  """Returns which sets of axes are worth gathering: those of few enough neighbours to compile."""
  choices = []
  # Height first: of equals it was mostly the fastest, and depth the slowest.
  for depth, width, height in itertools.product((False, True), repeat=3):
    gathered = (depth, height, width)
    axes = [axis for axis, is_gathered in zip(problem.axes, gathered) if is_gathered]
    neighbours = math.prod(axis.taps for axis in axes)
    if neighbours <= _MAX_NEIGHBOURS and not any(a.is_shuffled or a.taps == 1 for a in axes):
      choices.append(gathered)
  return choices


def layouts(problem: Problem) -> list[tuple[Layout, Layout]]:
  """Returns the layouts of rows and columns worth considering."""
  first, last = CHANNELS_FIRST, CHANNELS_LAST
  if problem.data_format == NCDHW:
    if problem.axes[2].input < _LEAST_WIDTH:
      return [(last, last)]
    return [(first if problem.in_channels > _MAX_FEW_CHANNELS else last, first)]
  if 1 < problem.in_channels <= _MAX_FEW_CHANNELS:
    return [(last, last), (last, first)]
  return [(last, last)]


def tiled(problem: Problem, plan: Plan) -> list[tuple[Plan, Cost]]:
  """Returns a plan with tiles of what memory allows, and of what caches hold, and their costs."""
  found = []
  for budget in (MAX_COLUMN_BYTES, *_CACHE_COLUMN_BYTES):
    tile, samples = _tile(problem, plan, budget)
    whole = Plan(plan.gathered, plan.rows, plan.columns, tile, samples)
    found.append((whole, costs.of_plan(problem, whole)))
  return found


def _tile(
  problem: Problem, plan: Plan, budget: int
) -> tuple[tuple[int | None, int | None], int | None]:
  """Returns how much of depth and height, or how many samples, to compute at a time.

  That holds at most `budget` bytes, or what as many rows as the filter is long need.
  """
  depth, height, _ = problem.axes
  one = problem.replace(batch=1)

  def held(tile: tuple[int | None, int | None]) -> int:
    return costs.of_plan(one, Plan(plan.gathered, plan.rows, plan.columns, tile)).column_bytes

  sample = held((None, None))
  if sample <= budget:
    return (None, None), samples_within(problem.batch, sample, budget)
  plane = held((depth.stride, None))
  planes = even(depth.input, max(1, budget // max(1, plane)), depth.stride)
  rows = None
  if plane > max(budget, MAX_COLUMN_BYTES):
    # Tiles shorter than the filter's extent would multiply more for their neighbours than for them.
    least = max(height.stride, geometry.extent(height.taps, height.dilation))
    most = max(1, height.input // least)
    cuts = [
      -(-height.input // (count * height.stride)) * height.stride
      for count in range(min(-(-plane // budget), most), most + 1)
    ]
    rows = next((rows for rows in cuts if held((depth.stride, rows)) <= budget), cuts[-1])
  return (planes * depth.stride, rows), None
