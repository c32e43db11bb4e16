"""The convolution, and its gradient in the input as one convolution a phase of the strides."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.lowering.flip import flipped_filter
from tf_conv3d_grad.lowering.xla_onednn import call
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import OF_FILTER, Layout


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
  """Returns the gradient of the convolution in its input."""
  filter = tf.cast(filter, plan.dtype)  # noqa: A001
  filters = [(phase, *_flipped(phase, filter[phase.taps])) for phase in phases(problem)]

  def compute(batch: int, out_backprop: tf.Tensor) -> tf.Tensor:
    results = {}
    for phase, weights, layout in filters:
      result = _convolved(phase.problem.replace(batch=batch), weights, out_backprop, layout)
      results[phase.residues] = _refitted(result, problem)
    return shifts.interleave_all(results, [*zip(problem.layout.spatial, problem.axes)])

  return tf.cast(_of_batch(problem, compute, tf.cast(out_backprop, plan.dtype)), problem.dtype)


class Phase(NamedTuple):
  """The cells of a result that leave the same remainders by the strides.

  Attributes:
    residues: These remainders.
    taps: The taps that reach them, an index of the filter.
    given: The problem of these taps, of which `flip.flipped_filter` makes the filter.
    problem: The problem whose convolution the phase is.
  """

  residues: tuple[int, ...]
  taps: tuple[slice, ...]
  given: Problem
  problem: Problem


def phases(problem: Problem) -> Iterator[Phase]:
  """Yields the phases of the gradient in the input that any tap reaches."""
  by_axis = [
    geometry.phases(axis.taps, axis.stride, axis.dilation, axis.pad) for axis in problem.axes
  ]
  for of_axes in itertools.product(*by_axis):
    given, axes, taps = [], [], []
    for axis, phase in zip(problem.axes, of_axes):
      dilation = phase.shifts[1] - phase.shifts[0] if len(phase.taps) > 1 else 1
      taps.append(phase.slice)
      cells = -(-(axis.input - phase.residue) // axis.stride)
      given.append(dataclasses.replace(axis, taps=len(phase.taps)))
      axes.append(Axis(axis.output, cells, len(phase.taps), 1, dilation, phase.shifts[-1]))
    yield Phase(
      tuple(phase.residue for phase in of_axes),
      tuple(taps),
      problem.replace(axes=tuple(given)),
      problem.replace(
        axes=tuple(axes),
        in_channels=problem.out_channels,
        filter_in_channels=problem.out_channels // problem.groups,
        out_channels=problem.in_channels,
      ),
    )


def _flipped(phase: Phase, filter: tf.Tensor) -> tuple[tf.Tensor, Layout]:  # noqa: A002
  """Returns the filter of a phase's convolution, and where its dimensions are.

  Without groups the channels only exchange their names: XLA would transpose them in a loop: 28 MB
  in 9 ms.
  """
  if phase.given.groups == 1:
    inputs, taps, outputs = OF_FILTER
    return tf.reverse(filter, taps), Layout(batch=outputs, spatial=taps, channels=inputs)
  return flipped_filter(phase.given, filter), OF_FILTER


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

