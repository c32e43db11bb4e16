"""The convolution and its gradient in the filter as products, against the oracle."""

import itertools

import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.im2col import Im2col, Plan
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
  "mb1_id5_ic2oc3_k3s30000d1_ndhwc_f32",  # of each axis one cell: nothing strides
  "mb2_id6x5x7_ic3oc4_k1s1d1_ndhwc_f32",
  "mb2_id6x5x7_ic3oc4_k1s1d1_ncdhw_f64",
  "mb1_id6x5x7_ic3oc4_k1s1d1_ncdhw_bf16_valid",
  "mb1_id6x5x7_ic4oc6g2_k1s1d1_ndhwc_f32",
)
IM2COL = Im2col()


class PlansTest(testing.OpTestCase):
  @parameterized.product(text=CASES, plan=(Plan(), Plan(depth=2), Plan(samples=1)))
  def test_whole_and_in_tiles(self, text, plan):
    self.assert_both_right(text, plan, lambda function: function)

  @parameterized.parameters(
    ("mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_bf16", Plan(depth=4)),
    ("mb2_id6x5x7_ic3oc4_k3x2x4s2x1x3d1x2x1_ncdhw_f32", Plan(depth=1)),
    ("mb1_id8_ic4oc6g2_k3s2d1_ndhwc_f64_valid", Plan()),
  )
  def test_compiled(self, text, plan):
    self.assert_both_right(text, plan, lambda function: tf.function(function, jit_compile=True))

  @parameterized.product(
    text=("mb4_id6x5x7_ic3oc4_k3s2d1_ndhwc_f32", "mb4_id6x5x7_ic4oc6g2_k3s1d2_ncdhw_f64"),
    samples=(1, 2),
    compiled=(False, True),
  )
  def test_some_samples_at_a_time(self, text, samples, compiled):
    def way(function):
      return tf.function(function, jit_compile=True) if compiled else function

    self.assert_both_right(text, Plan(samples=samples), way)

  @parameterized.product(
    text=(
      "mb2_id6x5x7_ic4oc4g4_k3x2x3s1x2x1d1x1x2_ndhwc_f32",
      "mb1_id6x5x7_ic3oc6g3_k3s2x1x1d1_ncdhw_f64",
      "mb2_id5x6x4_ic2oc8g2_k2x3x1s1d1_ndhwc_bf16_valid",
    ),
    plan=(Plan(), Plan(depth=2), Plan(samples=1)),
    compiled=(False, True),
  )
  def test_depthwise(self, text, plan, compiled):
    def way(function):
      return tf.function(function, jit_compile=True) if compiled else function

    self.assert_both_right(text, plan, way)

  def assert_both_right(self, text, plan, way):
    case = Case.parse(text)
    arguments = case.arguments(0)
    problem, weights, out_backprop = validation.validate(BACKPROP_INPUT, **arguments)
    volume = testing.random_array(case, case.input_sizes, seed=1)

    def both(weights, volume, out_backprop):
      return (
        IM2COL.conv3d(problem, plan, weights, volume),
        IM2COL.backprop_filter(problem, plan, volume, out_backprop),
      )

    output, in_filter = way(both)(weights, tf.constant(volume), out_backprop)
    self.assert_accurate(case, output, oracle.conv3d(case, volume, arguments["filter"]))
    exact = oracle.conv3d_backprop_filter(case, volume, arguments["out_backprop"])
    self.assert_accurate(case, in_filter, exact)


class OffersTest(parameterized.TestCase):
  def offers(self, text, function, **changes):
    where = {"device": "CPU", "onednn": True, "in_xla": False, "mode": "auto", **changes}
    problem, _, _ = validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments(0))
    return IM2COL.offers(function, problem, Environment(**where))

  @parameterized.parameters((False, 40), (True, 8))
  def test_a_plan_holds_at_most_8_mb_of_columns_and_40_by_calls(self, in_graph, most):
    for function, text in itertools.product((CONV3D, BACKPROP_FILTER), (
      "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32",
      "mb1_id24_ic32oc32_k3s1d1_ndhwc_f64",
      "mb64_id8_ic32oc32_k3s1d1_ndhwc_f32",
      "mb2_id4_ic16oc16_k3s1d1_ndhwc_f32",
    )):
      for offer in self.offers(text, function, in_graph=in_graph):
        megabytes = 8 if offer.compiled else most
        self.assertLessEqual(offer.cost.column_bytes, megabytes << 20, text)

  @parameterized.parameters((False, 40), (True, 8))
  def test_a_plan_holds_half_of_that_at_least_or_all(self, in_graph, most):
    # Samples and planes are shared out evenly.
    for text in ("mb1_id64x33x33_ic32oc8_k3s1d1_ndhwc_f32", "mb64_id8_ic32oc8_k3s1d1_ndhwc_f32"):
      for offer in self.offers(text, CONV3D, in_graph=in_graph):
        megabytes = (8 if offer.compiled else most) // 2
        self.assertGreaterEqual(offer.cost.column_bytes, megabytes << 20, text)
    (whole,) = {o.plan for o in self.offers("mb2_id6_ic8oc8_k3s1d1_ndhwc_f32", CONV3D, in_xla=True)}
    self.assertEqual(str(whole), "")

  @parameterized.product(data_format=("ndhwc", "ncdhw"), batch=(1, 2))
  def test_the_gradient_in_a_pointwise_filter_is_one_product_of_the_tensors(
    self, data_format, batch
  ):
    case = Case.parse(f"mb{batch}_id64_ic32oc64_k1s1d1_{data_format}_f32")
    problem, _, out_backprop = validation.validate(BACKPROP_INPUT, **case.arguments(0))
    for in_graph in (False, True):
      for offer in self.offers(str(case), BACKPROP_FILTER, in_graph=in_graph):
        self.assertEqual((str(offer.plan), offer.cost.column_bytes), ("", 0))
    traced = tf.function(
      lambda *operands: IM2COL.backprop_filter(problem, offer.plan, *operands), autograph=False
    ).get_concrete_function(tf.TensorSpec(problem.input_shape), tf.TensorSpec(out_backprop.shape))
    kinds = {operation.type for operation in traced.graph.get_operations()}
    kinds -= {"Placeholder", "Const", "Identity", "Reshape"}
    products = {"MatMul"} if data_format == "ndhwc" or batch == 1 else {"BatchMatMulV2", "Sum"}
    self.assertEqual(kinds, products)

  def test_a_plane_is_taken_at_least(self):
    text = "mb1_id3x300x300_ic64oc8_k3s1d1_ndhwc_f32"  # 622 MB of columns a plane
    for offer in self.offers(text, CONV3D):
      self.assertEqual((offer.plan.depth, str(offer.plan)), (1, "tiles of 1"))

  def test_a_depthwise_plan_counts_cells_of_all_channels(self):
    narrow, wide = (
      {
        offer.compiled: offer.plan.depth
        for offer in self.offers(
          f"mb1_id256x9x9_{channels}_k3s1d1_ndhwc_f32", CONV3D, in_graph=True
        )
      }
      for channels in ("ic256oc256g256", "ic512oc512g512")
    )
    for is_compiled, planes in narrow.items():
      self.assertLess(planes, 256)
      self.assertBetween(wide[is_compiled] / planes, 0.4, 0.6)

  def test_the_mode_says_what_may_be_compiled(self):
    text = "mb1_id8_ic8oc8_k3s1d1_ndhwc_f32"
    for mode, compiled in ((True, {True}), (False, {False}), ("auto", {True, False})):
      self.assertEqual({o.compiled for o in self.offers(text, CONV3D, mode=mode)}, compiled)
    self.assertEqual({o.compiled for o in self.offers(text, CONV3D, in_xla=True)}, {False})

  @parameterized.parameters((CONV3D,), (BACKPROP_FILTER,))
  def test_takes_no_dilation_that_is_mostly_padding(self, function):
    self.assertNotEmpty(self.offers("mb1_id8_ic8oc8_k3s1d40_ndhwc_f32", function))
    self.assertEmpty(self.offers("mb1_id8_ic8oc8_k3s1d400_ndhwc_f32", function))

  def test_takes_no_gradient_in_the_input_no_gpu_and_no_filter_of_more_than_343_taps(self):
    small = "mb1_id8_ic8oc8_k3s1d1_ndhwc_f32"
    self.assertEmpty(self.offers(small, BACKPROP_INPUT))
    self.assertEmpty(self.offers(small, CONV3D, device="GPU"))
    self.assertEmpty(self.offers("mb1_id8_ic2oc2_k8x7x7s1d1_ndhwc_f32", CONV3D))
    self.assertNotEmpty(self.offers("mb1_id8_ic2oc2_k7s1d1_ndhwc_f32", CONV3D))


if __name__ == "__main__":
  absltest.main()
