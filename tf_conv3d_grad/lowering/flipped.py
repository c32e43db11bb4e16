"""The convolution without strides as an overlap-add with its filter flipped."""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.lowering.flip import flipped, flipped_filter
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
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
    if function is not CONV3D or not problem.has_known_taps or problem.strides != (1, 1, 1):
      return []
    offers = _OVERLAP_ADD.offers(BACKPROP_INPUT, flipped(problem), environment)
    return [offer._replace(lowering=self) for offer in offers]

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether the overlap-add does."""
    del function
    return _OVERLAP_ADD.multiplies_padding(BACKPROP_INPUT, flipped(problem), plan)

  def untiled(self, plan: Plan) -> Plan:
    """Returns the same plan without tiles."""
    return _OVERLAP_ADD.untiled(plan)

  def conv3d(
    self, problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor  # noqa: A002
  ) -> tf.Tensor:
    """Returns the convolution."""
    return _OVERLAP_ADD.backprop_input(
      flipped(problem), plan, flipped_filter(problem, filter), input
    )
