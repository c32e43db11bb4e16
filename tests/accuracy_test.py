"""How accurate the sums are, and where infinities and NaNs go."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import differential, oracle, ways
from tf_conv3d_grad.conformance.case import Case

# Each cell of the result adds up 10,000 terms: over channels, over taps, over both, in groups.
LONG_SUMS = (
  "mb1_id2x1x3_ic3oc10000_k1s1d1_ndhwc_{dtype}",
  "mb1_id2x2x3_ic2oc2500_k2x2x1s1x2x1d1_ncdhw_{dtype}",
  "mb1_id19_ic1oc10_k10s1d1_ndhwc_{dtype}_valid",
  "mb1_id40x1x2_ic2oc800g2_k25x1x1s1d2x1x1_ndhwc_{dtype}",
)


def call(way, arguments):
  """Returns the op's result, called in one of the ways."""
  return ways.call(way, tf_conv3d_grad.Conv3DBackpropInputV2, arguments)


class SumsTestCase(testing.OpTestCase):
  def assert_sum_right(self, notation, dtype, way, are_positive):
    case = Case.parse(notation.format(dtype=dtype))
    arguments = case.arguments()
    for name in ("filter", "out_backprop") if are_positive else ():
      arguments[name] = abs(arguments[name])
    self.assert_right(case, arguments, call(way, arguments))


class LongSumsTest(SumsTestCase):
  @parameterized.product(
    notation=LONG_SUMS, dtype=("f16", "bf16", "f32", "f64"), way=("eager", "never")
  )
  def test_terms_of_both_signs(self, notation, dtype, way):
    self.assert_sum_right(notation, dtype, way, are_positive=False)

  @parameterized.product(
    notation=LONG_SUMS, dtype=("f16", "bf16", "f32", "f64"), way=("eager", "never")
  )
  def test_positive_terms(self, notation, dtype, way):
    # The sums grow far beyond their terms: in half, a sum kept in half would stop growing.
    self.assert_sum_right(notation, dtype, way, are_positive=True)

  @parameterized.product(
    dtype=("f16", "bf16", "f32", "f64"),
    way=("graph", "unknown-sizes", "unknown-ranks", "compiled-unknown-batch", "always"),
  )
  def test_in_the_other_ways_of_calling(self, dtype, way):
    self.assert_sum_right(LONG_SUMS[1], dtype, way, are_positive=False)


class CompiledSumsTest(SumsTestCase):
  """XLA compiles for the processor there is, whatever oneDNN is told of it."""

  @parameterized.product(
    notation=LONG_SUMS, dtype=("f16", "bf16", "f32", "f64"), are_positive=(False, True)
  )
  def test_are_right(self, notation, dtype, are_positive):
    self.assert_sum_right(notation, dtype, "compiled", are_positive)


SPECIALS = {
  "infinity": (np.inf,),
  "negative_infinity": (-np.inf,),
  "nan": (np.nan,),
  "both_infinities_and_a_nan": (np.inf, -np.inf, np.nan),
}
GEOMETRIES = (
  "mb2_id4x5x6_ic2oc3_k3s1d1_ndhwc_{dtype}",
  "mb1_id7x6x5_ic2oc2_k2x1x3s3x2x1d1_ndhwc_{dtype}_valid",
  "mb1_id6x5x7_ic4oc6g2_k3x2x3s1d1x2x2_ncdhw_{dtype}",
  "mb2_id5x4x6_ic2oc3_k2x3x5s2d2x1x1_ncdhw_{dtype}_valid",
  "mb1_id3x4x5_ic3oc3g3_k5x4x3s1d1_ndhwc_{dtype}",
  "mb1_id3x4x3_ic40oc30_k3x2x3s1d1_ndhwc_{dtype}",  # a result smaller than the filter
  "mb1_id8_ic4oc3_k3x2x3s1d1x2x1_ncdhw_{dtype}",  # XLA leaves it to Eigen
)


def with_specials(case, place, specials):
  """Returns the case's arguments with special values at random places of one tensor."""
  arguments = case.arguments()
  flat = arguments[place].reshape(-1)
  places = np.random.default_rng(1).choice(flat.size, len(specials), replace=False)
  flat[places] = specials
  return arguments


def kinds(values):
  """Returns what each value is: a number, an infinity of either sign, or a NaN."""
  values = np.asarray(values).astype(np.float64)
  return np.select(
    [np.isnan(values), np.isposinf(values), np.isneginf(values)], ["nan", "+inf", "-inf"], "finite"
  )


class SpecialValuesTest(parameterized.TestCase):
  def exact_kinds(self, case, arguments):
    with np.errstate(invalid="ignore"):
      return kinds(
        oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
      )

  def assert_finite_cells_right(self, case, arguments, result):
    """Asserts that the cells that stay finite have their values, whatever reaches the others."""
    with np.errstate(invalid="ignore"):
      exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
    finite = np.isfinite(exact) & np.isfinite(result.astype(np.float64))
    error = differential.relative_error(result[finite], exact[finite])
    self.assertLessEqual(error, differential.relative_tolerance(exact[finite], case.dtype))

  @parameterized.product(
    geometry=GEOMETRIES,
    dtype=("f16", "bf16", "f32", "f64"),
    place=("filter", "out_backprop"),
    specials=tuple(SPECIALS),
  )
  def test_uncompiled_they_reach_exactly_the_cells_of_the_sum(
    self, geometry, dtype, place, specials
  ):
    case = Case.parse(geometry.format(dtype=dtype))
    arguments = with_specials(case, place, SPECIALS[specials])
    result = call("never", arguments)
    np.testing.assert_array_equal(kinds(result), self.exact_kinds(case, arguments))
    self.assert_finite_cells_right(case, arguments, result)

  @parameterized.product(
    geometry=GEOMETRIES,
    way=("graph", "unknown-sizes", "unknown-ranks"),
    place=("filter", "out_backprop"),
    specials=("infinity", "both_infinities_and_a_nan"),
  )
  def test_in_uncompiled_graphs_too(self, geometry, way, place, specials):
    case = Case.parse(geometry.format(dtype="f32"))
    arguments = with_specials(case, place, SPECIALS[specials])
    with tf_conv3d_grad.jit_compile(False):
      result = call(way, arguments)
    np.testing.assert_array_equal(kinds(result), self.exact_kinds(case, arguments))

  @parameterized.product(
    geometry=(
      "mb1_id12x1x1_ic1oc1_k5x1x1s6x1x1d1_ndhwc_{dtype}_valid",  # nearly as long as the stride
      "mb1_id2x1x1_ic1oc1_k2x1x1s1d3x1x1_ndhwc_{dtype}",  # one tap reaches, beside the middle
      "mb1_id3x1x1_ic1oc1_k1s4x1x1d1_ndhwc_{dtype}",  # a stride beyond the end
      "mb1_id1x1x1_ic1oc1_k3x1x1s1d1_ndhwc_{dtype}",
    ),
    dtype=("f32", "f64"),
    way=("eager", "never", "always"),
    place=("filter", "out_backprop"),
  )
  def test_where_few_taps_or_cells_are_left(self, geometry, dtype, way, place):
    case = Case.parse(geometry.format(dtype=dtype))
    for index in range(case.arguments()[place].size):
      arguments = case.arguments()
      arguments[place].reshape(-1)[index] = np.inf
      with self.subTest(index=index):
        result = call(way, arguments)
        np.testing.assert_array_equal(kinds(result), self.exact_kinds(case, arguments))

  @parameterized.product(geometry=GEOMETRIES, dtype=("f16", "bf16", "f32", "f64"))
  def test_always_compiled_by_itself_too(self, geometry, dtype):
    case = Case.parse(geometry.format(dtype=dtype))
    arguments = with_specials(case, "filter", SPECIALS["both_infinities_and_a_nan"])
    result = call("always", arguments)
    np.testing.assert_array_equal(kinds(result), self.exact_kinds(case, arguments))
    self.assert_finite_cells_right(case, arguments, result)

  @parameterized.product(
    geometry=GEOMETRIES,
    dtype=("f16", "bf16", "f32", "f64"),
    place=("filter", "out_backprop"),
  )
  def test_compiled_more_cells_turn_nan_only_where_the_raw_op_has_them(
    self, geometry, dtype, place
  ):
    case = Case.parse(geometry.format(dtype=dtype))
    arguments = with_specials(case, place, SPECIALS["both_infinities_and_a_nan"])
    result = call("compiled", arguments)
    raw = ways.call("compiled", tf.raw_ops.Conv3DBackpropInputV2, arguments)
    expected = self.exact_kinds(case, arguments)
    # XLA multiplies padding, and infinity times zero is NaN.
    excused = (kinds(result) == "nan") & (kinds(raw) == "nan")
    np.testing.assert_array_equal(kinds(result)[~excused], expected[~excused])
    self.assert_finite_cells_right(case, arguments, result)


if __name__ == "__main__":
  absltest.main()
