"""Overlap-add with every plan, against the oracle."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import im2col, overlap_add, tap_loop
from tf_conv3d_grad.plan import OVERLAP_ADD, TAP_LOOP, Plan

CASES = (
  "mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32",
  "mb2_id6x5x7_ic3oc4_k3x2x4s2x1x3d1x2x1_ncdhw_f32",
  "mb1_id8_ic4oc6g2_k3s2d1_ndhwc_f64_valid",
  "mb2_id5x4x6_ic6oc12g6_k3x1x3s1d2x1x1_ncdhw_f32",
  "mb1_id8x6x4_ic2oc3_k2s2d1_ndhwc_f32",
  "mb1_id9x5x5_ic2oc3_k5x3x3s4x1x1d1_ndhwc_f32_valid",
  "mb2_id3_ic2oc3_k7s1d1_ndhwc_f32",
  "mb1_id13x3x3_ic2oc3_k6x1x1s7x1x1d1_ncdhw_f32",
)
GATHERED = tuple(itertools.product((False, True), repeat=3))
LAYOUTS = tuple(itertools.product((False, True), repeat=2))
TILES = ((None, None), (2, None), (1, 3), (None, 2))


def operands(text):
  case = Case.parse(text)
  arguments = case.arguments(0)
  problem, weights, out_backprop = validation.validate(**arguments)
  return case, arguments, problem, weights, out_backprop


class PlansTest(testing.OpTestCase):
  @parameterized.parameters(*CASES)
  def test_every_choice_of_gathered_axes_is_right(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    for index, gathered in enumerate(GATHERED):
      rows_first, columns_first = LAYOUTS[index % len(LAYOUTS)]
      plan = Plan(
        OVERLAP_ADD, gathered=gathered, rows_first=rows_first, columns_first=columns_first
      )
      with self.subTest(plan=plan):
        result = overlap_add.backprop_input(problem, plan, weights, out_backprop)
        self.assert_right(case, arguments, result)

  @parameterized.parameters(*CASES)
  def test_every_tiling_is_right_in_every_layout(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    for index, (tile, layout) in enumerate(itertools.product(TILES, LAYOUTS)):
      rows_first, columns_first = layout
      plan = Plan(
        OVERLAP_ADD,
        gathered=GATHERED[index % len(GATHERED)],
        rows_first=rows_first,
        columns_first=columns_first,
        tile=tile,
      )
      with self.subTest(plan=plan):
        result = overlap_add.backprop_input(problem, plan, weights, out_backprop)
        self.assert_right(case, arguments, result)


class DerivativesTest(testing.OpTestCase):
  @parameterized.product(text=CASES, planes=(None, 2))
  def test_im2col_is_right_whole_and_in_tiles(self, text, planes):
    case, arguments, problem, weights, out_backprop = operands(text)
    volume = testing.random_array(case, case.input_sizes, seed=1)
    plan = Plan(OVERLAP_ADD, tile=(planes, None))
    self.assert_accurate(
      case,
      im2col.conv3d(problem, plan, weights, tf.constant(volume)),
      oracle.conv3d(case, volume, arguments["filter"]),
    )
    self.assert_accurate(
      case,
      im2col.backprop_filter(problem, plan, tf.constant(volume), out_backprop),
      oracle.conv3d_backprop_filter(case, volume, arguments["out_backprop"]),
    )


class TapLoopTest(testing.OpTestCase):
  @parameterized.parameters(*CASES)
  def test_the_loop_over_taps_is_right(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    volume = testing.random_array(case, case.input_sizes, seed=1)
    plan = Plan(TAP_LOOP)
    self.assert_right(
      case, arguments, tap_loop.backprop_input(problem, plan, weights, out_backprop)
    )
    self.assert_accurate(
      case,
      tap_loop.conv3d(problem, plan, weights, tf.constant(volume)),
      oracle.conv3d(case, volume, arguments["filter"]),
    )
    self.assert_accurate(
      case,
      tap_loop.backprop_filter(problem, plan, tf.constant(volume), out_backprop),
      oracle.conv3d_backprop_filter(case, volume, arguments["out_backprop"]),
    )

  def test_infinities_stay_where_the_sum_puts_them(self):
    case, arguments, problem, weights, _ = operands(CASES[0])
    poisoned = np.array(arguments["out_backprop"])
    poisoned[0, 0, 0, 0, 0] = np.inf
    result = tap_loop.backprop_input(problem, Plan(TAP_LOOP), weights, tf.constant(poisoned))
    exact = oracle.conv3d_backprop_input(case, arguments["filter"], poisoned)
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(exact))


if __name__ == "__main__":
  absltest.main()
