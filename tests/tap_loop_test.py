"""The loop over the taps, against the oracle."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.tap_loop import TapLoop, exactly
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.tensorflow.environment import Environment

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


class TapLoopTest(testing.OpTestCase):
  @parameterized.parameters(*CASES)
  def test_all_three_functions_are_right(self, text):
    case = Case.parse(text)
    arguments = case.arguments(0)
    problem, weights, out_backprop = validation.validate(BACKPROP_INPUT, **arguments)
    volume = testing.random_array(case, case.input_sizes, seed=1)
    result = exactly(BACKPROP_INPUT, problem)(weights, out_backprop)
    self.assert_right(case, arguments, result)
    result = exactly(CONV3D, problem)(weights, tf.constant(volume))
    self.assert_accurate(case, result, oracle.conv3d(case, volume, arguments["filter"]))
    result = exactly(BACKPROP_FILTER, problem)(tf.constant(volume), out_backprop)
    exact = oracle.conv3d_backprop_filter(case, volume, arguments["out_backprop"])
    self.assert_accurate(case, result, exact)

  def test_infinities_stay_where_the_sum_puts_them(self):
    case = Case.parse(CASES[0])
    arguments = case.arguments(0)
    problem, weights, _ = validation.validate(BACKPROP_INPUT, **arguments)
    poisoned = np.array(arguments["out_backprop"])
    poisoned[0, 0, 0, 0, 0] = np.inf
    result = exactly(BACKPROP_INPUT, problem)(weights, tf.constant(poisoned))
    exact = oracle.conv3d_backprop_input(case, arguments["filter"], poisoned)
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(exact))

  def test_it_is_offered_for_everything_on_a_cpu_at_no_known_cost(self):
    for text in (CASES[0], "mb1_id200x1x1_ic1oc1_k100x1x1s1d1_ndhwc_f32"):
      problem, _, _ = validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments(0))
      for function in (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER):
        for in_xla, mode, compiled in (
          (False, True, True), (False, False, False), (False, "auto", False), (True, True, False)
        ):
          here = Environment("CPU", onednn=True, in_xla=in_xla, mode=mode)
          (offer,) = TapLoop().offers(function, problem, here)
          self.assertEqual((offer.compiled, offer.cost, offer.is_native), (compiled, None, False))
          self.assertFalse(offer.lowering.multiplies_padding(function, problem, offer.plan))
        on_gpu = Environment("GPU", onednn=True, in_xla=False, mode="auto")
        self.assertEmpty(TapLoop().offers(function, problem, on_gpu))


if __name__ == "__main__":
  absltest.main()
