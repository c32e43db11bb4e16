"""The op and its two derivatives as one call of TensorFlow's own kernel.

On the CPU outside XLA that is oneDNN's or Eigen's, on a GPU cuDNN's. The plan says in which dtype and
data format the kernel takes the call; a cast and a transpose do the rest.
"""

import tensorflow as tf

from tf_conv3d_grad import sizes, tf_compat
from tf_conv3d_grad.plan import Plan
from tf_conv3d_grad.problem import NDHWC, Problem, channels_last, from_channels_last


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  inner = _as_the_kernel_takes_it(problem, plan)
  result = tf_compat.conv3d_transpose(
    input=_adapted(out_backprop, problem, inner),
    filters=tf.cast(filter, inner.dtype),
    output_shape=sizes.as_tensor(inner.input_shape),
    **_attributes(inner),
  )
  return _restored(result, problem, inner)


def conv3d(problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution itself, the op's derivative in `out_backprop`."""
  inner = _as_the_kernel_takes_it(problem, plan)
  result = tf_compat.raw_conv3d(
    input=_adapted(input, problem, inner),
    filter=tf.cast(filter, inner.dtype),
    **_attributes(inner),
  )
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
  return tf.cast(result, problem.dtype)


def _as_the_kernel_takes_it(problem: Problem, plan: Plan) -> Problem:
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
  return tf.cast(tensor, inner.dtype)


def _restored(tensor: tf.Tensor, problem: Problem, inner: Problem) -> tf.Tensor:
  tensor = tf.cast(tensor, problem.dtype)
  if inner.data_format == NDHWC:
    tensor = from_channels_last(tensor, problem.data_format)
  return tensor
