"""The three bilinear functions of a convolution, each with the other two for its derivatives.

With x the input, w the filter and y the output: `conv3d(w, x)`, and its transposes in x,
`backprop_input(w, y)`, and in w, `backprop_filter(x, y)`. Each is linear in both arguments, so the
derivative of any of them is one of the others, and derivatives of every order follow from these
three. That does not rest on TensorFlow's registered gradients, of which some infer wrong shapes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad import autotune, compiled, memory, nonfinite, policy, sizes, tf_compat
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


def backprop_input(problem: Problem, filter: tf.Tensor, out_backprop: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the gradient of the convolution in its input."""
  return _differentiable(
    "backprop_input",
    problem,
    (filter, out_backprop),
    lambda gradient: (
      backprop_filter(problem, gradient, out_backprop),
      conv3d(problem, filter, gradient),
    ),
  )


def conv3d(problem: Problem, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution."""
  return _differentiable(
    "conv3d",
    problem,
    (filter, input),
    lambda gradient: (
      backprop_filter(problem, input, gradient),
      backprop_input(problem, filter, gradient),
    ),
  )


def backprop_filter(problem: Problem, input: tf.Tensor, out_backprop: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the gradient of the convolution in its filter."""
  return _differentiable(
    "backprop_filter",
    problem,
    (input, out_backprop),
    lambda gradient: (
      backprop_input(problem, gradient, out_backprop),
      conv3d(problem, gradient, input),
    ),
  )


def _differentiable(
  name: str, problem: Problem, operands: tuple, derivatives: Callable
) -> tf.Tensor:
  """Returns the function called `name` of `operands`, differentiable.

  Args:
    name: The function's name in every lowering.
    problem: The problem.
    operands: The two tensors of which the result is a bilinear function.
    derivatives: Takes the gradient in the result, returns those in the operands.
  """
  if tf.executing_eagerly() and not tf_compat.is_recording():
    return _computed(name, problem, operands)

  @tf.custom_gradient
  def function(*operands: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    in_xla = tf_compat.in_xla_context()
    with tf_compat.unrecorded(*operands):
      result = _computed(name, problem, operands)

    def gradients(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      gradient = tf.identity(gradient)
      gradient.set_shape(result.shape)  # TensorFlow may have lost even the rank
      with tf_compat.gradient_context(in_xla):
        return derivatives(gradient)

    return result, gradients

  return function(*operands)


def prepared(
  name: str, problem: Problem, environment: policy.Environment, transformed: bool = False
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns the function called `name`, without derivatives, for one problem and environment.

  `transformed` says that a vectorized loop or forward mode may go through it.
  """
  shape = _SHAPES[name](problem)
  if tf.executing_eagerly() and environment.device == "CPU":
    memory.require(_RESULTS[name], shape, problem.dtype)
  if any(sizes.is_known(size) and size == 0 for size in _sizes(problem)):
    return lambda *_: memory.zeros(shape, problem.dtype)
  plan = _plan(name, problem, environment)
  if transformed and (plan.compiled or environment.in_xla):
    # TensorFlow gets neither through XLA's loops over slices. Large calls had better not be in one
    # piece, and only large ones are compiled although the kernel takes them.
    uncompiled = policy.choose(problem, dataclasses.replace(environment, mode=False), name)
    by_kernel = environment.mode == "auto" and uncompiled.lowering == KERNEL
    plan = uncompiled if by_kernel else plan.in_one_piece()
  compute = _by_plan(name, problem, environment, plan)
  return nonfinite.exact(problem, plan, compute) if name == "backprop_input" else compute


def _plan(name: str, problem: Problem, environment: policy.Environment) -> Plan:
  if name != "backprop_input" or not autotune.is_on():
    return policy.choose(problem, environment, name)
  return autotune.choose(
    problem, environment, functools.partial(_by_plan, name, problem, environment)
  )


def _by_plan(
  name: str, problem: Problem, environment: policy.Environment, plan: Plan
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns the function called `name`, computed as `plan` says."""
  shape = _SHAPES[name](problem)
  compute: Callable[..., tf.Tensor] = functools.partial(
    _LOWERINGS[plan.lowering][name], problem, plan
  )
  if tf.executing_eagerly() and plan.lowering == KERNEL and name == "backprop_input":
    compute = kernel.eager_backprop_input(problem, plan)
  if plan.lowering == KERNEL and plan.device == "CPU":
    compute = memory.allocatable(compute, shape, plan.kernel_dtype)
    eigen = not policy.is_onednn(plan, environment)
    compute = _where_the_kernel_can(name, problem, plan, eigen, compute)
  if plan.compiled and problem.is_static:
    uncompiled = functools.partial(_uncompiled, name, problem, environment)
    compute = compiled.function((name, problem, plan), compute, uncompiled)
  elif plan.compiled:
    compute = tf.function(compute, jit_compile=True, autograph=False)
  return compute


def _uncompiled(
  name: str, problem: Problem, environment: policy.Environment, *operands: tf.Tensor
) -> tf.Tensor:
  environment = dataclasses.replace(environment, mode=False)
  plan = policy.choose(problem, environment, name)  # not timed: this may be a timing
  compute = _by_plan(name, problem, environment, plan)
  if name == "backprop_input":
    compute = nonfinite.exact(problem, plan, compute)
  return compute(*operands)


def _where_the_kernel_can(
  name: str, problem: Problem, plan: Plan, eigen: bool, compute: Callable[..., tf.Tensor]
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
  if (name == "conv3d" or eigen) and not sizes.is_known(*lengths):
    conditions.append(tf.reduce_all(sizes.as_tensor(lengths) > 0))
  if not conditions:
    return compute
  can = tf.reduce_all(tf.stack(conditions))
  otherwise = functools.partial(_LOWERINGS[TAP_LOOP][name], problem, plan)
  return lambda *operands: tf.cond(can, lambda: compute(*operands), lambda: otherwise(*operands))


def _computed(name: str, problem: Problem, operands: tuple) -> tf.Tensor:
  environment = policy.Environment.here(*operands)
  transformed = tf_compat.is_transformed(*operands)
  result = prepared(name, problem, environment, transformed)(*operands)
  shape = _SHAPES[name](problem)
  result.set_shape([size if sizes.is_known(size) else None for size in shape])
  return result


_SHAPES: dict[str, Callable[[Problem], list]] = {
  "backprop_input": lambda problem: problem.input_shape,
  "conv3d": lambda problem: problem.out_backprop_shape,
  "backprop_filter": lambda problem: problem.filter_shape,
}

# Which argument asks for the result, as far as its size is nobody else's: that of the derivatives
# is that of a tensor there is.
_RESULTS = {"backprop_input": "input_sizes", "conv3d": "out_backprop", "backprop_filter": "filter"}


def _sizes(problem: Problem) -> list:
  return problem.input_shape + problem.filter_shape + problem.out_backprop_shape
