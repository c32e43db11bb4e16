"""The convolution as a flipped overlap-add, plan by plan, against the oracle."""

import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.flipped import Flipped
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.tensorflow.environment import Environment

FLIPPED = Flipped()
CASES = (
  "mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32_fwd",
  "mb1_id6x5x7_ic3oc4_k3x2x4s1d1x2x1_ncdhw_f64_fwd",
  "mb2_id7x8x6_ic4oc6g2_k2x3x1s1d2x1x1_ndhwc_f64_valid_fwd",
  "mb1_id5x6x4_ic6oc6g6_k3s1d1_ncdhw_f32_fwd",
  "mb1_id3x4x5_ic4oc5_k5x1x2s1d1_ndhwc_bf16_fwd",
)


def problem_and_operands(text):
  case = Case.parse(text)
  arguments = case.arguments(0)
  problem, *operands = validation.validate(CONV3D, **arguments)
  exact = oracle.conv3d(case, arguments["input"], arguments["filter"])
  return case, problem, operands, exact


def offers(problem, function=CONV3D, **changes):
  where = {"device": "CPU", "onednn": True, "in_xla": False, "mode": "auto", **changes}
  return FLIPPED.offers(function, problem, Environment(**where))


class ResultsTest(testing.OpTestCase):
  @parameterized.parameters(*CASES)
  def test_every_offer_computes_the_convolution(self, text):
    case, problem, operands, exact = problem_and_operands(text)
    found = offers(problem)
    self.assertNotEmpty(found)
    for plan in dict.fromkeys(offer.plan for offer in found):
      compute = FLIPPED.prepared(CONV3D, problem, plan)
      self.assert_accurate(case, tf.function(compute, autograph=False)(*operands), exact)

  @parameterized.parameters(*CASES)
  def test_inside_of_what_xla_compiles(self, text):
    case, problem, operands, exact = problem_and_operands(text)
    plan = offers(problem, in_xla=True)[0].plan
    compute = tf.function(
      FLIPPED.prepared(CONV3D, problem, plan), jit_compile=True, autograph=False
    )
    self.assert_accurate(case, compute(*operands), exact)


class OffersTest(parameterized.TestCase):
  def test_takes_convolutions_without_strides_only(self):
    case = Case.parse("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32_fwd")
    problem = validation.validate(CONV3D, **case.arguments(0))[0]
    self.assertNotEmpty(offers(problem))
    self.assertEmpty(offers(problem, BACKPROP_INPUT))
    self.assertEmpty(offers(problem, BACKPROP_FILTER))
    strided = Case.parse("mb1_id8_ic4oc4_k3s2x1x1d1_ndhwc_f32_fwd")
    self.assertEmpty(offers(validation.validate(CONV3D, **strided.arguments(0))[0]))


if __name__ == "__main__":
  absltest.main()
