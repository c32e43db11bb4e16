"""From a function of a convolution and a problem to its result, as the policy plans it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad import autotune, compiled, memory, nonfinite, policy, sizes, tf_compat
from tf_conv3d_grad.functions import BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.lowering import im2col, kernel, overlap_add, tap_loop
from tf_conv3d_grad.plan import KERNEL, OVERLAP_ADD, TAP_LOOP, Plan
from tf_conv3d_grad.problem import Problem

_LOWERINGS = {
  KERNEL: {
    "backprop_input": kernel.backprop_input,
    "conv3d": kernel.conv3d,
    "backprop_filter": kernel.backprop_filter,
  },
  OVERLAP_ADD: {
    "backprop_input": overlap_add.backprop_input,
    "conv3d": im2col.conv3d,
    "backprop_filter": im2col.backprop_filter,
  },
  TAP_LOOP: {
    "backprop_input": tap_loop.backprop_input,
    "conv3d": tap_loop.conv3d,
    "backprop_filter": tap_loop.backprop_filter,
  },
}


def compute(function: Function, problem: Problem, *operands: tf.Tensor) -> tf.Tensor:
  """Returns a function of a convolution, computed here and now; without derivatives."""
  environment = policy.Environment.here(problem.dtype, *operands)
  transformed = tf_compat.in_vectorized_loop()
  result = prepared(function, problem, environment, transformed)(*operands)
  shape = function.shape(problem)
  result.set_shape([size if sizes.is_known(size) else None for size in shape])
  return result


def prepared(
  function: Function, problem: Problem, environment: policy.Environment, vectorized: bool = False
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns what computes a function for one problem and environment, without derivatives.

  `vectorized` says that this is the body of a vectorized loop.
  """
  shape = function.shape(problem)
  if tf.executing_eagerly() and environment.device == "CPU":
    memory.require(function.asked_by, shape, problem.dtype)
  if any(sizes.is_known(size) and size == 0 for size in _sizes(problem)):
    return lambda *_: memory.zeros(shape, problem.dtype)
  plan = _plan(function, problem, environment)
  if vectorized and (plan.compiled or environment.in_xla):
    # TensorFlow does not vectorize XLA's loops over slices. Large calls had better not be in one
    # piece, and only large ones are compiled although the kernel takes them.
    uncompiled = policy.choose(problem, dataclasses.replace(environment, mode=False), function)
    by_kernel = environment.mode == "auto" and uncompiled.lowering == KERNEL
    plan = uncompiled if by_kernel else plan.in_one_piece()
  compute = _by_plan(function, problem, environment, plan)
  return nonfinite.exact(problem, plan, compute) if function is BACKPROP_INPUT else compute


def _plan(function: Function, problem: Problem, environment: policy.Environment) -> Plan:
  if function is not BACKPROP_INPUT or not autotune.is_on():
    return policy.choose(problem, environment, function)
  return autotune.choose(
    problem, environment, functools.partial(_by_plan, function, problem, environment)
  )


def _by_plan(
  function: Function, problem: Problem, environment: policy.Environment, plan: Plan
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns what computes a function as `plan` says."""
  shape = function.shape(problem)
  compute: Callable[..., tf.Tensor] = functools.partial(
    _LOWERINGS[plan.lowering][function.name], problem, plan
  )
  if tf.executing_eagerly() and plan.lowering == KERNEL and function is BACKPROP_INPUT:
    compute = kernel.eager_backprop_input(problem, plan)
  if plan.lowering == KERNEL and plan.device == "CPU":
    compute = memory.allocatable(compute, shape, plan.kernel_dtype)
    eigen = not policy.is_onednn(plan, environment)
    compute = _where_the_kernel_can(function, problem, plan, eigen, compute)
  if plan.compiled and problem.is_static:
    uncompiled = functools.partial(_uncompiled, function, problem, environment)
    compute = compiled.function((function.name, problem, plan), compute, uncompiled)
  elif plan.compiled:
    traced = tf.function(compute, jit_compile=True, autograph=False)
    return lambda *operands: traced(*compiled.of_this_graph(*operands))
  return compute


def _uncompiled(
  function: Function, problem: Problem, environment: policy.Environment, *operands: tf.Tensor
) -> tf.Tensor:
  environment = dataclasses.replace(environment, mode=False)
  plan = policy.choose(problem, environment, function)  # not timed: this may be a timing
  compute = _by_plan(function, problem, environment, plan)
  if function is BACKPROP_INPUT:
    compute = nonfinite.exact(problem, plan, compute)
  return compute(*operands)


def _where_the_kernel_can(
  function: Function, problem: Problem, plan: Plan, eigen: bool, compute: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
  """Returns `compute`, the CPU's kernel, with what to do instead where only the run will tell.

  The kernel refuses groups and tensors of no channels, its convolution gives some empty outputs the
  shape of the input, Eigen's gradient of an empty output ends the process, and a batch may turn out
  to have no sample to call it for.
  """
  conditions = []
  if plan.by_sample and not sizes.is_known(problem.batch):
    conditions.append(problem.batch > 0)  # a loop over nothing does not know what to return
  if not sizes.is_known(problem.groups):
    conditions.append(tf.equal(problem.groups, 1))
  channels = [problem.in_channels, problem.filter_in_channels, problem.out_channels]
  if not sizes.is_known(*channels):
    conditions.append(tf.reduce_all(sizes.as_tensor(channels) > 0))
  if not sizes.is_known(*problem.taps):
    conditions.append(tf.reduce_all(sizes.as_tensor(problem.taps) > 0))
  lengths = [axis.output for axis in problem.axes]
  if (function is CONV3D or eigen) and not sizes.is_known(*lengths):
    conditions.append(tf.reduce_all(sizes.as_tensor(lengths) > 0))
  if not conditions:
    return compute
  can = tf.reduce_all(tf.stack(conditions))
  otherwise = functools.partial(_LOWERINGS[TAP_LOOP][function.name], problem, plan)
  return lambda *operands: tf.cond(can, lambda: compute(*operands), lambda: otherwise(*operands))


def _sizes(problem: Problem) -> list:
  return problem.input_shape + problem.filter_shape + problem.out_backprop_shape
