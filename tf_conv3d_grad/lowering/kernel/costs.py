"""How long TensorFlow's CPU kernels are expected to take."""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem.definition import Problem

# FLOP a second of one core with enough channels. oneDNN reaches half of it with so many in
# channels, or out channels of a group; Eigen with so many taps times out channels.
_ONEDNN_RATE = {tf.float32: 140e9, tf.bfloat16: 900e9}
_ONEDNN_HALF_RATE_IN, _ONEDNN_HALF_RATE_OUT = 20, 10
_EIGEN_RATE = {tf.float32: 65e9, tf.float64: 22e9}
_EIGEN_HALF_RATE = 2000
# Seconds of one call of the kernel; a grouped problem has one for each group.
_KERNEL_CALL = 200e-6


def of_plan(problem: Problem, plan: Plan) -> Cost:
  """Returns the cost of a plan for a static problem on a CPU, for all groups together."""
  groups = problem.groups
  if plan.is_onednn:
    rate = _ONEDNN_RATE[plan.dtype]
    rate *= cost.efficiency(problem.filter_in_channels, _ONEDNN_HALF_RATE_IN)
    if groups > 1:
      rate *= cost.efficiency(problem.out_channels // groups, _ONEDNN_HALF_RATE_OUT)
  else:
    rate = _EIGEN_RATE[tf.float64 if plan.dtype == tf.float64 else tf.float32]
    taps = math.prod(problem.taps)
    if taps > 1:  # one is a plain product
      rate *= cost.efficiency(taps * problem.out_channels // groups, _EIGEN_HALF_RATE)
  # Cast, and split and joined by groups.
  moves = (plan.dtype != problem.dtype) + (groups > 1)
  moved = moves * cost.tensor_bytes(problem) / cost.MOVE_RATE
  return Cost(cost.flops(problem) / rate + moved + groups * _KERNEL_CALL, 0)
