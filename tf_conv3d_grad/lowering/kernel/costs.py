"""How long TensorFlow's CPU kernels are expected to take."""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.kernel import eigen
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.problem.layout import NDHWC
from tf_conv3d_grad.tensorflow import processor

# FLOP a second of one core in oneDNN's kernels with full vectors, which hold channels: mostly the
# result's.
_ONEDNN_RATE = {CONV3D: 115e9, BACKPROP_INPUT: 105e9, BACKPROP_FILTER: 85e9}
_BFLOAT16_FACTOR = 4
# With so many channels that are summed over a kernel reaches half of that.
_HALF_RATE_SUM = 0.6
# How many times as long the gradient in the input takes with a stride, and every function of a
# volume that is one cell wide.
_STRIDED_FACTOR, _NARROW_FACTOR = 1.2, 4.0
# How many times as long each function takes without AVX-512.
_WITHOUT_AVX512 = {CONV3D: 1.2, BACKPROP_INPUT: 1.2, BACKPROP_FILTER: 1.8}
# How many times longer still there: everything channels first; the gradient in the filter with
# fewer than `_FEW` in channels; and that of a volume that is one cell wide. 2048 cells in a row, 48
# channels, k=9 take 137 ms instead of 3.
_FIRST_WITHOUT_AVX512 = 1.8
_FEW, _FEW_WITHOUT_AVX512 = 16, 2.5
_NARROW_WITHOUT_AVX512 = 20.0
# Bytes a second of reading and writing the tensors.
_TENSOR_RATE = 6e9
# Seconds of one call of the kernel; a grouped problem has one for each group.
_KERNEL_CALL = 400e-6


def of_plan(function: Function, problem: Problem, plan: Plan) -> Cost:
  """Returns the cost of a plan for a static problem on a CPU, for all groups together."""
  groups = problem.groups
  one = problem.one_group
  seconds = _onednn(function, one, plan) if plan.is_onednn else eigen.seconds(function, one, plan)
  # Cast, and split and joined by groups.
  moves = (plan.dtype != problem.dtype) + 2 * (groups > 1)
  held = cost.tensor_bytes(problem)
  moved = moves * held / cost.MOVE_RATE + held / _TENSOR_RATE
  return Cost(groups * (seconds + _KERNEL_CALL) + moved, 0)


def _onednn(function: Function, problem: Problem, plan: Plan) -> float:
  vector, summed = problem.out_channels, problem.in_channels
  if function is BACKPROP_INPUT:
    vector, summed = summed, vector
  rate = _ONEDNN_RATE[function] * (_BFLOAT16_FACTOR if plan.dtype == tf.bfloat16 else 1)
  rate *= cost.filled(vector) * cost.efficiency(summed, _HALF_RATE_SUM)
  if function is BACKPROP_INPUT and problem.strides != (1, 1, 1):
    rate /= _STRIDED_FACTOR
  is_narrow = problem.axes[2].output == 1
  if is_narrow:
    rate /= _NARROW_FACTOR
  if not processor.onednn_has_avx512():
    rate /= _WITHOUT_AVX512[function]
    if plan.data_format != NDHWC:
      rate /= _FIRST_WITHOUT_AVX512
    if function is BACKPROP_FILTER and problem.in_channels < _FEW:
      rate /= _FEW_WITHOUT_AVX512
    if function is BACKPROP_FILTER and is_narrow:
      rate /= _NARROW_WITHOUT_AVX512
  return cost.flops(problem) / rate
