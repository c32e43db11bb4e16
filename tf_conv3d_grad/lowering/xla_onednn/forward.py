"""The convolution, and its gradient in the input as one convolution a phase of the strides."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.xla_onednn import call
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import OF_FILTER, Layout

# Where the dimensions are of a filter whose in and out channels have exchanged their names.
_EXCHANGED = Layout(OF_FILTER.channels, OF_FILTER.spatial, OF_FILTER.batch)


def conv3d(
  problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the convolution."""
  filter = tf.cast(filter, plan.dtype)  # noqa: A001

  def compute(batch: int, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
    return _convolved(problem.replace(batch=batch), filter, input)

  return tf.cast(_of_batch(problem, compute, tf.cast(input, plan.dtype)), problem.dtype)


def backprop_input(
  problem: Problem, plan: Plan, filter: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input.

  It meets the taps in reverse order. Where there are fewer cells than taps, counted with their
  channels, the cells before and after it are put in reverse order instead.
  """
  filter = _exchanged(problem, tf.cast(filter, plan.dtype))  # noqa: A001
  turns_cells, spatial = has_fewer_cells(problem), problem.layout.spatial
  by_phase = [
    (phase, filter[phase.taps] if turns_cells else tf.reverse(filter[phase.taps], [0, 1, 2]))
    for phase in phases(problem)
  ]

  def compute(batch: int, out_backprop: tf.Tensor) -> tf.Tensor:
    if turns_cells:
      out_backprop = tf.reverse(out_backprop, spatial)
    results = {}
    for phase, weights in by_phase:
      of_phase = _turned(phase.problem) if turns_cells else phase.problem
      result = _convolved(of_phase.replace(batch=batch), weights, out_backprop, _EXCHANGED)
      result = tf.reverse(result, spatial) if turns_cells else result
      results[phase.residues] = _refitted(result, problem)
    return shifts.interleave_all(results, [*zip(spatial, problem.axes)])

  return tf.cast(_of_batch(problem, compute, tf.cast(out_backprop, plan.dtype)), problem.dtype)


class Phase(NamedTuple):
  """The cells of a result that leave the same remainders by the strides.

  Attributes:
    residues: These remainders.
    taps: The taps that reach them, an index of the filter.
    problem: The problem whose convolution the phase is, with the taps in reverse order.
  """

  residues: tuple[int, ...]
  taps: tuple[slice, ...]
  problem: Problem


def phases(problem: Problem) -> Iterator[Phase]:
  """Yields the phases of the gradient in the input that any tap reaches."""
  by_axis = [
    geometry.phases(axis.taps, axis.stride, axis.dilation, axis.pad) for axis in problem.axes
  ]
  for of_axes in itertools.product(*by_axis):
    axes = []
    for axis, phase in zip(problem.axes, of_axes):
      dilation = phase.shifts[1] - phase.shifts[0] if len(phase.taps) > 1 else 1
      cells = -(-(axis.input - phase.residue) // axis.stride)
      axes.append(Axis(axis.output, cells, len(phase.taps), 1, dilation, phase.shifts[-1]))
    yield Phase(
      tuple(phase.residue for phase in of_axes),
      tuple(phase.slice for phase in of_axes),
      problem.replace(
        axes=tuple(axes),
        in_channels=problem.out_channels,
        filter_in_channels=problem.out_channels // problem.groups,
        out_channels=problem.in_channels,
      ),
    )


def has_fewer_cells(problem: Problem) -> bool:
  """Returns whether the two other tensors have fewer values than the filter, or one sample has."""
  one = problem if sizes.is_known(problem.batch) else problem.replace(batch=1)
  cells = math.prod(one.input_shape) + math.prod(one.out_backprop_shape)
  return cells < math.prod(problem.filter_shape)


def _turned(problem: Problem) -> Problem:
  """Returns a convolution of stride 1 with its cells, and so its padding, in reverse order."""
  axes = (dataclasses.replace(axis, pad=axis.padded - axis.pad) for axis in problem.axes)
  return problem.replace(axes=tuple(axes))


def _exchanged(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns a filter whose in channels are out channels, in the layout `_EXCHANGED`.

  They only exchange their names: XLA would transpose them in a loop, 28 MB in 9 ms. With groups,
  those of a group have to be beside each other. That moves rows of out channels.
  """
  if problem.groups == 1:
    return filter
  split = shifts.split(filter, OF_FILTER.channels, problem.out_channels // problem.groups)
  return shifts.merge(tf.transpose(split, [0, 1, 2, 4, 3, 5]), OF_FILTER.batch)


def _convolved(
  problem: Problem,
  filter: tf.Tensor,  # noqa: A002
  input: tf.Tensor,  # noqa: A002
  of_filter: Layout = OF_FILTER,
) -> tf.Tensor:
  return call.convolution(problem, (problem.layout, of_filter, problem.layout), filter, input)


def _of_batch(
  problem: Problem, compute: Callable[[int, tf.Tensor], tf.Tensor], operand: tf.Tensor
) -> tf.Tensor:
  """Returns a function of a batch: sample by sample where only the run tells how many there are.

  A call has to know its shape while it is traced.
  """
  if sizes.is_known(problem.batch):
    return compute(problem.batch, operand)

  dimension = problem.layout.batch
  samples = call.at_least_one_sample(operand, problem)

  def of_sample(index: tf.Tensor) -> tf.Tensor:
    return compute(1, shifts.window(samples, dimension, index, 1))

  results = tiles.map(of_sample, sizes.maximum(problem.batch, 1), operand.dtype)
  return shifts.window(shifts.merge(results, dimension), dimension, 0, problem.batch)


def _refitted(result: tf.Tensor, problem: Problem) -> tf.Tensor:
  """Returns a phase with as many cells as the longest has."""
  changes = {
    dimension: (0, -(-axis.input // axis.stride))
    for dimension, axis in zip(problem.layout.spatial, problem.axes)
    if axis.input % axis.stride
  }
  return shifts.refit(result, changes) if changes else result

