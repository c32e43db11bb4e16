"""The op and its two derivatives as one call of TensorFlow's own kernel.

On the CPU outside XLA that is oneDNN's or Eigen's, on a GPU cuDNN's. The plan says in which dtype
and data format the kernel takes the call; a cast and a transpose do the rest.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad import compiled, processor, sizes, tf_compat
from tf_conv3d_grad.plan import Plan
from tf_conv3d_grad.problem import NDHWC, Problem, channels_last, from_channels_last

# Samples up to which a batch is unrolled rather than looped over.
_MAX_UNROLLED_BATCH = 16

# What computes batches sample by sample in eager calls. Each holds a graph of some 100 kB.
_by_sample = compiled.FunctionCache(256)


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  if plan.by_group:
    group, each = _one_group(problem, plan)
    return _grouped(functools.partial(backprop_input, group, each), problem, filter, out_backprop)
  inner = _as_the_kernel_takes_it(problem, plan)
  filter = _cast(filter, inner.dtype)  # noqa: A001
  one = inner.replace(batch=1) if plan.by_sample else inner
  output_shape = sizes.as_tensor(one.input_shape)
  if plan.device == "CPU":
    # Given constants, the optimizer would run a kernel that adds halves up in their own precision,
    # and unguarded.
    output_shape = tf_compat.unknown_to_the_optimizer(output_shape)

  def compute(tensor: tf.Tensor) -> tf.Tensor:
    return tf_compat.conv3d_transpose(
      input=tensor,
      filters=filter,
      output_shape=output_shape,
      **_attributes(one),
    )

  result = _mapped(compute, plan, inner, _adapted(out_backprop, problem, inner))
  return _restored(result, problem, inner)


def eager_backprop_input(
  problem: Problem, plan: Plan
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns `backprop_input` for eager calls of a static problem, with as little Python as can be.

  A small call takes the kernel 50 microseconds, and `tf.nn.conv3d_transpose` as long to get there.
  """
  if plan.by_group:
    of_group = eager_backprop_input(*_one_group(problem, plan))
    return functools.partial(_grouped, of_group, problem)
  if plan.by_sample:
    return _by_sample.get((problem, plan), functools.partial(_traced, problem, plan))
  inner = _as_the_kernel_takes_it(problem, plan)
  input_sizes, attributes = sizes.as_tensor(inner.input_shape), _attributes(inner)

  def compute(filter: tf.Tensor, out_backprop: tf.Tensor) -> tf.Tensor:  # noqa: A002
    return tf_compat.raw_backprop_input(
      input_sizes=input_sizes, filter=filter, out_backprop=out_backprop, **attributes
    )

  if inner.data_format == problem.data_format:
    if inner.dtype == problem.dtype:
      return compute
    cast = tf.raw_ops.Cast
    return lambda filter, out_backprop: cast(
      x=compute(
        cast(x=filter, DstT=inner.dtype), cast(x=out_backprop, DstT=inner.dtype)
      ),
      DstT=problem.dtype,
    )
  return lambda filter, out_backprop: _restored(
    compute(_cast(filter, inner.dtype), _adapted(out_backprop, problem, inner)), problem, inner
  )


def _traced(problem: Problem, plan: Plan) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns `backprop_input` as a graph, in which the samples of a batch run side by side.

  Eagerly one would wait for the other, though Eigen's kernel leaves most of it to one thread.
  """
  shapes = (problem.filter_shape, problem.out_backprop_shape)
  function = tf.function(functools.partial(backprop_input, problem, plan), autograph=False)
  # Called by itself, without a look at the operands for the right graph, in half the time.
  return function.get_concrete_function(*(tf.TensorSpec(shape, problem.dtype) for shape in shapes))


def conv3d(problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution itself, the op's derivative in `out_backprop`."""
  inner = _as_the_kernel_takes_it(problem, plan)
  filter = _cast(filter, inner.dtype)  # noqa: A001
  input = _adapted(input, problem, inner)  # noqa: A001
  input = tf_compat.without_wrong_shape(input, inner.padding, inner.dilations)  # noqa: A001
  result = tf_compat.raw_conv3d(input=input, filter=filter, **_attributes(inner))
  return _restored(result, problem, inner)


def backprop_filter(
  problem: Problem,
  plan: Plan,
  input: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its filter, the op's derivative in `filter`."""
  inner = _as_the_kernel_takes_it(problem, plan)
  result = tf_compat.raw_backprop_filter(
    input=_adapted(input, problem, inner),
    filter_sizes=tf.cast(sizes.as_tensor(inner.filter_shape), tf.int32),
    out_backprop=_adapted(out_backprop, problem, inner),
    **_attributes(inner),
  )
  return _cast(result, problem.dtype)


def _one_group(problem: Problem, plan: Plan) -> tuple[Problem, Plan]:
  group = problem.replace(
    in_channels=problem.filter_in_channels, out_channels=problem.out_channels // problem.groups
  )
  return group, dataclasses.replace(plan, by_group=False)


def _grouped(
  compute: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  problem: Problem,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the results of all groups; `compute` takes one group's filter and out_backprop."""
  channels = 4 if problem.data_format == NDHWC else 1
  filters = tf.split(filter, problem.groups, axis=-1)
  rows = tf.split(out_backprop, problem.groups, axis=channels)
  return tf.concat([compute(*operands) for operands in zip(filters, rows)], axis=channels)


def _mapped(
  compute: Callable[[tf.Tensor], tf.Tensor], plan: Plan, problem: Problem, tensor: tf.Tensor
) -> tf.Tensor:
  """Returns `compute(tensor)`, sample by sample if the plan says so."""
  if not plan.by_sample:
    return compute(tensor)
  if sizes.is_known(problem.batch) and problem.batch <= _MAX_UNROLLED_BATCH:
    return tf.concat([compute(sample) for sample in tf.split(tensor, problem.batch)], axis=0)
  return tf.map_fn(
    tf.autograph.experimental.do_not_convert(lambda sample: compute(sample[tf.newaxis])[0]),
    tensor,
    parallel_iterations=processor.cores(),  # each holds the columns of a sample
  )


def _as_the_kernel_takes_it(problem: Problem, plan: Plan) -> Problem:
  if problem.dtype == plan.kernel_dtype and problem.data_format == plan.kernel_format:
    return problem
  return problem.replace(dtype=plan.kernel_dtype, data_format=plan.kernel_format)


def _attributes(problem: Problem) -> dict:
  return {
    "strides": problem.in_format(1, problem.strides, 1),
    "dilations": problem.in_format(1, problem.dilations, 1),
    "padding": problem.padding,
    "data_format": problem.data_format,
  }


def _adapted(tensor: tf.Tensor, problem: Problem, inner: Problem) -> tf.Tensor:
  if inner.data_format == NDHWC:
    tensor = channels_last(tensor, problem.data_format)
  return _cast(tensor, inner.dtype)


def _restored(tensor: tf.Tensor, problem: Problem, inner: Problem) -> tf.Tensor:
  tensor = _cast(tensor, problem.dtype)
  if inner.data_format == NDHWC:
    tensor = from_channels_last(tensor, problem.data_format)
  return tensor


def _cast(tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  # Even a cast to the dtype that it has costs a small eager call a tenth of its time.
  return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)
