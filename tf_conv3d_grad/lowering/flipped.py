"""The convolution without strides as an overlap-add with its filter flipped.

A convolution of stride 1 is the gradient, in the input, of another one: with the taps in reverse
order, in and out channels exchanged within each group, and what is missing to `(taps - 1) *
dilation` as padding. So whatever computes that gradient computes the convolution too.
"""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.tensorflow.environment import Environment

_OVERLAP_ADD = OverlapAdd()


class Flipped(Lowering):
  """An overlap-add of the flipped problem."""

  name = "flipped"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns what the overlap-add offers for the flipped problem."""
    known = sizes.is_known(*problem.taps, *problem.channels, *(axis.pad for axis in problem.axes))
    if function is not CONV3D or not known or problem.strides != (1, 1, 1):
      return []
    offers = _OVERLAP_ADD.offers(BACKPROP_INPUT, _flipped(problem), environment)
    return [offer._replace(lowering=self) for offer in offers]

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether the overlap-add does."""
    del function
    return _OVERLAP_ADD.multiplies_padding(BACKPROP_INPUT, _flipped(problem), plan)

  def untiled(self, plan: Plan) -> Plan:
    """Returns the same plan without tiles."""
    return _OVERLAP_ADD.untiled(plan)

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    return _OVERLAP_ADD.backprop_input(
      _flipped(problem), plan, _flipped_filter(problem, filter), input
    )


def _flipped(problem: Problem) -> Problem:
  """Returns the problem whose gradient in the input is a problem's convolution."""
  depth, height, width = map(_flipped_axis, problem.axes)
  return problem.replace(
    axes=(depth, height, width),
    in_channels=problem.out_channels,
    filter_in_channels=problem.out_channels // problem.groups,
    out_channels=problem.in_channels,
  )


def _flipped_axis(axis: Axis) -> Axis:
  pad = geometry.extent(axis.taps, axis.dilation) - 1 - axis.pad
  return Axis(axis.output, axis.input, axis.taps, 1, axis.dilation, pad)


def _flipped_filter(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  groups, inner = problem.groups, problem.filter_in_channels
  out = problem.out_channels // groups
  filter = tf.reverse(filter, axis=[0, 1, 2])  # noqa: A001
  split = tf.reshape(filter, [*problem.taps, inner, groups, out])
  exchanged = tf.transpose(split, [0, 1, 2, 5, 4, 3])
  return tf.reshape(exchanged, [*problem.taps, out, groups * inner])
