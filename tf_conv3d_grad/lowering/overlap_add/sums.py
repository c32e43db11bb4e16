"""From columns to the result: shifts and adds them up, interleaves phases, moves shuffled taps."""

from __future__ import annotations

import itertools
import math

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.lowering.overlap_add.columns import PhasedAxis
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, rearranged
from tf_conv3d_grad.problem.sizes import Size

# Sums of more shifted columns than this are taken one axis at a time. At once, their loop would
# hold that many addresses, and XLA takes long to compile it. Channels last, the place of each short
# run of channels would be tested once for every term: 9 terms of 32 take 10% longer at once. The
# second number is the limit for all phases together.
_MAX_TERMS = 32
_MAX_TERMS_CHANNELS_LAST = 8
_MAX_TERMS_OF_PHASES = 64


def overlap_added(
  columns: tf.Tensor, plan: Plan, axes: dict[int, PhasedAxis], scattered: list[int]
) -> tf.Tensor:
  """Adds up shifted columns; the taps of the scattered axes disappear.

  Args:
    columns: As `columns.product` returns them; the taps of the scattered axes come first.
    plan: The plan.
    axes: The axes by number.
    scattered: The axes to work on.
  """
  taps = {a: axes[a].axis.taps for a in scattered}
  is_first = plan.columns == CHANNELS_FIRST
  dimension = 1 if is_first else 4
  most = _MAX_TERMS if is_first else _MAX_TERMS_CHANNELS_LAST
  longest = math.prod(max(len(phase.taps) for phase in axes[a].phases) for a in scattered)
  at_once = longest <= most and math.prod(taps.values()) <= _MAX_TERMS_OF_PHASES
  for step in [scattered] if at_once else [[a] for a in scattered]:
    values = columns.shape[dimension] // math.prod(taps[a] for a in step)  # a tap's
    results = {}
    for phases in itertools.product(*(axes[a].phases for a in step)):
      terms = []
      for of_tap in itertools.product(*(zip(phase.taps, phase.shifts) for phase in phases)):
        changes: dict[int, tuple[int, Size]] = {}
        position = 0
        for a, (tap, shift) in zip(step, of_tap):
          position = position * taps[a] + tap
          changes[_cell_dimension(a, plan)] = shift, axes[a].cells
        changes[dimension] = -position * values, values
        terms.append(shifts.refit(columns, changes))
      results[tuple(phase.residue for phase in phases)] = shifts.added(terms)
    columns = interleaved(results, plan, axes, step)
  return columns


def interleaved(
  results: dict[tuple, tf.Tensor], plan: Plan, axes: dict[int, PhasedAxis], phased: list[int]
) -> tf.Tensor:
  """Joins the phases along the `phased` axes, given by their residues."""
  return shifts.interleave_all(results, [(_cell_dimension(a, plan), axes[a].axis) for a in phased])


def shuffled(
  columns: tf.Tensor, problem: Problem, plan: Plan, taps: dict[int, int]
) -> tf.Tensor:
  """Moves the taps of the shuffled axes, which are all that are left, in between the cells.

  Args:
    columns: `taps` and in channels of a group are the values of each cell.
    problem: The problem.
    plan: The plan.
    taps: How many taps the filter has along each shuffled axis, by number. There may be fewer than
      the axis has: those behind are zero.
  """
  if not taps:
    return columns
  # Every axis is given its taps as a dimension behind it, then both are made one.
  is_first = plan.columns == CHANNELS_FIRST
  first_tap = 1 if is_first else 4
  shape = sizes.shape_of(columns)
  shape[first_tap : first_tap + 1] = [*taps.values(), problem.filter_in_channels]
  columns = tf.reshape(columns, sizes.as_tensor(shape))
  for place, (a, given) in enumerate(taps.items()):
    columns = shifts.pad(columns, first_tap + place, 0, problem.axes[a].taps - given)
  first_cell = 3 + len(taps) if is_first else 1
  order = [0, 1 + len(taps), 2 + len(taps)] if is_first else [0]
  for a in range(3):
    order.append(first_cell + a)
    if a in taps:
      order.append(first_tap + list(taps).index(a))
  if not is_first:
    order.append(4 + len(taps))
  columns = tf.transpose(columns, order)
  for a in sorted(taps):
    columns = shifts.merge(columns, _cell_dimension(a, plan))
  for a in taps:
    axis = problem.axes[a]
    columns = shifts.refit(columns, {_cell_dimension(a, plan): (-axis.pad, axis.input)})
  return columns


def finished(columns: tf.Tensor, problem: Problem, plan: Plan) -> tf.Tensor:
  """Returns columns without taps as the result, in the problem's data format and dtype."""
  if plan.columns == CHANNELS_FIRST:  # [groups, in channels of a group, batch, cells...]
    columns = shifts.merge(columns, 0)
  elif problem.groups > 1 and columns.shape[4] != problem.in_channels:
    # [groups * batch, cells..., in channels of a group]
    _, *cells, inner = sizes.shape_of(columns)
    shape = sizes.as_tensor([problem.groups, problem.batch, *cells, inner])
    columns = tf.transpose(tf.reshape(columns, shape), [1, 2, 3, 4, 0, 5])
    columns = shifts.merge(columns, 4)
  return rearranged(tf.cast(columns, problem.dtype), plan.columns, problem.layout)


def _cell_dimension(axis: int, plan: Plan) -> int:
  """Returns which dimension of the columns an axis is."""
  return (3 if plan.columns == CHANNELS_FIRST else 1) + axis
