"""Computes the gradient in the input by overlap-add: tile by tile, phase by phase."""

from __future__ import annotations

import itertools

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.overlap_add import columns as of_columns
from tf_conv3d_grad.lowering.overlap_add import sums
from tf_conv3d_grad.lowering.overlap_add.columns import Neighbours, PhasedAxis
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import NDHWC, rearranged
from tf_conv3d_grad.tensorflow import private


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  dtype = accumulation_dtype(problem.dtype)
  rows = rearranged(tf.cast(out_backprop, dtype), problem.layout, plan.rows)
  # Before tiles are cut: they would read the padding that idle taps reach, and multiply it.
  filter = problem.live_taps(tf.cast(filter, dtype))  # noqa: A001
  problem = problem.canonical
  depth, height = (tiles.of_result(axis, tile) for axis, tile in zip(problem.axes, plan.tile))
  if depth.is_whole and height.is_whole and plan.samples is None:
    return _of_tile(problem, plan, filter, rows)
  return _tiled(problem, plan, filter, rows, depth, height)


def _tiled(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  rows: tf.Tensor,
  depth: tiles.Tiling,
  height: tiles.Tiling,
) -> tf.Tensor:
  """Returns the result, computed one tile, or some samples, at a time."""
  is_whole = depth.is_whole and height.is_whole
  samples = plan.samples if is_whole and plan.samples is not None else 1
  tile = problem.replace(batch=samples, axes=(depth.axis, height.axis, problem.axes[2]))
  for dimension, tiling in zip(plan.rows.spatial, (depth, height)):
    rows = tiles.pad(rows, dimension, tiling)
  of_each = depth.count * height.count  # tiles of each sample, or of several at a time

  def place(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    in_sample = index % of_each
    return index // of_each * samples, in_sample // height.count, in_sample % height.count

  def compute(index: tf.Tensor) -> tf.Tensor:
    sample, in_depth, in_height = place(index)
    window = shifts.window(rows, plan.rows.batch, sample, samples)
    window = tiles.read(window, plan.rows.spatial[0], depth, in_depth)
    window = tiles.read(window, plan.rows.spatial[1], height, in_height)
    return _of_tile(tile, plan, filter, window)

  def begin(index: tf.Tensor) -> tf.Tensor:
    sample, in_depth, in_height = place(index)
    cells = [in_depth * depth.axis.input, in_height * height.axis.input, 0]
    return sizes.as_tensor(problem.layout.arranged(sample, cells, 0))

  count = problem.batch // samples * of_each
  lengths = [tiling.count * tiling.axis.input for tiling in (depth, height)]
  shape = problem.layout.arranged(
    problem.batch, [*lengths, problem.axes[2].input], problem.in_channels
  )
  update_slice = private.update_slice() if plan.in_xla else None
  if update_slice is not None:
    result = tf.zeros(sizes.as_tensor(shape), problem.dtype)
    result = tiles.put(compute, count, update_slice, begin, result)
  else:
    result = tiles.map(compute, count, problem.dtype)
    if not is_whole:
      result = _in_order(result, problem, depth, height)
    result = tf.reshape(result, sizes.as_tensor(shape))
  for dimension, axis in zip(problem.layout.spatial[:2], problem.axes):
    # The last tiles, like the others, may be too long.
    result = shifts.window(result, dimension, 0, axis.input)
  return result


def _of_tile(problem: Problem, plan: Plan, filter: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the result on one tile of canonical axes, in the problem's data format and dtype."""
  axes = problem.axes
  shuffled = [a for a in range(3) if axes[a].is_shuffled]
  gathered = [a for a in range(3) if plan.gathered[a] and a not in shuffled]
  scattered = [a for a in range(3) if a not in shuffled and a not in gathered]
  # Columns shrink on axes with more taps than phases, and grow on axes with fewer.
  scattered.sort(key=lambda a: axes[a].stride / axes[a].taps)
  phased = {a: PhasedAxis.of(axes[a]) for a in (*gathered, *scattered)}
  # What is gathered is padded once, to be windows of one tensor. Along a scattered axis nothing is
  # padded before the product, which would multiply the zeros.
  for a in gathered:
    dimension = plan.rows.spatial[a]
    rows = shifts.refit(rows, {dimension: (phased[a].front, phased[a].padded)})

  is_depthwise = problem.is_depthwise and not scattered and not shuffled
  multiply = of_columns.depthwise if is_depthwise else of_columns.product
  weights = tf.transpose(filter, [*gathered, *scattered, *shuffled, 3, 4])
  results = {}
  for phases in itertools.product(*(phased[a].phases for a in gathered)):
    taps = weights[tuple(phase.slice for phase in phases)]
    neighbours = [Neighbours(a, phased[a], phase.shifts) for a, phase in zip(gathered, phases)]
    columns = multiply(problem, plan, rows, taps, neighbours)
    residues = tuple(phase.residue for phase in phases)
    results[residues] = sums.overlap_added(columns, plan, phased, scattered)
  columns = sums.interleaved(results, plan, phased, gathered)
  columns = sums.shuffled(columns, problem, plan, {a: filter.shape[a] for a in shuffled})
  return sums.finished(columns, problem, plan)


def _in_order(
  result: tf.Tensor, problem: Problem, depth: tiles.Tiling, height: tiles.Tiling
) -> tf.Tensor:
  """Puts `[batch * depth tiles * height tiles, 1, tile...]` in the result's order."""
  if height.is_whole and problem.data_format == NDHWC:
    return result
  _, _, *tile = sizes.shape_of(result)
  result = tf.reshape(
    result, sizes.as_tensor([problem.batch, depth.count, height.count, *tile])
  )
  if problem.data_format == NDHWC:
    return tf.transpose(result, [0, 1, 3, 2, 4, 5, 6])
  return tf.transpose(result, [0, 3, 1, 4, 2, 5, 6])
