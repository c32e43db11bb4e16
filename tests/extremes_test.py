"""Numbers and sizes at the ends of what there is."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle, ways
from tf_conv3d_grad.conformance.case import Case

MODES = ("eager", "graph", "compiled", "never", "always")


def call(way, arguments):
  """Returns the op's result, called in one of the ways."""
  return ways.call(way, tf_conv3d_grad.Conv3DBackpropInputV2, arguments)


class NumbersTest(testing.OpTestCase):
  @parameterized.product(
    dtype=("f16", "bf16", "f32", "f64"), way=MODES, layout=("s1d1_ndhwc", "s2d1_ncdhw")
  )
  def test_a_sum_beyond_the_largest_number_is_infinite_of_its_sign(self, dtype, way, layout):
    case = Case.parse(f"mb1_id4x5x6_ic2oc3_k3{layout}_{dtype}")
    arguments = case.arguments()
    largest = float(tf.as_dtype(case.dtype).max)
    for name in ("filter", "out_backprop"):
      arguments[name] = np.sign(arguments[name])
    # Twice it in one channel, and nothing to weigh against that.
    arguments["filter"][..., 0, :] = abs(arguments["filter"][..., 0, :]) * largest
    arguments["filter"][..., 1, :] = 1
    arguments["out_backprop"] = np.abs(arguments["out_backprop"]) * -2
    arguments = {
      name: value.astype(tf.as_dtype(case.dtype).as_numpy_dtype)
      if name in ("filter", "out_backprop")
      else value
      for name, value in arguments.items()
    }
    result = np.asarray(call(way, arguments)).astype(np.float64)
    finite = {**arguments, "filter": np.ones_like(arguments["filter"])}
    counts = oracle.conv3d_backprop_input(case, finite["filter"], finite["out_backprop"])
    first, second = (
      np.take(values, index, -1 if case.data_format == "NDHWC" else 1)
      for values, index in ((result, 0), (result, 1))
    )
    np.testing.assert_array_equal(first, np.full_like(first, -np.inf))
    np.testing.assert_array_equal(
      second, np.take(counts, 1, -1 if case.data_format == "NDHWC" else 1)
    )

  @parameterized.product(way=MODES, layout=("s1d1_ndhwc", "s2d1_ncdhw"))
  def test_in_half_only_the_sum_overflows_not_a_part_of_it(self, way, layout):
    case = Case.parse(f"mb1_id4x5x6_ic2oc64_k3{layout}_f16")
    arguments = case.arguments()
    # 32 terms of 60000 less as many: in half the first two would be infinite already.
    arguments["filter"] = np.full(case.filter_shape, 60000, np.float16)
    arguments["filter"][..., 32:] = -60000
    arguments["out_backprop"] = np.ones(case.out_backprop_shape, np.float16)
    result = np.asarray(call(way, arguments))
    np.testing.assert_array_equal(result, np.zeros_like(result))

  @parameterized.product(dtype=("f16", "bf16", "f32", "f64"), way=MODES)
  def test_denormals_are_those_of_the_sum_or_zero(self, dtype, way):
    # Processors may be told to take them for zeros, and TensorFlow and XLA do tell them.
    case = Case.parse(f"mb1_id4x5x6_ic2oc3_k1s1d1_ndhwc_{dtype}")
    numpy_dtype = tf.as_dtype(case.dtype).as_numpy_dtype
    info = np.finfo(np.float32) if dtype == "bf16" else np.finfo(numpy_dtype)
    arguments = case.arguments()
    arguments["filter"] = np.full(case.filter_shape, float(info.tiny) / 4).astype(numpy_dtype)
    arguments["out_backprop"] = np.ones(case.out_backprop_shape, numpy_dtype)
    result = np.asarray(call(way, arguments)).astype(np.float64)
    exact = 3 * float(info.tiny) / 4
    # Half is added up in float32, where its denormals are none.
    allowed = (exact,) if dtype == "f16" else (0.0, exact)
    for value in np.unique(result):
      self.assertIn(value, allowed)


class SizesTest(testing.OpTestCase):
  @parameterized.product(
    notation=(
      "mb1_id1000000x1x1_ic1oc2_k3x1x1s1d1_ndhwc_f32",
      "mb1_id1x1000000x1_ic2oc1_k1x5x1s1x2x1d1_ncdhw_f64",
      "mb1_id1x1x1000000_ic1oc1_k1x1x3s1d1x1x1000_ndhwc_f16",
      "mb1000000_id1_ic1oc1_k1s1d1_ndhwc_f32",
    ),
    way=("eager", "compiled"),
  )
  def test_a_very_long_axis(self, notation, way):
    self.assert_case_right(notation, way)

  @parameterized.product(
    notation=(
      "mb1_id2x3x2_ic4096oc3_k3x1x2s1d1_ndhwc_f32",
      "mb1_id2x3x2_ic3oc4096_k3x1x2s2x1x1d1_ncdhw_f64",
      "mb1_id2x3x2_ic4096oc4096g4096_k3x1x2s1d1_ndhwc_f32",
      "mb1_id2_ic4096oc4096g64_k1s1d1_ncdhw_bf16",
    ),
    way=("eager", "compiled"),
  )
  def test_very_many_channels(self, notation, way):
    self.assert_case_right(notation, way)

  @parameterized.product(
    notation=(
      "mb1_id4x3x2_ic1oc2_k31s1d1_ndhwc_f32",
      "mb1_id3x4x2_ic2oc2g2_k31s2d1_ndhwc_f16",
    ),
    way=("eager", "compiled", "unknown-sizes"),
  )
  def test_a_filter_far_larger_than_the_result(self, notation, way):
    self.assert_case_right(notation, way)

  def test_a_very_large_filter(self):
    self.assert_case_right("mb1_id32_ic1oc1_k31s1d1_ncdhw_f64_valid", "eager")

  def assert_case_right(self, notation, way):
    case = Case.parse(notation)
    arguments = case.arguments()
    self.assert_right(case, arguments, call(way, arguments))


if __name__ == "__main__":
  absltest.main()
