"""The gradient in the input as matrix products and shifted sums.

A transposed convolution is a pointwise one followed by overlap-add. One matrix product gives the
contribution of every tap: the columns. Sums of shifted columns put them in place. Stride, dilation
and padding only affect the shifts, so nothing is multiplied by an inserted zero (Anderson et al.
2017, "Low-memory GEMM-based convolution algorithms for deep neural networks"). Each axis is

- scattered: overlap-added after the product, as above;
- gathered: shifted before the product. The neighbours of each cell go into its inner dimension,
  with one product for each phase of the stride (Shi et al. 2016); or
- shuffled, where the filter is no longer than the stride: nothing overlaps, and the columns are
  only put in another order.

It works for every dtype, format, dilation and group count, compiled or not. The numbers of taps,
channels and groups must be known, and the padding of every axis.
"""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.lowering.overlap_add import costs, offers, run
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT, Function
from tf_conv3d_grad.tensorflow.environment import Environment


class OverlapAdd(Lowering):
  """One matrix product for all taps, then sums of shifted columns."""

  name = "overlap_add"

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns compiled plans, uncompiled plans or both, depending on the environment."""
    if function is not BACKPROP_INPUT or environment.device == "GPU":
      return []
    canonical = problem.canonical
    if not offers.can_unroll(canonical):
      return []
    plans = offers.plans(canonical)
    if environment.in_xla:
      return [Offer(self, plan, False, inside) for plan, inside in plans.inside]
    compiled, uncompiled = [], []
    if environment.mode is not False:
      for plan, inside in plans.inside:
        compiled.append(Offer(self, plan, True, inside and inside.called()))
    if environment.mode is not True:
      for plan, inside in plans.outside:
        outside = inside and costs.uncompiled(canonical, plan, inside, environment.in_graph)
        uncompiled.append(Offer(self, plan, False, outside))
    uncompiled.sort(key=lambda offer: offer.cost.seconds if offer.cost else 0)
    return compiled + uncompiled

  def multiplies_padding(self, function: Function, problem: Problem, plan: Plan) -> bool:
    """Returns whether padding is multiplied, which it is only along gathered axes."""
    del function
    if not problem.is_static:
      return True  # what is known of the axes does not say
    axes = problem.canonical.axes
    return any(
      (gathered and not _multiplies_cells_only(axis)) or tiles.of_result(axis, tile).pads
      for axis, gathered, tile in zip(axes, plan.gathered, (*plan.tile, None))
    )

  def untiled(self, plan: Plan) -> Plan:
    """Returns the same plan without tiles."""
    return plan.untiled()

  def backprop_input(
    self,
    problem: Problem,
    plan: Plan,
    filter: tf.Tensor,  # noqa: A002
    out_backprop: tf.Tensor,
  ) -> tf.Tensor:
    """Returns the gradient of the convolution in its input."""
    return run.backprop_input(problem, plan, filter, out_backprop)


def _multiplies_cells_only(axis: Axis) -> bool:
  """Returns whether gathering multiplies no padding along an axis."""
  if axis.is_shuffled or axis.taps > 1:
    return axis.is_shuffled
  (phase,) = geometry.phases(axis.taps, axis.stride, axis.dilation, axis.pad)
  (shift,) = phase.shifts
  return shift <= 0 and -(-axis.input // axis.stride) - shift <= axis.output
