"""How long im2col is expected to take, by its plan."""

from __future__ import annotations

import dataclasses
import math

from tf_conv3d_grad.lowering import cost, tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.im2col.plan import Plan, is_one_product, tiled
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, CONV3D, Function
from tf_conv3d_grad.problem.layout import NDHWC

# Without XLA, runs of up to so many channels are copied one by one: measured 4 to 14 times slower.
_MAX_FEW_CHANNELS, _UNCOMPILED_FACTOR_OF_FEW = 4, 4.0
# Seconds of calling the operations.
_UNCOMPILED_SECONDS = 1e-3
# How many times as long everything takes without XLA, and in groups.
_UNCOMPILED_FACTOR = {CONV3D: 1.6, BACKPROP_FILTER: 1.5}
_UNCOMPILED_GROUPED_FACTOR = 1.6
# Seconds of one more operation in a graph, and from eager code.
_OPERATION_SECONDS, _EAGER_OPERATION_SECONDS = 30e-6, 150e-6
# How many times as long the gradient in a pointwise filter, one product, takes in XLA.
_POINTWISE_FACTOR_IN_XLA = 1.4
# Bytes a second of putting channels-first tensors in order, channels last.
_TRANSPOSE_RATE = 2e9
# Bytes a second of the input, which the gradient in the filter splits by phases, channels first.
_PHASES_RATE = 1.3e9
# Bytes a second of putting columns in the order of groups, and the in channels of a group at which
# that is half as fast.
_GROUP_ROWS_RATE, _GROUP_RUN = 12.5e9, 24
# Products a second taken cell by cell in float32, compiled and uncompiled. How many times as long
# the uncompiled ones take with strides, and with several out channels for each in channel.
_CELLWISE_RATE = {CONV3D: 5e9, BACKPROP_FILTER: 0.75e9}
_UNCOMPILED_CELLWISE_RATE = {CONV3D: 0.75e9, BACKPROP_FILTER: 1.15e9}
_UNCOMPILED_STRIDED_FACTOR, _UNCOMPILED_SEVERAL_FACTOR = 3.0, 3.0


def of_plan(function: Function, problem: Problem, plan: Plan) -> Cost:
  """Returns how long a plan for a static problem should take."""
  if is_one_product(function, problem):
    return _one_product(problem, plan.in_xla)
  inside = _compiled(function, problem, plan)
  return inside if plan.in_xla else _uncompiled(function, problem, inside)


def of_eager_calls(function: Function, problem: Problem, plan: Plan) -> float:
  """Returns how many seconds more the operations of a static problem take from eager code."""
  if is_one_product(function, problem):
    return 4 * _EAGER_OPERATION_SECONDS
  operations = 12 + 3 * sum(problem.taps)  # windows of each axis, shifted and joined
  depth, samples, _ = tiled(problem, plan)
  count = tiles.parts(problem.batch, samples, depth)
  return count * operations * _EAGER_OPERATION_SECONDS


def _one_product(problem: Problem, in_xla: bool) -> Cost:
  rate = cost.PRODUCT_RATE[accumulation_dtype(problem.dtype)]
  for channels in (problem.in_channels, problem.out_channels):
    rate *= cost.efficiency(channels)
  seconds = max(cost.flops(problem) / rate, cost.tensor_bytes(problem) / cost.POINTWISE_RATE)
  if accumulation_dtype(problem.dtype) != problem.dtype:
    seconds += cost.tensor_bytes(problem) / cost.MOVE_RATE
  if in_xla:
    return Cost(_POINTWISE_FACTOR_IN_XLA * seconds, 0, cost.compiling(problem))
  return Cost(seconds + 4 * _OPERATION_SECONDS, 0)


def _compiled(function: Function, problem: Problem, plan: Plan) -> Cost:
  dtype = accumulation_dtype(problem.dtype)
  if problem.is_depthwise:
    products = cost.flops(problem) / 2
    return Cost(products / _CELLWISE_RATE[function] * dtype.size / 4, 0)
  groups, inner = problem.groups, max(1, problem.filter_in_channels)
  out = max(1, problem.out_channels // groups)
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  neighbourhood = math.prod(problem.taps) * inner
  contracted = cells if function is BACKPROP_FILTER else neighbourhood
  rate = cost.PRODUCT_RATE[dtype] * cost.efficiency(contracted) * cost.efficiency(out)
  column_bytes = dtype.size * cells * neighbourhood * groups
  run = min(1.0, (inner * groups + 2) / (cost.GATHER_RUN + 2))
  seconds = cost.flops(problem) / rate + column_bytes / (cost.GATHER_RATE * run)
  if groups > 1:
    seconds += column_bytes / (_GROUP_ROWS_RATE * cost.efficiency(inner, _GROUP_RUN))
  if problem.data_format != NDHWC:
    seconds += cost.tensor_bytes(problem) / _TRANSPOSE_RATE
  if function is BACKPROP_FILTER:
    seconds += dtype.size * math.prod(problem.input_shape) / _PHASES_RATE
  depth, samples, _ = tiled(problem, plan)
  count = tiles.parts(problem.batch, samples, depth)
  seconds += (count - 1) * cost.TILE_SECONDS
  return Cost(seconds, column_bytes // max(1, count), cost.compiling(problem))


def _uncompiled(function: Function, problem: Problem, inside: Cost) -> Cost:
  if problem.is_depthwise:
    factor = _CELLWISE_RATE[function] / _UNCOMPILED_CELLWISE_RATE[function]
    if max(problem.strides) > 1:
      factor *= _UNCOMPILED_STRIDED_FACTOR
    if problem.out_channels > problem.groups:
      factor *= _UNCOMPILED_SEVERAL_FACTOR
    seconds = factor * inside.seconds + _OPERATION_SECONDS * 3 * math.prod(problem.taps)
    return dataclasses.replace(inside, seconds=seconds)
  factor = _UNCOMPILED_FACTOR[function]
  if function is CONV3D and problem.in_channels <= _MAX_FEW_CHANNELS:
    factor = _UNCOMPILED_FACTOR_OF_FEW
  if problem.groups > 1:
    factor *= _UNCOMPILED_GROUPED_FACTOR
  return dataclasses.replace(inside, seconds=factor * inside.seconds + _UNCOMPILED_SECONDS)
