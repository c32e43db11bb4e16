"""The columns of an overlap-add: what every tap contributes, by one matrix product for each phase.

Held channels first they are `[groups, taps * in channels of a group, batch, depth, height, width]`,
held channels last `[groups * batch, depth, height, width, taps * in channels of a group]`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST, rearranged
from tf_conv3d_grad.problem.sizes import Size

# XLA's product over two or three channels takes up to seven times as long with a matrix that it has
# to transpose: 32^3 cells, from 3 channels to 64, 2.3 ms, with one in order 0.33.
_MAX_TRANSPOSED = 3
# The products of a depthwise problem with more taps than this are added up in a loop over one axis.
# 5^3 taps on 16^3 cells of 96 channels take 59 ms at once and 10 in a loop; compiling takes 1.4 s
# and 0.7.
_MAX_PRODUCTS = 64


class PhasedAxis(NamedTuple):
  """One axis of a tile, split into the phases of its stride.

  Attributes:
    axis: The axis.
    phases: The phases of the result that any tap reaches.
    cells: The cells of each phase.
    front: The largest shift: how many cells must be in front of the rows to gather from them.
    padded: How many cells the rows must have, so that every shift is a plain window.
  """

  axis: Axis
  phases: tuple[geometry.Phase, ...]
  cells: Size
  front: int
  padded: Size

  @classmethod
  def of(cls, axis: Axis) -> PhasedAxis:
    """Splits an axis of known taps and padding."""
    phases = geometry.phases(axis.taps, axis.stride, axis.dilation, axis.pad)
    by_size = sorted(shift for phase in phases for shift in phase.shifts)
    cells = -(-axis.input // axis.stride)
    return cls(axis, phases, cells, by_size[-1], cells + by_size[-1] - by_size[0])


class Neighbours(NamedTuple):
  """Which neighbours to gather along one axis: those that the taps of one phase reach.

  Attributes:
    number: Which axis.
    phased: The axis.
    shifts: The shifts of the taps, evenly spaced.
  """

  number: int
  phased: PhasedAxis
  shifts: tuple[int, ...]

  def windows(self, rows: tf.Tensor, dimension: int) -> list[tf.Tensor]:
    """Returns the padded rows as each tap sees them."""
    return [self.window(rows, dimension, shift) for shift in self.shifts]

  def window(self, rows: tf.Tensor, dimension: int, shift: Size) -> tf.Tensor:
    """Returns the padded rows, shifted."""
    return shifts.window(rows, dimension, self.phased.front - shift, self.phased.cells)


def product(
  problem: Problem, plan: Plan, rows: tf.Tensor, weights: tf.Tensor, neighbours: list[Neighbours]
) -> tf.Tensor:
  """Returns the columns of one phase.

  Args:
    problem: The problem.
    plan: The plan.
    rows: The cells of `out_backprop`, padded along the gathered axes, in the plan's layout.
    weights: `[gathered taps..., other taps..., filter_in_channels, out_channels]`.
    neighbours: What to gather along each gathered axis.
  """
  groups, out = problem.groups, problem.out_channels // problem.groups
  gathered = math.prod(len(each.shifts) for each in neighbours)
  taps = weights.shape.as_list()[len(neighbours) : -2]
  inner, outer = gathered * out, math.prod(taps) * problem.filter_in_channels
  batch, cells = _cells(rows, plan, neighbours)
  rows = _by_group(_stacked(rows, plan, neighbours), plan, groups, gathered, out)
  if plan.columns == CHANNELS_FIRST:
    shape = [groups, outer, batch, *cells]
  else:
    shape = [groups * batch, *cells, outer]

  # Of one group and nothing gathered, the filter's own order will do.
  is_transposed = groups == 1 and gathered == 1
  if is_transposed:
    weights = tf.reshape(weights, [outer, out])
    if plan.in_xla and plan.columns == CHANNELS_LAST and 1 < inner <= _MAX_TRANSPOSED:
      # Transposed, it would become a part of the product.
      weights = tf.stack([weights[:, channel] for channel in range(inner)])
      is_transposed = False
  else:
    weights = tf.transpose(tf.reshape(weights, [gathered, outer, groups, out]), [2, 0, 3, 1])
    weights = tf.reshape(weights, [inner, outer] if groups == 1 else [groups, inner, outer])

  if plan.columns == CHANNELS_FIRST:
    columns = tf.matmul(
      weights, rows, transpose_a=not is_transposed, transpose_b=plan.rows == CHANNELS_LAST
    )
  else:
    columns = tf.matmul(
      rows, weights, transpose_a=plan.rows == CHANNELS_FIRST, transpose_b=is_transposed
    )
  return tf.reshape(columns, sizes.as_tensor(shape))


def _stacked(rows: tf.Tensor, plan: Plan, neighbours: list[Neighbours]) -> tf.Tensor:
  """Returns the padded rows with each cell's neighbours: a dimension of taps for each of the axes.

  The taps come before the channels, wherever the plan has those. Neighbours are stacked axis by
  axis. In a concatenation of channels, XLA's loop asks of every element which neighbour it comes
  from; in a stack, it asks of every run of channels. The fewer there are to ask about, the faster.
  28 MB of 3 runs of 64 take 2.7 ms stacked and 12.9 concatenated. 10 MB of 9 runs take 1.7 ms axis
  by axis, 4.1 in one stack, and 2.9 concatenated.
  """
  for place, each in enumerate(neighbours):
    dimension = plan.rows.spatial[each.number]
    if plan.rows == CHANNELS_FIRST:
      rows = tf.stack(each.windows(rows, dimension + place), place)
    else:
      rows = tf.stack(each.windows(rows, dimension), -2)
  return rows


def _by_group(rows: tf.Tensor, plan: Plan, groups: int, gathered: int, out: int) -> tf.Tensor:
  """Returns rows as matrices of the product, one for each group.

  Channels first that is `[gathered taps * out channels of a group, cells]`, last the transpose.
  """
  inner = gathered * out
  if plan.rows == CHANNELS_FIRST:
    if groups == 1:
      return tf.reshape(rows, [inner, -1])
    rows = tf.transpose(tf.reshape(rows, [gathered, groups, out, -1]), [1, 0, 2, 3])
    return tf.reshape(rows, [groups, inner, -1])
  if groups == 1:
    return tf.reshape(rows, [-1, inner])
  rows = tf.transpose(tf.reshape(rows, [-1, gathered, groups, out]), [2, 0, 1, 3])
  return tf.reshape(rows, [groups, -1, inner])


def depthwise(
  problem: Problem, plan: Plan, rows: tf.Tensor, weights: tf.Tensor, neighbours: list[Neighbours]
) -> tf.Tensor:
  """Returns the columns of one phase of a depthwise problem, all of whose axes are gathered.

  The arguments are those of `product`.
  """
  groups, out = problem.groups, problem.out_channels // problem.groups
  counts = [len(each.shifts) for each in neighbours]
  weights = tf.reshape(weights, [*counts, groups, out])
  if math.prod(counts) <= _MAX_PRODUCTS:
    total = shifts.added(_scaled(plan, _shifted(rows, plan, neighbours), weights))
  else:  # One loop over all products would take long to compile and to run.
    place = max(range(len(neighbours)), key=counts.__getitem__)
    longest = neighbours[place]
    others = [*neighbours[:place], *neighbours[place + 1 :]]
    first, second, *_ = longest.shifts
    weights = tf.transpose(
      weights, [place, *(d for d in range(len(neighbours) + 2) if d != place)]
    )

    def add(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      dimension = plan.rows.spatial[longest.number]
      window = longest.window(rows, dimension, first + index * (second - first))
      products = _scaled(plan, _shifted(window, plan, others), weights[index])
      return index + 1, total + shifts.added(products)

    batch, cells = _cells(rows, plan, neighbours)
    _, total = tf.while_loop(
      lambda index, _: index < counts[place],
      add,
      (
        tf.constant(0, tf.int64),
        tf.zeros(sizes.as_tensor(plan.rows.arranged(batch, cells, groups)), rows.dtype),
      ),
      maximum_iterations=counts[place],
      parallel_iterations=1,
    )
  total = rearranged(total, plan.rows, plan.columns)
  return total[tf.newaxis] if plan.columns == CHANNELS_FIRST else total


def _scaled(plan: Plan, shifted: list[tf.Tensor], weights: tf.Tensor) -> list[tf.Tensor]:
  """Returns what each neighbour gives each group; `weights` is `[taps..., groups, out]`."""
  groups, out = weights.shape.as_list()[-2:]
  weights = tf.reshape(weights, [len(shifted), groups, out])
  products = []
  for index, rows in enumerate(shifted):
    batch, cells = _cells(rows, plan, [])
    if plan.rows == CHANNELS_FIRST:
      rows = tf.reshape(rows, sizes.as_tensor([groups, out, batch, *cells]))
      scale = tf.reshape(weights[index], [groups, out, 1, 1, 1, 1])
      products += [rows[:, o] * scale[:, o] for o in range(out)]
    else:
      rows = tf.reshape(rows, sizes.as_tensor([batch, *cells, groups, out]))
      products += [rows[..., o] * weights[index, :, o] for o in range(out)]
  return products


def _shifted(rows: tf.Tensor, plan: Plan, neighbours: list[Neighbours]) -> list[tf.Tensor]:
  """Returns the padded rows, shifted by each combination of the axes' taps."""
  shifted = [rows]
  for each in neighbours:
    dimension = plan.rows.spatial[each.number]
    shifted = [window for tensor in shifted for window in each.windows(tensor, dimension)]
  return shifted


def _cells(
  rows: tf.Tensor, plan: Plan, neighbours: list[Neighbours]
) -> tuple[Size, list[Size]]:
  """Returns the batch size and the lengths of the rows, those gathered without their padding."""
  batch, lengths, _ = plan.rows.split(sizes.shape_of(rows))
  for each in neighbours:
    lengths[each.number] = each.phased.cells
  return batch, lengths
