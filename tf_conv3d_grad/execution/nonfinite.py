"""Infinities and NaNs, which must reach exactly the cells that the sum says.

The fast lowerings, TensorFlow's kernels among them, multiply padding too, and infinity times zero
is NaN. With an infinity in the filter of a convolution, cells near the borders would turn NaN
although that tap does not reach them. So an op checks whether the operand that padding is
multiplied by is finite: one sum over it, or over the result where that is smaller. If it is not,
the loop over the taps computes the result, which multiplies no padding. In a function that XLA
compiles as a whole, TensorFlow's own operation does: it is as exact as users know it, and compiles
in a quarter of the time.

Infinities in the other operand mostly need no care: they meet only the taps that reach them. But
oneDNN's bfloat16 kernels take channels in pairs. On processors without AMX they pair an odd last
channel with a channel of the cell beside it, multiplied by zero. And Eigen's gradient in the filter
multiplies the input by zeros. There the other operand is looked at in the same way. With oneDNN and
a pointwise filter it is not: the look would take up to a third of such a call.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.execution import compiled
from tf_conv3d_grad.lowering.interface import Compute, Offer
from tf_conv3d_grad.lowering.tap_loop import exactly
from tf_conv3d_grad.problem import functions, geometry, sizes
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import CONV3D, FILTER, INPUT, OUTPUT, Function
from tf_conv3d_grad.tensorflow import private

# What a look at one more tensor costs, in values looked at.
_ONE_MORE = 2**15


def exact(function: Function, problem: Problem, offer: Offer, compute: Compute) -> Compute:
  """Returns a function of a convolution, made exact for operands that are not finite.

  Args:
    function: The function.
    problem: The problem.
    offer: How `compute` computes it.
    compute: Takes the function's operands, returns the result.
  """
  if not offer.lowering.multiplies_padding(function, problem, offer.plan):
    return compute
  look = _Look.of(function, problem, offer)
  if tf.executing_eagerly():
    return functools.partial(_eager, function, problem, look, compute)
  if not private.in_xla_context():
    return functools.partial(_traced, function, problem, look, compute, _by_tap)
  # XLA cannot vectorize a branch over several filters; and what a vectorized loop takes apart must
  # do without TensorFlow's operation, of which kernels are made wherever it is in a graph, or fail.
  if _raw_multiplies_padding(problem) or private.is_called_by_vectorized_loop():
    return compute
  instead = _raw if _can_be_raw(function, problem) else _exactly
  return functools.partial(_traced, function, problem, look, compute, instead)


class _Look(NamedTuple):
  """What is looked at for infinities and NaNs.

  Attributes:
    operands: Which of the two operands, by their places.
    at_result: Whether the result is looked at before them, which shows them too.
  """

  operands: tuple[int, ...]
  at_result: bool

  @classmethod
  def of(cls, function: Function, problem: Problem, offer: Offer) -> _Look:
    places: tuple[int, ...] = (1 - function.operands.index(function.padded),)
    if offer.lowering.multiplies_neighbours(function, problem, offer.plan):
      places = (0, 1)
    shapes = [functions.shape(function.operands[place], problem) for place in places]
    result = function.shape(problem)
    if not sizes.is_known(*result, *itertools.chain(*shapes)):
      return cls(places, at_result=False)
    # Whichever is less: a filter may be a hundred times larger than the result.
    values = sum(map(math.prod, shapes)) + _ONE_MORE * (len(shapes) - 1)
    return cls(places, at_result=math.prod(result) < values)


def _raw_multiplies_padding(problem: Problem) -> bool:
  """Returns whether TensorFlow's own operation, compiled by XLA, spreads NaNs in the same way.

  XLA leaves these to Eigen, which multiplies all padding; of 300 random cases none was an
  exception, nor of 160 of each of the other two functions. Others it takes apart in ways of its
  own.
  """
  return (
    problem.is_static
    and problem.dtype != tf.float64
    and problem.groups == 1
    and all(
      axis.stride == 1
      and axis.taps > 1
      and geometry.extent(axis.taps, axis.dilation) <= axis.output
      for axis in problem.axes
    )
  )


def _eager(
  function: Function, problem: Problem, look: _Look, compute: Compute, *operands: tf.Tensor
) -> tf.Tensor:
  if not look.at_result:
    if all(_is_finite(operands[place]) for place in look.operands):
      return compute(*operands)
  else:
    result = compute(*operands)
    if _is_finite(result) or all(_is_finite(operands[place]) for place in look.operands):
      return result
  return exactly(function, problem)(*operands)


def _is_finite(tensor: tf.Tensor) -> bool:
  array = tensor.__array__()  # numpy() copies, and bfloat16 is none of NumPy's for `np.asarray`
  if array.dtype.itemsize == 2:
    # NumPy adds halves up one by one. As integers, infinities and NaNs are the largest of a sign.
    infinity = 0x7C00 if array.dtype == np.float16 else 0x7F80
    return bool(
      array.view(np.int16).max() < infinity and array.view(np.uint16).max() < infinity + 2**15
    )
  with np.errstate(all="ignore"):
    total = array.sum()
  # The sum of large values may overflow, so only a finite one says something.
  return bool(np.isfinite(total) or np.isfinite(array).all())


def _traced(
  function: Function,
  problem: Problem,
  look: _Look,
  compute: Compute,
  instead: Callable[..., tf.Tensor],
  *operands: tf.Tensor,
) -> tf.Tensor:
  result = compute(*operands)

  def recomputed() -> tf.Tensor:
    return instead(function, problem, result, *operands)

  def unless_not_finite() -> tf.Tensor:
    finite = [_has_finite_sum(operands[place]) for place in look.operands]
    return tf.cond(functools.reduce(tf.logical_and, finite), lambda: result, recomputed)

  if not look.at_result:
    return unless_not_finite()
  return tf.cond(_has_finite_sum(result), lambda: result, unless_not_finite)


def _has_finite_sum(tensor: tf.Tensor) -> tf.Tensor:
  """Returns whether the sum is finite, which it is not if any value is not; or if it overflows."""
  if tensor.dtype == tf.float16:  # its sums overflow soon, bfloat16's do not
    tensor = tf.cast(tensor, tf.float32)
  return tf.math.is_finite(tf.reduce_sum(tensor))


def _can_be_raw(function: Function, problem: Problem) -> bool:
  """Returns whether TensorFlow's own operation, compiled by XLA, has the result of a problem."""
  return function is not CONV3D or not (
    problem.unambiguous_padding is None
    or private.infers_wrong_shape(problem.padding, problem.dilations)
  )


def _exactly(
  function: Function, problem: Problem, result: tf.Tensor, *operands: tf.Tensor
) -> tf.Tensor:
  del result
  return exactly(function, problem)(*operands)


def _raw(
  function: Function, problem: Problem, result: tf.Tensor, *operands: tf.Tensor
) -> tf.Tensor:
  del result
  first, second = operands
  asked = tf.cast(sizes.as_tensor(function.shape(problem)), tf.int32)
  if function is CONV3D:
    problem = problem.replace(padding=problem.unambiguous_padding)
  return private.raw_op(function.op)(
    **function.arguments(first, second, asked), **problem.attributes.arguments()
  )


def _by_tap(
  function: Function, problem: Problem, result: tf.Tensor, *operands: tf.Tensor
) -> tf.Tensor:
  by_tap = _function_by_tap(function, problem.dtype, problem.attributes)
  return by_tap.get()(result, *operands)


@functools.lru_cache(maxsize=256)
def _function_by_tap(
  function: Function, dtype: tf.DType, attributes: Attributes
) -> compiled.OfEachGraph:
  """Returns the loop over the taps as one function for all shapes, so that graphs stay small."""

  def by_tap(result: tf.Tensor, *operands: tf.Tensor) -> tf.Tensor:
    # XLA may compile this after all (it compiles gradients that were not traced for it), and then
    # has to know the sizes: from a shape it does.
    tensors = {function.result: result, **dict(zip(function.operands, operands))}
    shapes = (sizes.shape_of(tensors[name]) for name in (FILTER, INPUT, OUTPUT))
    return exactly(function, Problem.of_shapes(dtype, attributes, *shapes))(*operands)

  def make() -> Callable:
    # Inlined, its hundreds of operations would each be told that they are not to run: 7 of the 68
    # microseconds of a small call. What freezes a wrapped v1 function takes no others.
    inlined = private.is_wrapped_function(private.outermost_graph())
    return tf.function(
      by_tap,
      autograph=False,
      input_signature=[tf.TensorSpec([None] * 5, dtype)] * 3,
      experimental_attributes=None if inlined else {"_noinline": True},
    )

  return compiled.OfEachGraph(make)
