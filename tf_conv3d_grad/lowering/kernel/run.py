"""Calls TensorFlow's kernels in the form in which they take a call.

Casts and transposes do the rest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import CONV3D, Function, group_dimension
from tf_conv3d_grad.problem.layout import rearranged
from tf_conv3d_grad.tensorflow import memory, private, processor

# Batches of up to so many samples are unrolled, larger ones looped over.
_MAX_UNROLLED_BATCH = 16


def conv3d(problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution."""
  inner = as_the_kernel_takes_it(problem, plan)
  filter = cast(filter, inner.dtype)  # noqa: A001
  input = adapted(input, problem, inner)  # noqa: A001
  padding = problem.unambiguous_padding
  if padding is None:
    padding, input = "VALID", _padded(input, inner)  # noqa: A001
  inner = inner.replace(padding=padding)
  if _folds_in_half(plan):
    input = private.unknown_to_the_optimizer(input)  # noqa: A001
  input = private.without_wrong_shape(input, inner.padding, inner.dilations)  # noqa: A001
  result = private.raw_conv3d(input=input, filter=filter, **inner.attributes.arguments())
  if not sizes.is_known(inner.batch):  # of no samples, oneDNN's may have the shape of the input
    result = tf.reshape(result, sizes.as_tensor(inner.out_backprop_shape))
  return restored(result, problem, inner)


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  inner = as_the_kernel_takes_it(problem, plan)
  filter = cast(filter, inner.dtype)  # noqa: A001
  one = inner.replace(batch=1) if plan.by_sample else inner
  output_shape = sizes.as_tensor(one.input_shape)
  if plan.device == "CPU":
    # Given constants, the optimizer would run a kernel that adds halves up in their own precision,
    # and unguarded.
    output_shape = private.unknown_to_the_optimizer(output_shape)

  def compute(tensor: tf.Tensor) -> tf.Tensor:
    return private.conv3d_transpose(
      input=tensor,
      filters=filter,
      output_shape=output_shape,
      **one.attributes.arguments(),
    )

  tensor = adapted(out_backprop, problem, inner)
  result = _mapped(compute, inner, tensor) if plan.by_sample else compute(tensor)
  return restored(result, problem, inner)


def backprop_filter(
  problem: Problem,
  plan: Plan,
  input: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its filter."""
  inner = as_the_kernel_takes_it(problem, plan)
  input = adapted(input, problem, inner)  # noqa: A001
  out_backprop = adapted(out_backprop, problem, inner)
  if plan.by_phase:
    phases = of_phases(inner)
    pads = [axis.pad for axis in inner.axes]
    input = _phases(inner, input, pads, [axis.input for axis in phases.axes])  # noqa: A001
    out_backprop = _phases(inner, out_backprop, [0] * 3, [axis.output for axis in phases.axes])
    inner = phases
  filter_sizes = tf.cast(sizes.as_tensor(inner.filter_shape), tf.int32)
  if _folds_in_half(plan):
    filter_sizes = private.unknown_to_the_optimizer(filter_sizes)
  result = private.raw_backprop_filter(
    input=input,
    filter_sizes=filter_sizes,
    out_backprop=out_backprop,
    **inner.attributes.arguments(),
  )
  return cast(result, problem.dtype)


def _folds_in_half(plan: Plan) -> bool:
  """Whether the optimizer, given constants, would run a kernel that adds up in half precision."""
  if private.is_called_by_vectorized_loop():  # which takes no operation that hides a tensor
    return False
  return plan.device == "CPU" and plan.dtype.size == 2


def has_phases(problem: Problem) -> bool:
  """Returns whether a dilation can be taken apart: without strides, and with few phases empty.

  Each phase of an axis is every `dilation`-th cell. Its taps are neighbours.
  """
  if problem.strides != (1, 1, 1) or problem.dilations == (1, 1, 1):
    return False
  return all(
    sizes.is_known(axis.taps, axis.pad)
    and (axis.dilation == 1 or (sizes.is_known(axis.output) and axis.dilation <= axis.output))
    for axis in problem.axes
  )


def of_phases(problem: Problem) -> Problem:
  """Returns the problem on all phases, as samples: with VALID padding and no dilation."""
  axes = []
  for axis in problem.axes:
    cells = -(-axis.output // axis.dilation)
    axes.append(Axis(cells + axis.taps - 1, cells, axis.taps, 1, 1, 0))
  depth, height, width = axes
  batch = problem.batch * math.prod(problem.dilations)
  return problem.replace(padding="VALID", batch=batch, axes=(depth, height, width))


def _phases(
  problem: Problem, tensor: tf.Tensor, pads: list[int], lengths: list[sizes.Size]
) -> tf.Tensor:
  """Returns the phases of a channels-last tensor, padded in front, with so many cells each."""
  changes = {
    dimension: (pad, length * dilation)
    for dimension, pad, length, dilation in zip((1, 2, 3), pads, lengths, problem.dilations)
  }
  return tf.space_to_batch(shifts.refit(tensor, changes), problem.dilations, [[0, 0]] * 3)


def native(
  function: Function, problem: Problem, plan: Plan, compute: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
  """Returns TensorFlow's operation, for a graph only.

  Args:
    function: The function.
    problem: The problem.
    plan: The plan.
    compute: What casts, transposes and calls it, where the operands are not as it takes them.
  """
  as_it_is = Plan(plan.device, plan.is_onednn, problem.dtype, problem.data_format)
  operation = _raw(function, problem) if plan == as_it_is else _named(function, problem, compute)
  if plan.device == "GPU" or _is_in_proportion(function, problem):
    return operation

  def where_allocatable(*operands: tf.Tensor, name: str | None = None) -> tf.Tensor:
    named = functools.partial(operation, name=name)
    return memory.allocatable(named, function.shape(problem), plan.dtype)(*operands)

  return where_allocatable


def _is_in_proportion(function: Function, problem: Problem) -> bool:
  """Returns whether a result of unknown size can only be large where an operand is.

  So it is with small samples, as many as an operand has, and with a convolution's cells, no more
  than its input's. Nothing is asked then before TensorFlow's own operation: asking has a state, so
  TensorFlow Lite would not convert the model, and `tf.data` not save an iterator.
  """
  if problem.is_static:
    return False
  one = problem.replace(batch=1)
  if one.is_static:
    return memory.is_small(function.shape(one), problem.dtype)
  return function is CONV3D


def _named(
  function: Function, problem: Problem, compute: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
  def operations(*operands: tf.Tensor, name: str | None = None) -> tf.Tensor:
    result = compute(*operands)
    result.set_shape(sizes.static(function.shape(problem)))
    return tf.identity(result, name=name or function.op)

  return operations


def arguments(function: Function, problem: Problem) -> dict[str, Any]:
  """Returns what TensorFlow's op takes besides the operands."""
  found = problem.attributes.arguments()
  if function is CONV3D:
    found["padding"] = problem.unambiguous_padding
  if function.asked_by not in function.operands:
    found[function.asked_by] = _result_sizes(function, problem)
  return found


def _raw(function: Function, problem: Problem) -> Callable[..., tf.Tensor]:
  others = arguments(function, problem)
  names = [*map(function.argument, function.operands)]

  def operation(*operands: tf.Tensor, name: str | None = None) -> tf.Tensor:
    result = private.raw_op(function.op)(**dict(zip(names, operands)), **others, name=name)
    result.set_shape(sizes.static(function.shape(problem)))
    return result

  return operation


def _result_sizes(function: Function, problem: Problem) -> tf.Tensor:
  shape = function.shape(problem)
  if not sizes.is_known(*shape):
    return tf.cast(sizes.as_tensor(shape), tf.int32)
  return tf.constant(shape, tf.int32 if max(shape) < 2**31 else tf.int64)


def grouped(
  function: Function,
  problem: Problem,
  compute: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  *operands: tf.Tensor,
) -> tf.Tensor:
  """Returns the results of all groups, joined; `compute` takes one group's operands."""
  dimensions = [group_dimension(tensor, problem) for tensor in function.operands]
  parts = [tf.split(each, problem.groups, d) for each, d in zip(operands, dimensions)]
  results = [compute(*of_group) for of_group in zip(*parts)]
  return tf.concat(results, group_dimension(function.result, problem))


def _mapped(
  compute: Callable[[tf.Tensor], tf.Tensor], problem: Problem, tensor: tf.Tensor
) -> tf.Tensor:
  """Returns `compute(tensor)`, sample by sample."""
  if sizes.is_known(problem.batch) and problem.batch <= _MAX_UNROLLED_BATCH:
    return tf.concat([compute(sample) for sample in tf.split(tensor, problem.batch)], axis=0)
  return tf.map_fn(
    tf.autograph.experimental.do_not_convert(lambda sample: compute(sample[tf.newaxis])[0]),
    tensor,
    parallel_iterations=processor.cores(),  # each holds the columns of a sample
  )


def _padded(input: tf.Tensor, problem: Problem) -> tf.Tensor:  # noqa: A002
  """Returns the input as VALID padding takes it: padded, and without the cells that are skipped."""
  spatial = zip(problem.layout.spatial, problem.axes)
  return shifts.refit(input, {dimension: (axis.pad, axis.reach) for dimension, axis in spatial})


def as_the_kernel_takes_it(problem: Problem, plan: Plan) -> Problem:
  """Returns a problem in the dtype and the data format of a plan."""
  if problem.dtype == plan.dtype and problem.data_format == plan.data_format:
    return problem
  return problem.replace(dtype=plan.dtype, data_format=plan.data_format)


def adapted(tensor: tf.Tensor, problem: Problem, inner: Problem) -> tf.Tensor:
  """Returns an input or output of a problem as the kernel takes it."""
  return cast(rearranged(tensor, problem.layout, inner.layout), inner.dtype)


def restored(tensor: tf.Tensor, problem: Problem, inner: Problem) -> tf.Tensor:
  """Returns an input or output of the kernel in the dtype and the data format of a problem."""
  return rearranged(cast(tensor, problem.dtype), inner.layout, problem.layout)


def cast(tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """Returns a tensor in a dtype."""
  # Even a cast to the dtype that it has costs a small eager call a tenth of its time.
  return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)
