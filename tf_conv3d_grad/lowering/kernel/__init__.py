"""Each function as one call of TensorFlow's own kernel, or one for each group or sample.

On the CPU outside of XLA it is oneDNN's or Eigen's kernel, on a GPU cuDNN's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.lowering import onednn
from tf_conv3d_grad.lowering.interface import Compute, Lowering, Offer
from tf_conv3d_grad.lowering.kernel import costs, eager, eigen, run
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.lowering.tap_loop import exactly
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.problem.layout import NDHWC
from tf_conv3d_grad.tensorflow import memory, private
from tf_conv3d_grad.tensorflow.environment import Environment

# The kernel is called group by group for at most so many groups.
_MAX_GROUPS = 32


class Kernel(Lowering):
  """One call of TensorFlow's own kernel, or one call for each group or sample."""

  name = "kernel"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns the form in which the kernel computes a call fastest, if it takes the call."""
    if environment.device == "GPU":  # cuDNN takes every case
      plan = Plan("GPU", False, problem.dtype, problem.data_format)
      return [Offer(self, plan, environment.mode is not False, None, is_native=True)]
    if environment.in_xla or environment.mode is True:
      return []
    plan = _plan(function, problem, environment)
    is_grouped = sizes.is_known(problem.groups) and problem.groups != 1
    if not _takes(function, problem, plan) or (is_grouped and not _can_by_group(problem)):
      return []
    plan = dataclasses.replace(plan, by_group=is_grouped)
    cost = costs.of_plan(function, problem, plan) if problem.is_static else None
    # Eigen's kernels refuse channels first, every kernel but XLA's refuses groups.
    is_refused = is_grouped or not (plan.is_onednn or problem.data_format == NDHWC)
    return [Offer(self, plan, False, cost, is_native=not is_refused)]

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether the CPU's kernels multiply padding, as they do with several taps."""
    if plan.device == "GPU":
      return False
    if _spreads(function, problem, plan):
      return True
    is_pointwise = all(sizes.is_known(taps) and taps == 1 for taps in problem.taps)
    if is_pointwise:
      return False
    return not _is_unpadded(function, problem) or _pairs(function, problem, plan)

  def multiplies_neighbours(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether a kernel multiplies more than the sum has.

    oneDNN's bfloat16 kernel adds products up in pairs, over channels or cells. An odd last one is
    paired with a neighbour's. Eigen's gradient in the filter multiplies the input by zeros.
    """
    return _spreads(function, problem, plan) or _pairs(function, problem, plan)

  def native(
    self, function: Function, problem: Problem, plan: Plan
  ) -> Callable[..., tf.Tensor] | None:
    """Returns TensorFlow's operation, with the casts and transposes that it needs."""
    lengths = [axis.output for axis in problem.axes]
    # Whether nothing is left that the run alone can tell.
    is_sure = (
      sizes.is_known(*problem.channels, *problem.taps)
      and (plan.is_onednn or function is CONV3D or sizes.is_known(*lengths))
      and not _reads_unwritten(function, problem, plan)
    )
    if plan.by_group or plan.by_sample or not (plan.device == "GPU" or is_sure):
      return None
    if function is CONV3D and (
      problem.unambiguous_padding is None
      or private.infers_wrong_shape(problem.padding, problem.dilations)
    ):
      return None
    compute = functools.partial(function.of(run), problem, plan)
    return run.native(function, problem, plan, compute)

  def prepared(self, function: Function, problem: Problem, plan: Plan) -> Compute:
    """Returns what calls the kernel, or computes otherwise where only the run can tell."""
    if plan.by_group:
      of_group = _compute(function, problem.one_group, dataclasses.replace(plan, by_group=False))
      compute: Compute = functools.partial(run.grouped, function, problem, of_group)
    else:
      compute = _compute(function, problem, plan)
    if plan.device == "GPU":
      return compute
    compute = memory.allocatable(compute, function.shape(problem), plan.dtype)
    return _where_it_can(function, problem, plan, compute)


def _compute(function: Function, problem: Problem, plan: Plan) -> Compute:
  if tf.executing_eagerly():
    return eager.prepared(function, problem, plan)
  return functools.partial(function.of(run), problem, plan)


def _plan(function: Function, problem: Problem, environment: Environment) -> Plan:
  # Eigen's kernels add halves up in their own precision, and oneDNN has no fast one for float16.
  dtype = problem.dtype
  if dtype.size == 2 and not environment.is_onednn(dtype):
    dtype = tf.float32
  if dtype == tf.bfloat16 and onednn.is_beyond(function, problem):
    dtype = tf.float32
  if environment.is_onednn(dtype):
    # oneDNN's bfloat16 is 5 to 20 times slower channels first, except for pointwise filters; two
    # transposes cost less. In float32 it is about as fast, and they cost more.
    pointwise = sizes.is_known(*problem.taps) and math.prod(problem.taps) == 1
    as_it_is = dtype == tf.float32 or pointwise
    plan = Plan("CPU", True, dtype, problem.data_format if as_it_is else NDHWC)
    if function is BACKPROP_FILTER and run.has_phases(problem):
      # Its gradient in the filter takes a dilation 2 to 4 times as long.
      plan = dataclasses.replace(plan, data_format=NDHWC, by_phase=True)
    return plan
  # Eigen computes its other two functions in one way for every batch, faster at once.
  by_sample = function is BACKPROP_INPUT and eigen.is_faster_by_sample(problem, dtype)
  return Plan("CPU", False, dtype, NDHWC, by_sample)


def _is_unpadded(function: Function, problem: Problem) -> bool:
  """Returns whether the operand that is padded has no padding."""
  if function is BACKPROP_INPUT:  # a convolution of `out_backprop`, with padding all around
    return False
  if problem.padding == "VALID":
    return True
  padded = [axis.padded for axis in problem.axes]
  return sizes.is_known(*padded) and max(padded) <= 0


def _spreads(function: Function, problem: Problem, plan: Plan) -> bool:
  """Returns whether the kernel puts zeros around `out_backprop` and between its cells.

  Eigen's gradient in the filter multiplies the input by them.
  """
  if function is not BACKPROP_FILTER or plan.is_onednn:
    return False
  return max(*problem.taps, *problem.strides) > 1


def _pairs(function: Function, problem: Problem, plan: Plan) -> bool:
  """Returns whether the kernel may pair an odd last channel or cell with one of a neighbour's."""
  if not (plan.is_onednn and plan.dtype == tf.bfloat16):
    return False
  if function is BACKPROP_FILTER:
    return True
  if function is CONV3D:
    channels = problem.filter_in_channels
  else:
    channels = problem.out_channels // problem.groups if plan.by_group else problem.out_channels
  return not (sizes.is_known(channels) and channels % 2 == 0)


def _takes(function: Function, problem: Problem, plan: Plan) -> bool:
  """Returns whether the CPU's kernel takes the call, or each group of a grouped call."""
  if max(*problem.strides, *problem.dilations) > onednn.MAX_STEP:
    return False
  if plan.by_phase:
    return _takes(function, run.of_phases(problem), dataclasses.replace(plan, by_phase=False))
  if not plan.is_onednn:
    if problem.dilations != (1, 1, 1):
      return False
    if function is BACKPROP_FILTER and not problem.replace(batch=1).is_static:
      return False  # Eigen's takes up to a second where a product takes 10 ms
  if plan.is_onednn and onednn.is_one_wide(function, problem):
    return False
  return function is not CONV3D or problem.unambiguous_padding is not None


def _reads_unwritten(function: Function, problem: Problem, plan: Plan) -> list[Any]:
  """Returns what must hold at run time, so that oneDNN reads no memory that nobody has written.

  `onednn.is_beyond` and `onednn.is_one_wide` are the same for sizes that are known.
  """
  if function is BACKPROP_INPUT or not plan.is_onednn:
    return []
  conditions: list[Any] = []
  if plan.dtype == tf.bfloat16:
    conditions += [
      geometry.extent(axis.taps, axis.dilation) <= axis.input
      for axis in problem.axes
      if not sizes.is_known(axis.taps, axis.input)
    ]
  width = problem.axes[2]
  is_several = not sizes.is_known(width.taps) or width.taps > 1
  is_one = not sizes.is_known(problem.filter_in_channels) or problem.filter_in_channels == 1
  if is_several and is_one and not sizes.is_known(width.output):
    conditions.append(width.output > 1)
  return conditions


def _can_by_group(problem: Problem) -> bool:
  return (
    sizes.is_known(*problem.channels)
    and problem.groups <= _MAX_GROUPS
    and not problem.is_depthwise
  )


def _where_it_can(
  function: Function, problem: Problem, plan: Plan, compute: Compute
) -> Compute:
  """Returns `compute`, or something else where only the run can tell whether the kernel can.

  The kernel refuses groups and tensors of no channels, its convolution gives some empty outputs the
  shape of the input, Eigen's gradient of an empty output ends the process, and a batch may turn out
  to have no sample to call it for.
  """
  conditions: list[Any] = []
  if plan.by_sample and not sizes.is_known(problem.batch):
    conditions.append(problem.batch > 0)  # a loop over nothing does not know what to return
  if not sizes.is_known(problem.groups):
    conditions.append(tf.equal(problem.groups, 1))
  if not sizes.is_known(*problem.channels):
    conditions.append(tf.reduce_all(sizes.as_tensor(problem.channels) > 0))
  if not sizes.is_known(*problem.taps):
    conditions.append(tf.reduce_all(sizes.as_tensor(problem.taps) > 0))
  lengths = [axis.output for axis in problem.axes]
  if (function is CONV3D or not plan.is_onednn) and not sizes.is_known(*lengths):
    conditions.append(tf.reduce_all(sizes.as_tensor(lengths) > 0))
  conditions += _reads_unwritten(function, problem, plan)
  if not conditions:
    return compute
  can = tf.reduce_all(tf.stack(conditions))
  otherwise = exactly(function, problem)
  return lambda *operands: tf.cond(can, lambda: compute(*operands), lambda: otherwise(*operands))
