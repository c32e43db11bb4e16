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
from tf_conv3d_grad.problem import functions, sizes
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import (
  BACKPROP_FILTER,
  BACKPROP_INPUT,
  CONV3D,
  FILTER,
  INPUT,
  OUTPUT,
  Function,
)
from tf_conv3d_grad.problem.layout import OF_DATA_FORMAT
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.cache import Cache

# Problems of eager calls, by shapes and attributes; checking takes longer than a small gradient.
_problems: Cache[Problem] = Cache(4096)


def conv3d(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3D` in its input and its filter."""
  input, filter = op.inputs  # noqa: A001
  return _gradients(CONV3D, op, {FILTER: filter, INPUT: input, OUTPUT: gradient})


def backprop_input(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3DBackpropInputV2` in its filter and its out_backprop."""
  _, filter, out_backprop = op.inputs  # noqa: A001
  tensors = {FILTER: filter, INPUT: gradient, OUTPUT: out_backprop}
  return [None, *_gradients(BACKPROP_INPUT, op, tensors)]


def backprop_filter(op: Any, gradient: tf.Tensor) -> list:
  """Returns the gradients of a `Conv3DBackpropFilterV2` in its input and its out_backprop."""
  input, _, out_backprop = op.inputs  # noqa: A001
  tensors = {FILTER: gradient, INPUT: input, OUTPUT: out_backprop}
  in_input, in_out_backprop = _gradients(BACKPROP_FILTER, op, tensors)
  return [in_input, None, in_out_backprop]


def _gradients(function: Function, op: Any, tensors: dict[str, tf.Tensor]) -> list[tf.Tensor]:
  """Returns the gradients of an operation in its two tensors, in their order.

  Args:
    function: What the operation computes.
    op: The operation.
    tensors: Its two tensors, and the gradient in place of its result.
  """
  # What the shape function of a convolution has inferred may be wrong.
  tensors = {**tensors, OUTPUT: _without_wrong_shape(op, tensors[OUTPUT])}
  problem = _problem(op, tensors)
  tensors = {
    name: _with_shape(tensor, functions.shape(name, problem)) for name, tensor in tensors.items()
  }
  order = (INPUT, FILTER) if function is CONV3D else function.operands
  others = [functions.BY_RESULT[name] for name in order]
  return [
    derivatives.in_the_place_of_tensorflow(
      other, problem, *(tensors[name] for name in other.operands)
    )
    for other in others
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


def _problem(op: Any, tensors: dict[str, tf.Tensor]) -> Problem:
  """Returns the problem of an operation's two tensors and of the gradient in its result."""
  strides, padding, data_format, dilations = map(
    op.get_attr, ("strides", "padding", "data_format", "dilations")
  )
  shapes = {name: _shape(tensor) for name, tensor in tensors.items()}
  dtype = tensors[FILTER].dtype

  def checked() -> Problem:
    problem, _, _ = validation.validate(
      BACKPROP_INPUT,
      input_sizes=shapes[INPUT],
      filter=tensors[FILTER],
      out_backprop=tensors[OUTPUT],
      strides=strides,
      padding=padding,
      data_format=data_format,
      dilations=dilations,
    )
    return problem

  if tf.executing_eagerly():
    key = (strides, padding, data_format, dilations)
    return _problems.get((str(key), dtype, str(shapes)), checked)
  if any(tf.is_tensor(shape) for shape in shapes.values()) or all(
    sizes.is_known(*shape) for shape in shapes.values()
  ):
    return checked()
  # The operation has seen to it that its tensors fit, and the gradient is like its result. Asking
  # again at run time what is unknown here would take a small network a tenth of its step.
  layout = OF_DATA_FORMAT[tf.compat.as_str(data_format)]
  attributes = Attributes(
    tf.compat.as_str(data_format),
    tf.compat.as_str(padding),
    tuple(layout.split(strides)[1]),
    tuple(layout.split(dilations)[1]),
  )
  return Problem.of_shapes(dtype, attributes, shapes[FILTER], shapes[INPUT], shapes[OUTPUT])


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
