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
    function: Which function of a convolution the op is.
    result_sizes: What the op is given as its result's sizes; None where it is given none.
    first: The first of the function's operands, and
    second: the second.
    strides: As the op's, and so
    padding: this,
    data_format: this,
    dilations: this, and
    name: this one.

  Raises:
    tf.errors.InvalidArgumentError: For a malformed argument, when executing eagerly or when the
      graph that contains the call runs.
    ValueError: For an argument that is known to be malformed while building a graph, and for one
      that cannot be converted to a tensor.
    TypeError: For a dtype that is not supported while building a graph, and for an attribute of the
      wrong Python type.
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
    function: Which function of a convolution the op is.
    apply: `derivatives.named` or `derivatives.in_the_place_of_tensorflow`.
    name: As the op's.
    **arguments: The op's others, by their names.
  """
  problem, *operands = validation.validate(function, **arguments)
  return apply(function, problem, *operands, name=name)
