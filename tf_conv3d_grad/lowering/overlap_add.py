"""The op as matrix products and shifted sums.

A transposed convolution is a pointwise one followed by overlap-add: one matrix product gives every
tap's contribution (the columns), and sums of shifted columns put them in place. Stride, dilation
and padding live in those shifts alone, so nothing is ever multiplied by an inserted zero (Anderson
et al. 2017, "Low-memory GEMM-based convolution algorithms for deep neural networks"). Each axis is

- scattered: overlap-added after the product, as above;
- gathered: shifted before it, the neighbours of each cell going into the product's inner dimension,
  one product a phase of the stride (Shi et al. 2016); or
- shuffled, where the filter is no longer than the stride: nothing overlaps, and the columns are
only   put in another order.

Works for every dtype, format, dilation and group count, compiled or not. The numbers of taps, of
channels and of groups must be known, and `lead` on every axis.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad import geometry, sizes, tf_compat
from tf_conv3d_grad.lowering import layout, shifts, tiles
from tf_conv3d_grad.plan import Plan
from tf_conv3d_grad.problem import NDHWC, Axis, Problem
from tf_conv3d_grad.sizes import Size

# Sums of more shifted columns than this are taken one axis at a time: their loop would hold that
# many addresses, and XLA takes long to compile it. Held channels last, each short run of channels
# would have its place tested once for every term: 9 terms of 32 take 10% longer at once. Likewise
# where there are more than so many in all the phases together.
_MAX_TERMS = 32
_MAX_TERMS_CHANNELS_LAST = 8
_MAX_TERMS_OF_PHASES = 64
# Where nothing overlaps, XLA's product over so few channels takes five times as long as a loop over
# the cells: 32^3 cells, 3 channels to 64, 7.0 and 1.4 ms.
_MAX_INNER = 4
# A depthwise problem's products of more taps than this are added up in a loop over one axis: 5^3
# taps on 16^3 cells of 96 channels take 59 ms at once and 10 in a loop, to compile 1.4 s and 0.7.
_MAX_PRODUCTS = 64


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  dtype = accumulation_dtype(problem.dtype)
  filter = tf.cast(filter, dtype)  # noqa: A001
  rows = layout.to_layout(tf.cast(out_backprop, dtype), problem.data_format, plan.rows_first)

  # Before anything is cut: pieces would read the padding that idle taps reach, and multiply it.
  axes, filter = _simplified(problem.axes, filter)  # noqa: A001
  problem = problem.replace(axes=axes)
  depth, height = (tiles.of_result(axis, tile) for axis, tile in zip(axes, plan.tile))
  piece = problem.replace(axes=(depth.axis, height.axis, problem.axes[2]))
  whole = depth.is_whole and height.is_whole
  if whole and plan.samples is None:
    return _piece(piece, plan, filter, rows)

  samples = plan.samples if whole and plan.samples is not None else 1
  piece = piece.replace(batch=samples)
  dimensions = [layout.spatial_dimension(a, plan.rows_first) for a in (0, 1)]
  for dimension, tiling in zip(dimensions, (depth, height)):
    rows = tiles.pad(rows, dimension, tiling)
  cuts = depth.pieces * height.pieces  # of each sample, or of several at a time

  def place(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    tile = index % cuts
    return index // cuts * samples, tile // height.pieces, tile % height.pieces

  def compute(index: tf.Tensor) -> tf.Tensor:
    sample, in_depth, in_height = place(index)
    window = shifts.window(rows, layout.batch_dimension(plan.rows_first), sample, samples)
    window = tiles.read(window, dimensions[0], depth, in_depth)
    window = tiles.read(window, dimensions[1], height, in_height)
    return _piece(piece, plan, filter, window)

  def begin(index: tf.Tensor) -> tf.Tensor:
    sample, in_depth, in_height = place(index)
    cells = [in_depth * depth.axis.input, in_height * height.axis.input, 0]
    return sizes.as_tensor(problem.in_format(sample, cells, 0))

  count = problem.batch // samples * cuts
  lengths = [depth.pieces * depth.axis.input, height.pieces * height.axis.input]
  shape = problem.in_format(problem.batch, [*lengths, problem.axes[2].input], problem.in_channels)
  update_slice = tf_compat.update_slice()
  if update_slice is not None:
    result = tf.zeros(sizes.as_tensor(shape), problem.dtype)
    result = tiles.put_pieces(compute, count, update_slice, begin, result)
  else:
    pieces = tiles.map_pieces(compute, count, problem.dtype)
    if not whole:
      pieces = _in_order(pieces, problem, depth, height)
    result = tf.reshape(pieces, sizes.as_tensor(shape))
  for a in (0, 1):  # the last pieces, like the others, may be too long
    dimension = a + (1 if problem.data_format == NDHWC else 2)
    result = shifts.window(result, dimension, 0, problem.axes[a].input)
  return result


def accumulation_dtype(dtype: tf.DType) -> tf.DType:
  """Returns the dtype in which products are added up: halves lose too much in their own."""
  return tf.float64 if dtype == tf.float64 else tf.float32


class _Line(NamedTuple):
  """One axis of a piece, ready to be shifted.

  Attributes:
    axis: The axis.
    phases: The phases of the result that any tap reaches.
    length: The cells of each phase.
    reach: The largest shift: so many cells must stand in front of the rows to gather from them.
    span: How many cells these must have, for every shift to be a plain window.
  """

  axis: Axis
  phases: tuple[geometry.Phase, ...]
  length: Size
  reach: int
  span: Size

  @classmethod
  def of(cls, axis: Axis) -> _Line:
    phases = geometry.phases(axis.taps, axis.stride, axis.dilation, axis.lead)
    by_size = sorted(shift for phase in phases for shift in phase.shifts)
    length = -(-axis.input // axis.stride)
    return cls(axis, phases, length, by_size[-1], length + by_size[-1] - by_size[0])


# An axis, its line, and the shifts of one phase's taps, evenly spaced.
_Move = tuple[int, _Line, tuple[int, ...]]


def _piece(problem: Problem, plan: Plan, filter: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the result on one tile of simplified axes, in the problem's data format and dtype."""
  axes = problem.axes
  shuffled = [a for a in range(3) if axes[a].is_shuffled]
  gathered = [a for a in range(3) if plan.gathered[a] and a not in shuffled]
  scattered = [a for a in range(3) if a not in shuffled and a not in gathered]
  # Axis by axis, columns shrink where there are more taps than phases, and grow where fewer.
  scattered.sort(key=lambda a: axes[a].stride / axes[a].taps)
  lines = {a: _Line.of(axes[a]) for a in (*gathered, *scattered)}
  # What is gathered is padded once, to be windows of one tensor. Along a scattered axis nothing is
  # padded before the product, which would multiply the zeros.
  for a in gathered:
    dimension = layout.spatial_dimension(a, plan.rows_first)
    rows = shifts.refit(rows, {dimension: (lines[a].reach, lines[a].span)})

  weights = tf.transpose(filter, [*gathered, *scattered, *shuffled, 3, 4])
  results = {}
  for phases in itertools.product(*(lines[a].phases for a in gathered)):
    taps = weights[tuple(_as_slice(phase.taps) for phase in phases)]
    moves = [(a, lines[a], phase.shifts) for a, phase in zip(gathered, phases)]
    if problem.is_depthwise and not scattered and not shuffled:
      columns = _elementwise(problem, plan, rows, moves, taps)
    else:
      columns = _product(problem, plan, _gathered(rows, plan, moves), taps, len(gathered))
    results[tuple(phase.residue for phase in phases)] = _overlap_added(
      columns, plan, lines, scattered
    )
  columns = _interleaved(results, plan, lines, gathered)
  taps = [filter.shape[a] for a in shuffled]
  return _finished(_shuffled(columns, problem, plan, shuffled, taps), problem, plan)


def _simplified(
  axes: tuple[Axis, Axis, Axis], filter: tf.Tensor  # noqa: A002
) -> tuple[tuple[Axis, ...], tf.Tensor]:
  """Leaves idle taps and strides out; the filter may have fewer taps than a shuffled axis."""
  simple = [axis.simplified() for axis in axes]
  if any(taps != slice(0, axis.taps) for axis, (_, taps) in zip(axes, simple)):
    filter = filter[tuple(taps for _, taps in simple)]  # noqa: A001
  return tuple(axis for axis, _ in simple), filter


def _as_slice(taps: tuple[int, ...]) -> slice:
  """Returns the slice of a phase's taps, which lie evenly."""
  step = taps[1] - taps[0] if len(taps) > 1 else 1
  return slice(taps[0], taps[-1] + 1, step)


def _gathered(rows: tf.Tensor, plan: Plan, moves: list[_Move]) -> tf.Tensor:
  """Returns the padded rows with each cell's neighbours: a dimension of taps for each of the moves.

  These stand before the channels, wherever the plan has those. Axis by axis, and stacked: XLA's
  loop over a concatenation of channels asks of every element whose it is, that over a stack of
  every run of channels, and the fewer there are to ask about, the faster. For 28 MB of 3 runs of 64
  that is 2.7 against 12.9 ms, for 10 MB of 9 runs 1.7 against 2.9, or 4.1 in one stack.
  """
  for place, (a, line, by) in enumerate(moves):
    dimension = layout.spatial_dimension(a, plan.rows_first) + (place if plan.rows_first else 0)
    windows = [shifts.window(rows, dimension, line.reach - shift, line.length) for shift in by]
    rows = tf.stack(windows, place if plan.rows_first else -2)
  return rows


def _product(
  problem: Problem, plan: Plan, rows: tf.Tensor, weights: tf.Tensor, gathered: int
) -> tf.Tensor:
  """Returns the columns.

  Args:
    problem: The problem.
    plan: The plan.
    rows: As `_gathered` returns them.
    weights: `[gathered taps..., other taps..., filter_in_channels, out_channels]`.
    gathered: How many dimensions of gathered taps there are.

  Returns:
    `[groups, other taps * in_channels of a group, batch, cells...]` with columns first,
    `[groups * batch, cells..., other taps * in_channels of a group]` with columns last.
  """
  groups, out = problem.groups, problem.out_channels // problem.groups
  inner = problem.filter_in_channels
  taps = weights.shape.as_list()
  count, taps = math.prod(taps[:gathered]), taps[gathered:-2]
  outer = math.prod(taps) * inner
  shape = sizes.shape_of(rows)
  batch, *cells = shape[1 + gathered :] if plan.rows_first else shape[:4]
  transposed = groups == 1 and count == 1  # then the filter's own order will do
  if groups == 1:
    rows = tf.reshape(rows, [count * out, -1] if plan.rows_first else [-1, count * out])
    weights = tf.reshape(weights, [count, outer, out])
    if transposed:
      weights = weights[0]
    else:
      weights = tf.reshape(tf.transpose(weights, [0, 2, 1]), [-1, outer])
  elif plan.rows_first:
    rows = tf.transpose(tf.reshape(rows, [count, groups, out, -1]), [1, 0, 2, 3])
    rows = tf.reshape(rows, [groups, count * out, -1])
  else:
    rows = tf.transpose(tf.reshape(rows, [-1, count, groups, out]), [2, 0, 1, 3])
    rows = tf.reshape(rows, [groups, -1, count * out])
  if groups > 1:
    weights = tf.reshape(weights, [count, outer, groups, out])
    weights = tf.reshape(tf.transpose(weights, [2, 0, 3, 1]), [groups, count * out, outer])
  few = groups == 1 and count * out <= _MAX_INNER and problem.is_cellwise
  if few and not (plan.rows_first or plan.columns_first) and tf_compat.in_xla_context():
    weights = tf.reshape(tf.transpose(weights) if transposed else weights, [-1, outer])
    columns = _sum([rows[:, i : i + 1] * weights[i] for i in range(count * out)])
    shape = [groups * batch, *cells, outer]
  elif plan.columns_first:
    columns = tf.matmul(
      weights, rows, transpose_a=not transposed, transpose_b=not plan.rows_first
    )
    shape = [groups, outer, batch, *cells]
  else:
    columns = tf.matmul(
      rows, weights, transpose_a=plan.rows_first, transpose_b=transposed
    )
    shape = [groups * batch, *cells, outer]
  return tf.reshape(columns, sizes.as_tensor(shape))


def _elementwise(
  problem: Problem, plan: Plan, rows: tf.Tensor, moves: list[_Move], weights: tf.Tensor
) -> tf.Tensor:
  """Returns the columns of a depthwise problem, all of whose axes are gathered.

  Args:
    problem: The problem.
    plan: The plan.
    rows: The padded rows, in the plan's layout.
    moves: How to gather along each axis that has taps.
    weights: `[taps of each of these..., other axes..., 1, out_channels]`.
  """
  groups, out = problem.groups, problem.out_channels // problem.groups
  counts = [len(by) for _, _, by in moves]
  weights = tf.reshape(weights, [*counts, groups, out])
  if math.prod(counts) <= _MAX_PRODUCTS:
    total = _sum(_products(plan, _neighbours(rows, plan, moves), weights))
  else:  # One loop over all products would be long to compile, and slow.
    longest = max(range(len(moves)), key=counts.__getitem__)
    axis, line, by = moves[longest]
    others = [*moves[:longest], *moves[longest + 1 :]]
    step = by[1] - by[0]
    weights = tf.transpose(weights, [longest, *(d for d in range(len(moves) + 2) if d != longest)])

    def add(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      dimension = layout.spatial_dimension(axis, plan.rows_first)
      window = shifts.window(rows, dimension, line.reach - by[0] - index * step, line.length)
      neighbours = _neighbours(window, plan, others)
      return index + 1, total + _sum(_products(plan, neighbours, weights[index]))

    lengths = _lengths(rows, plan, moves)
    shape = [groups, *lengths] if plan.rows_first else [*lengths, groups]
    _, total = tf.while_loop(
      lambda index, _: index < len(by),
      add,
      (tf.constant(0, tf.int64), tf.zeros(sizes.as_tensor(shape), rows.dtype)),
      maximum_iterations=len(by),
      parallel_iterations=1,
    )
  if plan.columns_first != plan.rows_first:
    total = tf.transpose(total, [4, 0, 1, 2, 3] if plan.columns_first else [1, 2, 3, 4, 0])
  return total[tf.newaxis] if plan.columns_first else total


def _products(plan: Plan, neighbours: list[tf.Tensor], weights: tf.Tensor) -> list[tf.Tensor]:
  """Returns what each neighbour gives each group; `weights` is `[taps..., groups, out]`."""
  groups, out = weights.shape.as_list()[-2:]
  weights = tf.reshape(weights, [len(neighbours), groups, out])
  products = []
  for index, rows in enumerate(neighbours):
    shape = _cells(rows, plan)
    if plan.rows_first:
      rows = tf.reshape(rows, sizes.as_tensor([groups, out, *shape]))
      scale = tf.reshape(weights[index], [groups, out, 1, 1, 1, 1])
      products += [rows[:, o] * scale[:, o] for o in range(out)]
    else:
      rows = tf.reshape(rows, sizes.as_tensor([*shape, groups, out]))
      products += [rows[..., o] * weights[index, :, o] for o in range(out)]
  return products


def _neighbours(rows: tf.Tensor, plan: Plan, moves: list[_Move]) -> list[tf.Tensor]:
  """Returns the padded rows, shifted by each combination of the moves."""
  neighbours = [rows]
  for a, line, by in moves:
    dimension = layout.spatial_dimension(a, plan.rows_first)
    neighbours = [
      shifts.window(tensor, dimension, line.reach - shift, line.length)
      for tensor in neighbours
      for shift in by
    ]
  return neighbours


def _lengths(rows: tf.Tensor, plan: Plan, moves: list[_Move]) -> list[Size]:
  """Returns the batch size and the lengths that neighbours have."""
  lengths = _cells(rows, plan)
  for a, line, _ in moves:
    lengths[1 + a] = line.length
  return lengths


def _cells(rows: tf.Tensor, plan: Plan) -> list[Size]:
  """Returns the batch size and the lengths of the rows."""
  shape = sizes.shape_of(rows)
  return shape[1:] if plan.rows_first else shape[:-1]


def _overlap_added(
  columns: tf.Tensor, plan: Plan, lines: dict[int, _Line], scattered: list[int]
) -> tf.Tensor:
  """Adds up shifted columns; the taps of the scattered axes disappear.

  Args:
    columns: As `_product` returns them; the taps of the scattered axes come first.
    plan: The plan.
    lines: The lines by axis.
    scattered: The axes to work on.
  """
  taps = {a: lines[a].axis.taps for a in scattered}
  dimension = 1 if plan.columns_first else 4
  most = _MAX_TERMS if plan.columns_first else _MAX_TERMS_CHANNELS_LAST
  longest = math.prod(max(len(phase.taps) for phase in lines[a].phases) for a in scattered)
  at_once = longest <= most and math.prod(taps.values()) <= _MAX_TERMS_OF_PHASES
  steps = [scattered] if at_once else [[a] for a in scattered]
  for step in steps:
    values = columns.shape[dimension] // math.prod(taps[a] for a in step)  # a tap's
    results = {}
    for phases in itertools.product(*(lines[a].phases for a in step)):
      terms = []
      for moves in itertools.product(*(zip(phase.taps, phase.shifts) for phase in phases)):
        changes: dict[int, tuple[int, Size]] = {}
        position = 0
        for a, (tap, shift) in zip(step, moves):
          position = position * taps[a] + tap
          changes[_cell_dimension(a, plan)] = shift, lines[a].length
        changes[dimension] = -position * values, values
        terms.append(shifts.refit(columns, changes))
      results[tuple(phase.residue for phase in phases)] = _sum(terms)
    columns = _interleaved(results, plan, lines, step)
  return columns


def _interleaved(
  results: dict[tuple, tf.Tensor], plan: Plan, lines: dict[int, _Line], axes: list[int]
) -> tf.Tensor:
  """Joins the phases along `axes`, given by their residues."""
  for a in reversed(axes):
    joined: dict[tuple, dict[int, tf.Tensor]] = {}
    for (*prefix, residue), tensor in results.items():
      joined.setdefault(tuple(prefix), {})[residue] = tensor
    results = {
      prefix: shifts.interleave(by_residue, _cell_dimension(a, plan), lines[a].axis)
      for prefix, by_residue in joined.items()
    }
  return results[()]


def _shuffled(
  columns: tf.Tensor, problem: Problem, plan: Plan, shuffled: list[int], taps: list[int]
) -> tf.Tensor:
  """Moves the taps of the shuffled axes, all that are left, in between the cells.

  There may be fewer than an axis has: those behind are zero.
  """
  if not shuffled:
    return columns
  count = len(shuffled)
  shape = sizes.shape_of(columns)
  if plan.columns_first:  # [groups, taps..., in, batch, cells...]
    shape[1:2] = [*taps, problem.filter_in_channels]
    order = [0, 1 + count, 2 + count]
    first_cell, first_tap = 3 + count, 1
  else:  # [groups * batch, cells..., taps..., in]
    shape[4:5] = [*taps, problem.filter_in_channels]
    order = [0]
    first_cell, first_tap = 1, 4
  for a in range(3):
    order.append(first_cell + a)
    if a in shuffled:
      order.append(first_tap + shuffled.index(a))
  if not plan.columns_first:
    order.append(4 + count)
  columns = tf.reshape(columns, sizes.as_tensor(shape))
  for place, (a, given) in enumerate(zip(shuffled, taps)):
    columns = shifts.pad(columns, first_tap + place, 0, problem.axes[a].taps - given)
  columns = tf.transpose(columns, order)
  # [groups, in, batch, cells and taps...] or [groups * batch, cells and taps..., in]
  moved = sizes.shape_of(columns)
  lengths = [
    (axis.output if a in shuffled else shape[first_cell + a]) * (axis.taps if a in shuffled else 1)
    for a, axis in enumerate(problem.axes)
  ]
  if plan.columns_first:
    columns = tf.reshape(columns, sizes.as_tensor([*moved[:3], *lengths]))
  else:
    columns = tf.reshape(columns, sizes.as_tensor([moved[0], *lengths, moved[-1]]))
  for a in shuffled:
    axis = problem.axes[a]
    columns = shifts.refit(columns, {_cell_dimension(a, plan): (-axis.lead, axis.input)})
  return columns


def _cell_dimension(axis: int, plan: Plan) -> int:
  """Returns which dimension of the columns an axis is."""
  return 3 + axis if plan.columns_first else 1 + axis


def _finished(columns: tf.Tensor, problem: Problem, plan: Plan) -> tf.Tensor:
  """Returns columns without taps as the result."""
  if plan.columns_first:  # [groups, in_channels of a group, batch, cells...]
    columns = shifts.merge(columns, 0)
  elif problem.groups > 1 and columns.shape[4] != problem.in_channels:
    # [groups * batch, cells..., in_channels of a group]
    _, *cells, inner = sizes.shape_of(columns)
    shape = sizes.as_tensor([problem.groups, problem.batch, *cells, inner])
    columns = tf.transpose(tf.reshape(columns, shape), [1, 2, 3, 4, 0, 5])
    columns = shifts.merge(columns, 4)
  columns = tf.cast(columns, problem.dtype)
  return layout.to_format(columns, problem.data_format, plan.columns_first)


def _in_order(
  pieces: tf.Tensor, problem: Problem, depth: tiles.Tiling, height: tiles.Tiling
) -> tf.Tensor:
  """Puts `[batch * depth pieces * height pieces, 1, piece...]` in the result's order."""
  if height.is_whole and problem.data_format == NDHWC:
    return pieces
  counts = [problem.batch, depth.pieces, height.pieces]
  _, _, *piece = sizes.shape_of(pieces)
  pieces = tf.reshape(pieces, sizes.as_tensor([*counts, *piece]))
  if problem.data_format == NDHWC:
    return tf.transpose(pieces, [0, 1, 3, 2, 4, 5, 6])
  return tf.transpose(pieces, [0, 3, 1, 4, 2, 5, 6])


def _sum(terms: list[tf.Tensor]) -> tf.Tensor:
  return terms[0] if len(terms) == 1 else tf.add_n(terms)
