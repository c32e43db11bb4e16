"""What oneDNN is expected to take inside of XLA."""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.xla_onednn import filter_gradient, forward
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.problem.layout import NCDHW, NDHWC
from tf_conv3d_grad.tensorflow import processor

# FLOP a second of one core in oneDNN's convolution with full vectors, which hold channels of the
# result. With how many channels that are summed over it reaches half of that, and with how many
# where there are several groups.
_RATE = {tf.float32: 115e9, tf.bfloat16: 460e9}
_HALF_RATE_SUM, _HALF_RATE_SUM_OF_GROUP = 0.3, 5
# The same of a depthwise one, in either dtype. How many times as long it takes with a dilation.
_DEPTHWISE_RATE, _DILATED_DEPTHWISE_FACTOR = 12e9, 2.5
# The same of the gradient in the filter, with as many taps along width as fill a kernel: they are
# the cells of its result; and of a depthwise one. Bytes a second of the tensors, of which slabs are
# cut and put into oneDNN's order, of groups once more. With one tap slabs do not overlap, and the
# width does not matter.
_FILTER_GRADIENT_RATE = {tf.float32: 105e9, tf.bfloat16: 210e9}
_FULL_WIDTH, _DEPTHWISE_FILTER_GRADIENT_RATE = 3, 5.5e9
_SLABS_RATE, _SLABS_RATE_OF_GROUPS, _POINTWISE_SLABS_RATE = 1e9, 0.7e9, 2.5e9
# How many times as long it takes with a stride, which then is the dilation of a convolution.
_STRIDED_FACTOR = 1.5
# How many times as long each function takes without AVX-512.
_WITHOUT_AVX512 = {CONV3D: 1.2, BACKPROP_INPUT: 1.2, BACKPROP_FILTER: 1.6}
# How many times as long a volume takes that is one cell wide.
_NARROW_FACTOR = 4.0
# How many times as long a pointwise filter takes, which has few operations a byte.
_POINTWISE_FACTOR = {NDHWC: 1.5, NCDHW: 3.0}
# Bytes a second of reading and writing the tensors; of putting a filter in oneDNN's order, as it is
# and with its taps turned around; and of putting the channels of its groups beside each other.
_TENSOR_RATE, _FILTER_RATE, _TURNED_FILTER_RATE, _BY_GROUP_RATE = 10e9, 7e9, 2.5e9, 10e9
# A call: its operands are put into an order of oneDNN's.
_CALL_SECONDS = 150e-6
# XLA compiles it in 0.01 to 0.05 s with what is around it, a loop over pieces in 0.15 to 0.3 s.
_COMPILING, _COMPILING_LOOP = 0.1, 0.5


def of_convolution(function: Function, problem: Problem, plan: Plan, calls: int) -> Cost:
  """Returns the cost of a static problem's convolution, or its gradient in the input, by phases."""
  result, summed = problem.filter_in_channels, problem.out_channels // problem.groups
  if function is CONV3D:
    result, summed = summed, result
  if problem.is_depthwise:
    rate = _DEPTHWISE_RATE
    if max(problem.dilations) > 1:
      rate /= _DILATED_DEPTHWISE_FACTOR
  else:
    half_rate = _HALF_RATE_SUM_OF_GROUP if problem.groups > 1 else _HALF_RATE_SUM
    rate = _RATE[plan.dtype] * cost.filled(result)
    rate *= cost.efficiency(summed, half_rate)
    if math.prod(problem.taps) == 1:
      rate /= _POINTWISE_FACTOR[problem.data_format]
  if not processor.onednn_has_avx512():
    rate /= _WITHOUT_AVX512[function]
  moved = cost.tensor_bytes(problem) * ((plan.dtype != problem.dtype) + 2 * (calls > 1))
  seconds = _seconds(problem, problem, rate, moved, calls)
  is_gradient = function is BACKPROP_INPUT
  is_turned = is_gradient and not forward.has_fewer_cells(problem)
  filter_bytes = problem.dtype.size * math.prod(problem.filter_shape)
  seconds += filter_bytes / (_TURNED_FILTER_RATE if is_turned else _FILTER_RATE)
  if is_gradient and problem.groups > 1:
    seconds += filter_bytes / _BY_GROUP_RATE
  return Cost(seconds, 0, calls * _COMPILING)


def of_filter_gradient(problem: Problem, plan: Plan) -> Cost:
  """Returns the cost of a static problem's gradient in the filter."""
  joined = filter_gradient.joined(problem)
  if joined.is_depthwise:
    rate, cutting = _DEPTHWISE_FILTER_GRADIENT_RATE, 0.0
  else:
    rate = _FILTER_GRADIENT_RATE[plan.dtype]
    rate *= cost.filled(problem.out_channels // joined.groups)
    slabs_rate = _SLABS_RATE if problem.groups == 1 else _SLABS_RATE_OF_GROUPS
    if problem.is_pointwise and problem.groups == 1:
      slabs_rate = _POINTWISE_SLABS_RATE
    else:
      rate *= min(1, problem.taps[2] / _FULL_WIDTH) ** 2
    cutting = cost.tensor_bytes(problem) / slabs_rate
  if problem.strides != (1, 1, 1):
    rate /= _STRIDED_FACTOR
  if not processor.onednn_has_avx512():
    rate /= _WITHOUT_AVX512[BACKPROP_FILTER]
  depth = problem.axes[0].output
  calls = -(-depth // (plan.depth or depth)) * (problem.batch // (plan.samples or problem.batch))
  moved = cost.tensor_bytes(problem) * ((plan.dtype != problem.dtype) + 2 * (calls > 1))
  seconds = _seconds(problem, joined, rate, moved, calls)
  return Cost(seconds + cutting, 0, _COMPILING_LOOP if calls > 1 else _COMPILING)


def _seconds(problem: Problem, computed: Problem, rate: float, moved: float, calls: int) -> float:
  if problem.axes[2].output == 1:
    rate /= _NARROW_FACTOR
  seconds = cost.flops(computed) / rate + moved / cost.MOVE_RATE + calls * _CALL_SECONDS
  return seconds + cost.tensor_bytes(problem) / _TENSOR_RATE
