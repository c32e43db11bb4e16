"""The three functions as a loop over the taps, for sizes that are not known yet.

Every number of taps, channels or groups may be a tensor, and every size may be zero. The graph is
as small for a filter of 31x31x31 taps as for a single tap. Each tap is one matrix product. Indices
computed at run time say which cell goes where. The loop is slower than the lowerings that unroll
what they know. It multiplies no padding, so infinities reach only the cells whose sum they are in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.interface import Compute, Lowering, Offer
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import Function
from tf_conv3d_grad.problem.layout import CHANNELS_LAST, rearranged
from tf_conv3d_grad.tensorflow import memory
from tf_conv3d_grad.tensorflow.environment import Environment


class Plan(NamedTuple):
  """There is nothing to choose."""

  def fields(self) -> dict:
    """Returns what names this plan in files."""
    return {}

  def __str__(self) -> str:
    return ""


class TapLoop(Lowering):
  """One tap at a time, in a loop."""

  name = "tap_loop"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns the only plan, for every call. It has no cost, so that others go first."""
    del function, problem
    if environment.device == "GPU":
      return []
    compiled = environment.mode is True and not environment.in_xla
    return [Offer(self, Plan(), compiled, None)]

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns that only cells are multiplied."""
    del function, problem, plan
    return False

  def backprop_input(
    self,
    problem: Problem,
    plan: Plan,
    filter: tf.Tensor,  # noqa: A002
    out_backprop: tf.Tensor,
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its input."""
    del plan
    rows = _rows(problem, out_backprop)  # [g, M, out]
    weights = _weights(problem, filter)  # [taps, g, in, out]

    def add_tap(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      part = tf.matmul(rows, weights[index], transpose_b=True)  # [g, M, in]
      part = _cells(part, problem.batch, [axis.output for axis in problem.axes])
      for dimension, axis, tap in _tap(problem, index):
        cells = tf.range(sizes.cast(axis.input), dtype=tf.int64) + axis.pad - tap * axis.dilation
        reached = tf.equal(cells % axis.stride, 0)
        part = _taken(part, dimension, cells // axis.stride, axis.output, reached)
      # A result of no channels goes with any filter.
      part = part[..., : problem.in_channels]
      return index + 1, total + part

    total = _loop(problem, add_tap, memory.zeros(_input_shape(problem), rows.dtype))
    return rearranged(tf.cast(total, problem.dtype), CHANNELS_LAST, problem.layout)

  def conv3d(self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
    """Returns the convolution."""
    del plan
    rows = _by_group(problem, _accumulated(problem, input), problem.in_channels)  # [g, M, in]
    weights = _weights(problem, filter)
    lengths = [axis.output for axis in problem.axes]

    def add_tap(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      # Products first: padding that was taken for cells would be multiplied.
      part = tf.matmul(rows, weights[index])  # [g, M, out]
      part = _cells(part, problem.batch, [axis.input for axis in problem.axes])
      for dimension, axis, cells in _seen(problem, index):
        part = _taken(part, dimension, cells, axis.input, True)
      return index + 1, total + part

    shape = [problem.batch, *lengths, problem.out_channels]
    total = _loop(problem, add_tap, memory.zeros(shape, rows.dtype))
    return rearranged(tf.cast(total, problem.dtype), CHANNELS_LAST, problem.layout)

  def backprop_filter(
    self,
    problem: Problem,
    plan: Plan,
    input: tf.Tensor,  # noqa: A002
    out_backprop: tf.Tensor,
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its filter."""
    del plan
    input = _accumulated(problem, input)  # noqa: A001
    out_backprop = _accumulated(problem, out_backprop)

    groups = problem.groups
    tap_shape = [groups, problem.filter_in_channels, problem.out_channels // groups]
    size = tap_shape[0] * tap_shape[1] * tap_shape[2]

    def set_tap(index: tf.Tensor, by_tap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      seen, of_seen = input, out_backprop
      for dimension, axis, cells in _seen(problem, index):
        seen = _taken(seen, dimension, cells, axis.input, True)
        # What sees padding adds nothing, be it infinite.
        exists = tf.logical_and(cells >= 0, cells < axis.input)
        exists = tf.reshape(exists, [-1 if d == dimension else 1 for d in range(5)])
        of_seen = tf.where(exists, of_seen, tf.zeros([], of_seen.dtype))
      columns = _by_group(problem, seen, problem.in_channels)
      rows = _by_group(problem, of_seen, problem.out_channels)
      part = tf.matmul(columns, rows, transpose_a=True)  # [g, in, out]
      row = tf.pad(tf.reshape(part, [-1]), [[0, 1]])
      # `tf.vectorized_map` takes no other indices than int32.
      place = tf.cast([[index]], tf.int32)
      return index + 1, tf.tensor_scatter_nd_update(by_tap, place, row[tf.newaxis])

    # One row and one column too many: XLA does not update an empty tensor.
    shape = sizes.as_tensor([_count(problem) + 1, sizes.cast(size) + 1])
    by_tap = _loop(problem, set_tap, tf.zeros(shape, input.dtype))[:-1, :-1]
    by_tap = tf.reshape(by_tap, sizes.as_tensor([_count(problem), *tap_shape]))
    result = tf.reshape(
      tf.transpose(by_tap, [0, 2, 1, 3]), sizes.as_tensor(problem.filter_shape)
    )
    return tf.cast(result, problem.dtype)


def exactly(function: Function, problem: Problem) -> Compute:
  """Returns what computes any problem, also where no other lowering can be trusted with it."""
  return functools.partial(function.of(TapLoop()), problem, Plan())


def _accumulated(problem: Problem, tensor: tf.Tensor) -> tf.Tensor:
  return rearranged(
    tf.cast(tensor, accumulation_dtype(problem.dtype)), problem.layout, CHANNELS_LAST
  )


def _input_shape(problem: Problem) -> list:
  lengths = [axis.input for axis in problem.axes]
  return [problem.batch, *lengths, problem.in_channels]


def _rows(problem: Problem, out_backprop: tf.Tensor) -> tf.Tensor:
  """Returns `out_backprop` as `[g, M, out_channels of a group]`."""
  return _by_group(problem, _accumulated(problem, out_backprop), problem.out_channels)


def _by_group(problem: Problem, tensor: tf.Tensor, channels: sizes.Size) -> tf.Tensor:
  """Returns a channels-last tensor as `[g, cells, channels of a group]`."""
  batch, *lengths, _ = sizes.shape_of(tensor)
  cells = batch * lengths[0] * lengths[1] * lengths[2]
  groups = problem.groups
  split = tf.reshape(tensor, sizes.as_tensor([cells, groups, channels // groups]))
  return tf.transpose(split, [1, 0, 2])


def _weights(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[taps, g, in, out]`, with one more tap of zeros behind.

  XLA compiles the loop's body even where there is no tap, and does not slice an empty tensor.
  """
  groups = problem.groups
  inner, out = problem.filter_in_channels, problem.out_channels // groups
  split = tf.reshape(
    tf.cast(filter, accumulation_dtype(problem.dtype)),
    sizes.as_tensor([_count(problem), inner, groups, out]),
  )
  return tf.pad(tf.transpose(split, [0, 2, 1, 3]), [[0, 1], [0, 0], [0, 0], [0, 0]])


def _cells(part: tf.Tensor, batch: sizes.Size, lengths: list) -> tf.Tensor:
  """Returns `[g, cells, channels of a group]` channels last."""
  groups, _, channels = sizes.shape_of(part)
  return tf.reshape(
    tf.transpose(part, [1, 0, 2]), sizes.as_tensor([batch, *lengths, groups * channels])
  )


def _seen(problem: Problem, index: tf.Tensor) -> list[tuple[int, Axis, tf.Tensor]]:
  """Returns, for each spatial dimension, the axis and which input cells the output sees by a tap.

  Some of them may not exist.
  """
  seen = []
  for dimension, axis, tap in _tap(problem, index):
    cells = tf.range(sizes.cast(axis.output), dtype=tf.int64) * axis.stride
    seen.append((dimension, axis, cells + tap * axis.dilation - axis.pad))
  return seen


def _taken(
  tensor: tf.Tensor, dimension: int, cells: tf.Tensor, length: sizes.Size, exists: tf.Tensor | bool
) -> tf.Tensor:
  """Returns `tensor` at `cells` along a dimension of `length` cells, zero where there is none."""
  exists = tf.logical_and(exists, tf.logical_and(cells >= 0, cells < length))
  # One cell of zeros behind, for all that do not exist; a product would make infinities NaNs.
  padded = tf.pad(tensor, [[0, int(d == dimension)] for d in range(5)])
  return tf.gather(padded, tf.where(exists, cells, tf.cast(length, tf.int64)), axis=dimension)


def _tap(problem: Problem, index: tf.Tensor) -> list[tuple[int, Axis, tf.Tensor]]:
  """Returns, for each spatial dimension, the axis and which of its taps tap `index` has."""
  depth, height, width = problem.axes
  return [
    (1, depth, index // sizes.cast(height.taps * width.taps)),
    (2, height, index // sizes.cast(width.taps) % height.taps),
    (3, width, index % sizes.cast(width.taps)),
  ]


def _count(problem: Problem) -> tf.Tensor:
  """Returns the number of taps."""
  return tf.cast(problem.taps[0] * problem.taps[1] * problem.taps[2], tf.int64)


def _loop(problem: Problem, body: Callable, zeros: tf.Tensor) -> tf.Tensor:
  count = _count(problem)
  _, total = tf.while_loop(
    lambda index, _: index < count,
    body,
    (tf.constant(0, tf.int64), zeros),
    shape_invariants=(tf.TensorShape([]), tf.TensorShape([None] * zeros.shape.rank)),
    # XLA needs it where TensorFlow prepares a gradient of the loop, although none is ever taken.
    maximum_iterations=tf.cast(count, tf.int32),
    parallel_iterations=1,
  )
  return total
