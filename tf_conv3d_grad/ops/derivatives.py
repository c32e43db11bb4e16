"""Each of the three functions of a convolution, with the others as its derivatives.

This is the only place that tells TensorFlow about reverse and forward mode, in any order and
mixture. No tape and no accumulator sees the operations inside. A graph keeps each call as an
`IdentityN` of the result and the operands with a registered gradient. That gradient takes the
operands from the operation whose gradient is asked for. So it also works in a copy of the graph:
what `tf.import_graph_def` makes, and what TensorFlow moves out of a branch or a loop.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any, cast

import tensorflow as tf

from tf_conv3d_grad.execution import execute
from tf_conv3d_grad.problem import functions, sizes
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import FILTER, INPUT, OUTPUT, Function
from tf_conv3d_grad.tensorflow import private

# TensorFlow knows gradients by name. Each call has one, as with `tf.custom_gradient`.
_numbers = itertools.count()


def apply(
  function: Function, problem: Problem, *operands: tf.Tensor, exactly: bool = True
) -> tf.Tensor:
  """Returns a function of a convolution, differentiable to every order.

  Args:
    function: Which of the three.
    problem: The problem.
    *operands: The two tensors that the function takes.
    exactly: Whether infinities and NaNs must reach exactly what the sum says, also in derivatives.
      Eager calls always are exact.
  """
  if tf.executing_eagerly() and not private.is_recording():
    return execute.compute(function, problem, *operands)
  if not private.can_record():
    return _custom_gradient(function, problem, *operands, exactly=exactly)
  in_xla = private.in_xla_context()
  with private.stop_recording():
    result = execute.compute(function, problem, *operands, exactly=exactly)
    if not tf.executing_eagerly():
      result = _marked(function, problem.attributes, in_xla, result, operands, exactly)

  def gradients(gradient: Any) -> list[tf.Tensor]:
    with private.gradient_context(in_xla):
      return _gradients(function, problem, operands, _dense(gradient, result), exactly)

  def tangent(*tangents: tf.Tensor) -> list[tf.Tensor]:
    # The product rule. An operand without a tangent has a tangent of zeros.
    left, right = operands
    in_left, in_right = tangents
    of_left = apply(function, problem, in_left, right, exactly=exactly)
    return [of_left + apply(function, problem, left, in_right, exactly=exactly)]

  private.record(function.name, result, operands, gradients, tangent)
  return result


def in_the_place_of_tensorflow(
  function: Function, problem: Problem, *operands: tf.Tensor, name: str | None = None
) -> tf.Tensor:
  """Returns a function of a convolution where TensorFlow's own operation was called for.

  In a graph it is TensorFlow's operation itself, where that computes just the same. So a network
  costs no more than before, and TensorFlow still fuses the operation with bias and activation.
  While TensorFlow is patched, the registered gradient of that operation is this package's.

  In graphs, infinities are not looked for: a training step would take up to a fifth longer to trace
  and compile. Eager calls always are exact.
  """
  if not tf.executing_eagerly():
    native = execute.native(function, problem, *operands)
    if native is not None:
      return native(*operands, name=name)
  return named(function, problem, *operands, name=name, exactly=False)


def named(
  function: Function,
  problem: Problem,
  *operands: tf.Tensor,
  name: str | None,
  exactly: bool = True,
) -> tf.Tensor:
  """Returns a function of a convolution, as `apply` does, under a name in a graph."""
  result = apply(function, problem, *operands, exactly=exactly)
  return result if tf.executing_eagerly() else tf.identity(result, name=name or function.op)


def _gradients(
  function: Function, problem: Problem, operands: tuple, gradient: tf.Tensor, exactly: bool
) -> list[tf.Tensor]:
  """Returns the gradients in the two operands, given that in the result."""
  tensors = {function.result: gradient, **dict(zip(function.operands, operands))}
  others = [functions.BY_RESULT[operand] for operand in function.operands]
  return [
    apply(other, problem, *(tensors[name] for name in other.operands), exactly=exactly)
    for other in others
  ]


def _dense(gradient: Any, result: tf.Tensor) -> tf.Tensor:
  """Returns a gradient as a tensor of the result's shape.

  It is sparse where slices of the result were gathered, and TensorFlow may have lost even its rank.
  """
  if isinstance(gradient, tf.IndexedSlices):
    gradient = tf.math.unsorted_segment_sum(
      gradient.values, gradient.indices, sizes.shape_of(result)[0]
    )
  if gradient.shape.is_fully_defined():
    return gradient
  gradient = tf.identity(gradient)
  gradient.set_shape(result.shape)
  return gradient


def _marked(
  function: Function,
  attributes: Attributes,
  in_xla: bool,
  result: tf.Tensor,
  operands: tuple,
  exactly: bool,
) -> tf.Tensor:
  """Returns the result, which has a registered gradient in the operands."""
  graph = tf.compat.v1.get_default_graph()
  name_of_mark: list[str] = []
  name = f"tf_conv3d_grad_{function.name}_{next(_numbers)}"
  of_graph = weakref.ref(graph)  # TensorFlow forgets no gradient: the graph must not live as long

  @tf.RegisterGradient(name)
  @tf.autograph.experimental.do_not_convert
  def gradient_of_mark(mark: tf.Operation | None, gradient: Any, *others: Any) -> list:
    del others  # named so, as a SavedModel's gradient names its inputs by them
    # A SavedModel's gradient is traced without an operation, and keeps the operands by itself.
    if mark is None:
      mark = cast(tf.Graph, of_graph()).get_operation_by_name(name_of_mark[0])
    gradient = _dense(gradient, mark.outputs[0])
    # Fetched from the operation's own loop or branch here, once, and not from within those inside.
    operands = tuple(map(tf.identity, mark.inputs[1:]))
    tensors = {function.result: gradient, **dict(zip(function.operands, operands))}
    shapes = (sizes.shape_of(tensors[name]) for name in (FILTER, INPUT, OUTPUT))
    problem = Problem.of_shapes(gradient.dtype, attributes, *shapes)
    with private.gradient_context(in_xla):
      return [None, *_gradients(function, problem, operands, gradient, exactly)]

  with graph.gradient_override_map({"IdentityN": name}):
    marked, *_ = tf.identity_n([result, *operands])
  name_of_mark.append(marked.op.name)
  return marked


def _custom_gradient(
  function: Function, problem: Problem, *operands: tf.Tensor, exactly: bool
) -> tf.Tensor:
  """Does as `apply` by TensorFlow's public means, which have no forward mode over a graph."""

  @tf.custom_gradient
  def differentiable(*operands: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    result = execute.compute(function, problem, *operands, exactly=exactly)

    def gradients(gradient: tf.Tensor) -> list[tf.Tensor]:
      return _gradients(function, problem, operands, _dense(gradient, result), exactly)

    return result, gradients

  return differentiable(*operands)
