"""A call of one of the three ops, from its arguments to its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.execution import eager_calls
from tf_conv3d_grad.ops import derivatives
from tf_conv3d_grad.problem.functions import Function


def call(
  function: Function,
  result_sizes: Any,
  first: Any,
  second: Any,
  strides: Any,
  padding: Any,
  data_format: Any,
  dilations: Any,
  name: str | None,
) -> tf.Tensor:
  """Returns what an op returns.

  Args:
    function: Which function of a convolution the op computes.
    result_sizes: The op's argument with the sizes of its result; None if it has no such argument.
    first: The first of the function's operands.
    second: The second of the function's operands.
    strides: The op's argument.
    padding: The op's argument.
    data_format: The op's argument.
    dilations: The op's argument.
    name: The op's argument.

  Raises:
    tf.errors.InvalidArgumentError: An argument is malformed. Eager calls raise it at once. A graph
      raises it when it runs, for values that are known only then.
    ValueError: An argument is malformed, and known to be so while a graph is built; or it cannot be
      converted to a tensor.
    TypeError: A dtype is not supported, while a graph is built; or an attribute has the wrong
      Python type.
  """
  prepared = eager_calls.find(
    function, result_sizes, first, second, strides, padding, data_format, dilations
  )
  if prepared is not None:
    return prepared(first, second)
  return checked(
    function,
    derivatives.named,
    name,
    **function.arguments(first, second, result_sizes),
    strides=strides,
    padding=padding,
    data_format=data_format,
    dilations=dilations,
  )


# AutoGraph would convert this package too when a user's function is traced, which takes long and
# changes nothing.
@tf.autograph.experimental.do_not_convert
def checked(
  function: Function, apply: Callable[..., tf.Tensor], name: str | None, **arguments: Any
) -> tf.Tensor:
  """Checks a call and returns its result.

  Args:
    function: Which function of a convolution the op computes.
    apply: `derivatives.named` or `derivatives.in_the_place_of_tensorflow`.
    name: The op's argument.
    **arguments: The op's other arguments, by their names.
  """
  problem, *operands = validation.validate(function, **arguments)
  return apply(function, problem, *operands, name=name)
