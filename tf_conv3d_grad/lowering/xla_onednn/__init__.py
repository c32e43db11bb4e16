"""Each function by oneDNN inside of what XLA compiles: see `tensorflow/xla_onednn.py`.

Everything is made of convolutions without gaps between the cells of their input, which XLA itself
gives to oneDNN in TensorFlows after 2.21.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.lowering import onednn
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.lowering.xla_onednn import call, costs, filter_gradient, forward
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.tensorflow import xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment

# Phases of the strides, each a call of its own.
_MAX_PHASES = 8


class XlaOnednn(Lowering):
  """See above."""

  name = "oneDNN in XLA"
  is_portable = False

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns one plan, where everything but the batch is known and oneDNN has a kernel."""
    one = problem.replace(batch=1)
    if not environment.xla_onednn or not (environment.in_xla or environment.mode is not False):
      return []
    if environment.device == "GPU" or problem.dtype == tf.float64 or not one.is_static:
      return []
    plan = _plan(function, problem, environment)
    if plan is None or not xla_onednn.works(plan.dtype):
      return []
    cost = _cost(function, problem, plan) if problem.is_static else None
    if environment.in_xla:
      return [Offer(self, plan, False, cost)]
    return [Offer(self, plan, True, cost and cost.called())]

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether there is padding, which some of oneDNN's kernels multiply.

    Of some 1,500 random convolutions with an infinity or NaN in an operand 13 did, mostly those of
    one channel.
    """
    del plan
    if function is BACKPROP_FILTER:
      return True  # that of a piece
    if max(problem.taps) == 1:
      return False
    return function is BACKPROP_INPUT or any(axis.padded > 0 for axis in problem.axes)

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    return forward.conv3d(problem, plan, filter, input)

  def backprop_input(
    self,
    problem: Problem,
    plan: Plan,
    filter: tf.Tensor,  # noqa: A002
    out_backprop: tf.Tensor,
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its input."""
    return forward.backprop_input(problem, plan, filter, out_backprop)

  def backprop_filter(
    self, problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its filter."""
    return filter_gradient.backprop_filter(problem, plan, input, out_backprop)


def _plan(function: Function, problem: Problem, environment: Environment) -> Plan | None:
  if problem.is_empty or max(*problem.strides, *problem.dilations) > onednn.MAX_STEP:
    return None
  dtype = problem.dtype
  if dtype == tf.float16 or not environment.onednn_bfloat16:
    dtype = tf.float32  # oneDNN has kernels of float16 for the newest processors only
  if function is BACKPROP_FILTER:
    if filter_gradient.joined(problem).is_depthwise and max(problem.strides) > 1:
      return None  # oneDNN has no fast kernel: 8x24^2 cells, 54 channels 35 ms, im2col 4
    plan = filter_gradient.planned(problem, dtype)
    convolutions = [filter_gradient.as_convolution(problem, plan)]
  else:
    plan = Plan(dtype)
    convolutions = [problem] if function is CONV3D else _phases(problem)
  if not convolutions or not all(map(_takes, convolutions)):
    return None
  if any(_is_inexact(each) or onednn.is_beyond(CONV3D, each) for each in convolutions):
    return dataclasses.replace(plan, dtype=tf.float32)
  return plan


def _phases(problem: Problem) -> list[Problem]:
  count = math.prod(min(axis.stride, axis.taps) for axis in problem.axes)
  return [phase.problem for phase in forward.phases(problem)] if count <= _MAX_PHASES else []


def _takes(problem: Problem) -> bool:
  """Returns whether oneDNN is given a convolution: not with cells that no tap reaches."""
  if onednn.is_one_wide(CONV3D, problem) or min(axis.output for axis in problem.axes) < 1:
    return False
  return all(
    max(pads) < max(2, geometry.extent(axis.taps, axis.dilation))
    and axis.input + min(pads[0], 0) + min(pads[1], 0) > 0
    for axis, pads in zip(problem.axes, call.paddings(problem))
  )


def _is_inexact(problem: Problem) -> bool:
  """Returns whether bfloat16's kernels may pair an odd last channel with one of a neighbour."""
  return problem.filter_in_channels % 2 == 1


def _cost(function: Function, problem: Problem, plan: Plan) -> Cost:
  if function is BACKPROP_FILTER:
    return costs.of_filter_gradient(problem, plan)
  calls = 1 if function is CONV3D else len(_phases(problem))
  return costs.of_convolution(function, problem, plan, calls)
