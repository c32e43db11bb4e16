"""Eager calls of TensorFlow's kernels, with as little Python as possible.

A kernel takes 50 microseconds for a small call. What follows from the problem alone would take
Python longer. It is computed once, before the first call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad.lowering.interface import Compute
from tf_conv3d_grad.lowering.kernel import run
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import CONV3D, FILTER, Function
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.cache import Cache

# Functions that compute batches sample by sample. Each holds a graph of some 100 kB.
_by_sample: Cache[Callable] = Cache(256)


def prepared(function: Function, problem: Problem, plan: Plan) -> Compute:
  """Returns what computes a function of a problem, for eager calls."""
  in_steps = functools.partial(function.of(run), problem, plan)
  if plan.by_sample:
    # In a graph the samples run side by side: the kernel adds up each one's columns on one thread.
    key = (function.name, problem, plan)
    return _by_sample.get(key, functools.partial(_traced, function, problem, in_steps))
  if plan.by_phase or (function is CONV3D and problem.unambiguous_padding is None):
    return in_steps
  inner = run.as_the_kernel_takes_it(problem, plan)
  compute = _kernel(function, inner)
  if inner.data_format != problem.data_format:
    return _rearranging(function, problem, inner, compute)
  if inner.dtype != problem.dtype:
    cast, outside, inside = tf.raw_ops.Cast, problem.dtype, inner.dtype
    return lambda first, second: cast(
      x=compute(cast(x=first, DstT=inside), cast(x=second, DstT=inside)), DstT=outside
    )
  return compute


def _traced(function: Function, problem: Problem, compute: Compute) -> Compute:
  """Returns `compute` as a graph for the operands of a problem."""
  shapes = (functions.shape(name, problem) for name in function.operands)
  specs = [tf.TensorSpec(shape, problem.dtype) for shape in shapes]
  return private.of_one_trace(tf.function(compute, autograph=False), *specs)


def _kernel(function: Function, problem: Problem) -> Compute:
  """Returns what calls the kernel, with tensors as it takes them."""
  op, arguments = private.raw_op(function.op), run.arguments(function, problem)
  first_name, second_name = map(function.argument, function.operands)
  return lambda first, second: op(**{first_name: first, second_name: second}, **arguments)


def _rearranging(
  function: Function, problem: Problem, inner: Problem, compute: Compute
) -> Compute:
  """Returns `compute`, which takes the tensors of `inner`, for those of `problem`."""

  def adapted(name: str, tensor: tf.Tensor) -> tf.Tensor:
    if name == FILTER:  # it is the same in both data formats
      return run.cast(tensor, inner.dtype)
    return run.adapted(tensor, problem, inner)

  def rearranging(*operands: tf.Tensor) -> tf.Tensor:
    result = compute(*map(adapted, function.operands, operands))
    if function.result == FILTER:
      return run.cast(result, problem.dtype)
    return run.restored(result, problem, inner)

  return rearranging
