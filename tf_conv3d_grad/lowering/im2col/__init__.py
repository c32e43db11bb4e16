"""The convolution and its gradient in the filter, as matrix products of neighbourhoods.

`conv3d` multiplies every output cell's neighbourhood in the input by the filter, `backprop_filter`
by `out_backprop`. Works for every dtype, format, dilation and group count, compiled or not; the
numbers of taps, of channels and of groups must be known.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.lowering.im2col import cellwise, convolution, costs, filter_gradient
from tf_conv3d_grad.lowering.im2col.plan import Plan, is_one_product, planned
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, Function
from tf_conv3d_grad.problem.layout import CHANNELS_LAST, rearranged
from tf_conv3d_grad.tensorflow.environment import Environment

# Python unrolls the taps. Beyond so many, only a loop is sensible.
_MAX_TAPS = 343
# Where a filter spans more cells than this, and more times the input, padding is most of the work.
_MAX_PADDED, _MAX_PADDED_FACTOR = 64, 8


class Im2col(Lowering):
  """Matrix products of neighbourhoods of the input."""

  name = "im2col"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns a plan, of the largest tiles that fit the cache; compiled, uncompiled or both."""
    if function is BACKPROP_INPUT or environment.device == "GPU" or not problem.has_known_taps:
      return []
    if math.prod(problem.taps) > _MAX_TAPS or _pads_much(problem):
      return []
    found = []
    if environment.in_xla or environment.mode is not False:
      plan = planned(function, problem, True, environment.in_graph)
      inside = costs.of_plan(function, problem, plan) if problem.is_static else None
      if environment.in_xla:
        return [Offer(self, plan, False, inside)]
      found.append(Offer(self, plan, True, inside and inside.called()))
    if environment.mode is not True:
      plan = planned(function, problem, False, environment.in_graph)
      outside = costs.of_plan(function, problem, plan) if problem.is_static else None
      if outside is not None and not environment.in_graph:
        seconds = outside.seconds + costs.of_eager_calls(function, problem, plan)
        outside = dataclasses.replace(outside, seconds=seconds)
      found.append(Offer(self, plan, False, outside))
    return found

  def untiled(self, plan: Plan) -> Plan:
    """Returns the plan that computes everything at once."""
    return Plan(in_xla=plan.in_xla)

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    return convolution.conv3d(problem, plan, filter, input)

  def backprop_filter(
    self, problem: Problem, plan: Plan, input: tf.Tensor, out_backprop: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its filter."""
    dtype, groups = accumulation_dtype(problem.dtype), problem.groups
    input, out_backprop = tf.cast(input, dtype), tf.cast(out_backprop, dtype)  # noqa: A001
    if is_one_product(BACKPROP_FILTER, problem):
      product = filter_gradient.of_one_tap(problem, input, out_backprop)
      return tf.cast(tf.reshape(product, problem.filter_shape), problem.dtype)
    input, out_backprop = (  # noqa: A001
      rearranged(tensor, problem.layout, CHANNELS_LAST) for tensor in (input, out_backprop)
    )
    way = cellwise if problem.is_depthwise else filter_gradient
    gradient = way.backprop_filter(problem, plan, input, out_backprop)
    shape = [groups, *problem.taps, problem.filter_in_channels, problem.out_channels // groups]
    gradient = tf.transpose(tf.reshape(gradient, shape), [1, 2, 3, 4, 0, 5])
    return tf.cast(tf.reshape(gradient, problem.filter_shape), problem.dtype)


def _pads_much(problem: Problem) -> bool:
  """Returns whether most of what is held would be padding, as with a dilation of millions."""
  for axis in problem.axes:
    extent = geometry.extent(axis.taps, axis.dilation)
    cells = axis.input if sizes.is_known(axis.input) else _MAX_PADDED
    if extent > _MAX_PADDED + _MAX_PADDED_FACTOR * cells:
      return True
  return False
