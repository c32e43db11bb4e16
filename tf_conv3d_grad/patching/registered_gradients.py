"""The gradients of TensorFlow's three 3-D convolution operations, computed by this package.

TensorFlow keeps one gradient function an operation type, and looks it up when it differentiates.
These take the place of its own while the patch is on. What they return is differentiable again.

An eager tape hands over only what TensorFlow's own gradient of the operation reads: not
`input_sizes`, not `filter_sizes`, and no outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.ops import derivatives
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.problem.layout import OF_DATA_FORMAT
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.cache import Cache

# Problems of eager calls, by shapes and attributes; checking takes longer than a small gradient.
_problems: Cache[Problem] = Cache(4096)


def conv3d(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3D` in its input and its filter."""
  input, filter = op.inputs  # noqa: A001
  problem, filter, gradient = _validated(  # noqa: A001
    op, _shape(input), filter, _without_wrong_shape(op, gradient)
  )
  input = _with_shape(input, problem.input_shape)  # noqa: A001
  return [
    derivatives.apply(BACKPROP_INPUT, problem, filter, gradient),
    derivatives.apply(BACKPROP_FILTER, problem, input, gradient),
  ]


def backprop_input(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3DBackpropInputV2` in its filter and its out_backprop."""
  _, filter, out_backprop = op.inputs  # noqa: A001
  problem, filter, out_backprop = _validated(  # noqa: A001
    op, _shape(gradient), filter, _without_wrong_shape(op, out_backprop)
  )
  gradient = _with_shape(gradient, problem.input_shape)
  return [
    None,
    derivatives.apply(BACKPROP_FILTER, problem, gradient, out_backprop),
    derivatives.apply(CONV3D, problem, filter, gradient),
  ]


def backprop_filter(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3DBackpropFilterV2` in its input and its out_backprop."""
  input, _, out_backprop = op.inputs  # noqa: A001
  problem, gradient, out_backprop = _validated(
    op, _shape(input), gradient, _without_wrong_shape(op, out_backprop)
  )
  input = _with_shape(input, problem.input_shape)  # noqa: A001
  return [
    derivatives.apply(BACKPROP_INPUT, problem, gradient, out_backprop),
    None,
    derivatives.apply(CONV3D, problem, gradient, input),
  ]


def _in_context(gradient_function: Callable[..., list]) -> Callable[..., list]:
  """Returns a gradient function that works where its operation does."""

  @functools.wraps(gradient_function)
  def in_context(op: Any, gradient: tf.Tensor) -> list:
    with private.gradient_context(private.was_in_xla_context(op)):
      return gradient_function(op, gradient)

  return in_context


REGISTERED = {
  "Conv3D": _in_context(conv3d),
  "Conv3DBackpropInputV2": _in_context(backprop_input),
  "Conv3DBackpropFilterV2": _in_context(backprop_filter),
}


def _validated(
  op: Any,
  input_sizes: Any,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tuple[Problem, tf.Tensor, tf.Tensor]:
  """Returns the problem that the operation is, and its two tensors fit to compute with."""
  attributes = [op.get_attr(name) for name in ("strides", "padding", "data_format", "dilations")]
  if not tf.executing_eagerly():
    problem, filter, out_backprop = validation.validate(  # noqa: A001
      input_sizes, filter, out_backprop, *attributes
    )
    return problem, filter, _with_shape(out_backprop, problem.out_backprop_shape)

  def problem_of_call() -> Problem:
    return validation.validate(input_sizes, filter, out_backprop, *attributes)[0]

  shapes = tuple(input_sizes), private.shape_tuple(filter), private.shape_tuple(out_backprop)
  known = _problems.get((str(attributes), filter.dtype, shapes), problem_of_call)
  return known, filter, out_backprop


def _shape(tensor: tf.Tensor) -> Any:
  """Returns the shape of a tensor, with integers for the lengths that are known."""
  return tf.shape(tensor) if tensor.shape.rank is None else sizes.shape_of(tensor)


def _with_shape(tensor: tf.Tensor, shape: list) -> tf.Tensor:
  """Returns a tensor whose static shape has what is known of `shape`."""
  if tensor.shape.is_fully_defined():
    return tensor
  tensor = tf.identity(tensor)
  tensor.set_shape(sizes.static(shape))
  return tensor


def _without_wrong_shape(op: Any, out_backprop: tf.Tensor) -> tf.Tensor:
  """Returns a convolution's output, or a tensor like it, without the static shape if that lies."""
  data_format = tf.compat.as_str(op.get_attr("data_format"))
  padding = tf.compat.as_str(op.get_attr("padding"))
  _, spatial, _ = OF_DATA_FORMAT[data_format].split(op.get_attr("dilations"))
  return private.without_wrong_shape(out_backprop, padding, spatial)
