"""How infinities and NaNs are found, and that a kernel's pairs of channels spread none.

Where they go in every kind of call is in `accuracy_test`.
"""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle, ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import nonfinite
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow.environment import Environment

FUNCTIONS = {function.op: function for function in functions.ALL}


class IsFiniteTest(parameterized.TestCase):
  @parameterized.parameters("float16", "bfloat16")
  def test_every_value_that_is_none_is_found(self, dtype):
    dtype = tf.as_dtype(dtype)
    for bits in range(2**16):
      value = np.array([0, bits, 0], np.uint16).view(dtype.as_numpy_dtype)
      with np.errstate(invalid="ignore"):
        expected = bool(np.isfinite(value[1]))
      if nonfinite._is_finite(tf.constant(value)) != expected:
        self.fail(f"{bits:#x} is taken for {'an infinity or a NaN' if expected else 'finite'}")

  @parameterized.parameters("float32", "float64")
  def test_a_sum_that_overflows_is_none(self, dtype):
    largest = np.finfo(dtype).max
    self.assertTrue(nonfinite._is_finite(tf.constant([largest, largest], dtype)))
    self.assertFalse(nonfinite._is_finite(tf.constant([largest, np.inf], dtype)))


class _Inexact(Lowering):
  """Multiplies padding, and both operands by zeros where its plan says so."""

  name = "inexact"

  def multiplies_neighbours(self, function, problem, plan):
    return plan == "both"


class LooksTest(parameterized.TestCase):
  """Which tensors are looked at: a result stands unless an infinity is found in one of them."""

  def stands(self, text, infinite, plan="one", of_result=7.0):
    """Returns whether a result full of one number is kept with an infinity in an operand."""
    case = Case.parse(text)
    function = FUNCTIONS[case.direction.op]
    problem, *operands = validation.validate(function, **case.arguments())
    if infinite is not None:
      wrong = operands[infinite].numpy()
      wrong.flat[0] = np.inf
      operands[infinite] = tf.constant(wrong)
    result = tf.fill(case.result_shape, of_result)
    offer = Offer(_Inexact(), plan, False, None)
    computed = nonfinite.exact(function, problem, offer, lambda *_: result)
    eager = computed(*operands) is result
    graph = tf.function(
      lambda *tensors: nonfinite.exact(function, problem, offer, lambda *_: result)(*tensors)
    )(*operands)
    self.assertEqual(bool(np.array_equal(graph, result, equal_nan=True)), eager)
    return eager

  @parameterized.parameters(
    ("mb1_id4_ic2oc1_k1x1x2s1d1_ndhwc_f32", 0),
    ("mb1_id4_ic1oc2_k1x1x2s1d1_ndhwc_f32_fwd", 0),
    ("mb1_id2_ic8oc8_k3s1d1_ndhwc_f32_bwd_w", 1),
  )
  def test_the_operand_that_padding_is_multiplied_by(self, text, looked_at):
    # The result is the largest of the three tensors: it is not looked at.
    self.assertTrue(self.stands(text, None))
    self.assertFalse(self.stands(text, looked_at))
    self.assertTrue(self.stands(text, 1 - looked_at))

  @parameterized.parameters(0, 1)
  def test_both_operands_if_both_are_multiplied_by_zeros(self, infinite):
    # With 36^3 cells, the result is larger than both and the price of one look more together.
    for text in ("mb1_id36_ic2oc1_k2s1d1_ndhwc_f32", "mb1_id36_ic1oc2_k2s1d1_ndhwc_f32_fwd"):
      self.assertTrue(self.stands(text, None, "both"))
      self.assertFalse(self.stands(text, infinite, "both"))

  @parameterized.parameters(0, 1)
  def test_a_smaller_result_first_and_then_the_operands(self, infinite):
    text = "mb1_id4_ic2oc2_k5s1d1_ndhwc_f32"  # 128 values, and 500 of the filter
    self.assertTrue(self.stands(text, infinite))  # of an infinity nothing came
    self.assertTrue(self.stands(text, None, of_result=np.nan))  # of none
    self.assertEqual(self.stands(text, infinite, of_result=np.nan), infinite == 1)

  def test_a_result_that_is_larger_by_less_than_another_look_costs(self):
    # 65,536 values, 32,768 and 16 of the operands.
    text, larger = (f"mb1_id{depth}x32x32_ic2oc1_k2s1d1_ndhwc_f32" for depth in (32, 34))
    self.assertTrue(self.stands(text, 0, "both"))
    self.assertFalse(self.stands(larger, 0, "both"))

  def test_a_result_as_large_as_the_operand_is_not_looked_at(self):
    text = "mb1_id2x2x4_ic1oc1_k2x2x4s1d1_ndhwc_f32"
    self.assertFalse(self.stands(text, 0))


class InXlaTest(parameterized.TestCase):
  """Where TensorFlow's own operation, compiled, spreads NaNs alike, nothing is looked at."""

  @parameterized.parameters(
    ("mb1_id5x6x7_ic2oc3_k3s1d1_ndhwc_f32", True),
    ("mb1_id5x6x7_ic2oc3_k3s1d1_ncdhw_bf16", True),
    ("mb1_id5x6x7_ic2oc3_k3s1d2_ndhwc_f32", True),  # taps as far apart as the output is long
    ("mb1_id4x6x7_ic2oc3_k3s1d2_ndhwc_f32", False),
    ("mb1_id6x6x4_ic2oc3_k3s1d2_ndhwc_f32", False),
    ("mb1_id5x6x7_ic2oc3_k3s1d1_ndhwc_f64", False),
    ("mb1_id5x6x7_ic2oc4g2_k3s1d1_ndhwc_f32", False),
    ("mb1_id5x6x7_ic2oc3_k3s2x1x1d1_ndhwc_f32", False),
    ("mb1_id5x6x7_ic2oc3_k3s1x1x2d1_ndhwc_f32", False),
    ("mb1_id5x6x7_ic2oc3_k1x3x3s1d1_ndhwc_f32", False),
    ("mb1_id5x6x7_ic2oc3_k3x3x1s1d1_ndhwc_f32", False),
  )
  def test_a_result_stands(self, text, stands):
    self.assertEqual(self.is_left_alone(text), stands)

  def test_nothing_is_known_of_sizes_that_only_the_run_tells(self):
    text = "mb2_id5x6x7_ic2oc3_k3s1d1_ndhwc_f32"
    self.assertTrue(self.is_left_alone(text))
    self.assertFalse(self.is_left_alone(text, batch=tf.constant(2)))

  def is_left_alone(self, text, **changes):
    case = Case.parse(text)
    problem, *_ = validation.validate(BACKPROP_INPUT, **case.arguments())
    offer = Offer(_Inexact(), "one", False, None)
    found = []

    def compute(*_):
      raise AssertionError("is not to be called")

    @tf.function(jit_compile=True, autograph=False)
    def compiled(x):
      changed = problem.replace(**{name: tf.identity(value) for name, value in changes.items()})
      found.append(nonfinite.exact(BACKPROP_INPUT, changed, offer, compute) is compute)
      return x

    compiled.get_concrete_function(tf.zeros([]))
    return found[0]


def specials(result):
  """Returns where an array has NaNs and infinities of either sign."""
  result = np.asarray(result).astype(np.float64)
  return np.isnan(result), np.isposinf(result), np.isneginf(result)


class PairsOfChannelsTest(parameterized.TestCase):
  """oneDNN's bfloat16 kernels take channels in pairs; an odd one may be given a neighbour's."""

  def each_with_an_infinity(self, case):
    """Yields arguments with an infinity in one channel of a cell in the middle, and the result's.

    The result's: the arrays of `specials`.
    """
    for channel in range(case.out_channels):
      arguments = case.arguments()
      last = case.data_format == "NDHWC"
      cells = np.moveaxis(arguments["out_backprop"], -1 if last else 1, -1)  # a view
      cells[(0, *(length // 2 for length in cells.shape[1:4]), channel)] = np.inf
      with np.errstate(invalid="ignore"):
        exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
      with self.subTest(channel=channel):
        yield arguments, exact

  @parameterized.product(
    notation=(
      "mb1_id4x5x6_ic2oc1_k3s1d1_ndhwc_bf16",
      "mb1_id4x5x6_ic2oc1_k1x1x2s1d1_ndhwc_bf16",
      "mb2_id5x4x6_ic2oc3_k3x2x3s2d1_ncdhw_bf16",
      "mb1_id6_ic16oc5_k2s1d2_ndhwc_bf16_valid",
      "mb1_id36_ic2oc1_k3s1d1_ndhwc_bf16",  # a result so large that the operands are looked at
    ),
    way=("never", "graph", "unknown-sizes"),
  )
  def test_they_reach_no_other_cells(self, notation, way):
    case = Case.parse(notation)
    with tf_conv3d_grad.jit_compile(False):
      for arguments, exact in self.each_with_an_infinity(case):
        result = ways.call(way, tf_conv3d_grad.Conv3DBackpropInputV2, arguments)
        np.testing.assert_array_equal(specials(result), specials(exact))

  def test_nor_group_by_group(self):
    case = Case.parse("mb1_id4x5x6_ic4oc6g2_k3s1d1_ndhwc_bf16")
    problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
    found = policy.candidates(BACKPROP_INPUT, problem, Environment.here(problem.dtype))
    (offer,) = (offer for offer in found if offer.lowering.name == "kernel")
    self.assertTrue(offer.plan.by_group)
    compute = offer.lowering.prepared(BACKPROP_INPUT, problem, offer.plan)
    compute = nonfinite.exact(BACKPROP_INPUT, problem, offer, compute)
    for arguments, exact in self.each_with_an_infinity(case):
      result = compute(*map(tf.constant, (arguments["filter"], arguments["out_backprop"])))
      np.testing.assert_array_equal(specials(result), specials(exact))

  @parameterized.parameters(1, 3, 5, 17)
  def test_of_a_pointwise_filter_they_reach_the_cells_beside_them_at_most(self, channels):
    case = Case.parse(f"mb2_id3x4x5_ic4oc{channels}_k1s1d1_ndhwc_bf16")
    for arguments, exact in self.each_with_an_infinity(case):
      result = ways.call("never", tf_conv3d_grad.Conv3DBackpropInputV2, arguments)
      (cell,) = np.flatnonzero(np.isinf(exact).any(-1))
      wrong = (np.array(specials(result)) != specials(exact)).any(0)
      self.assertLessEqual({*np.flatnonzero(wrong.any(-1))}, {cell - 1, cell + 1})
      self.assertTrue(np.isnan(result[wrong].astype(np.float64)).all())


class OtherFunctionsTest(testing.OpTestCase):
  """The convolution and its gradient in the filter: an infinity or a NaN anywhere in an operand."""

  GEOMETRIES = (
    "mb1_id4x5x6_ic2oc3_k3s1d1_ndhwc",
    "mb2_id5x4x6_ic3oc2_k3x2x3s2d1_ncdhw",
    "mb1_id5x6x4_ic4oc4g4_k3s1d1_ndhwc",
    "mb1_id6x5x7_ic4oc6g2_k2x3x3s1d2x1x2_ndhwc",
    "mb2_id5x5x4_ic3oc4_k2s2d1_ncdhw_{dtype}_valid",
    "mb1_id3x5x6_ic2oc4_k1s1d1_ndhwc",
  )
  DTYPES = ("f32", "f64", "bf16", "f16")

  @parameterized.product(geometry=GEOMETRIES, dtype=DTYPES, direction=("fwd", "bwd_w"))
  def test_they_reach_exactly_the_cells_of_the_sum(self, geometry, dtype, direction):
    self.check(geometry, dtype, direction, "never", 2 * [(np.inf, -np.inf, np.nan)])

  @parameterized.product(
    geometry=GEOMETRIES,
    dtype=DTYPES,
    direction=("fwd", "bwd_w"),
    way=("eager", "graph", "unknown-sizes", "always"),
  )
  def test_in_other_ways_of_calling_too(self, geometry, dtype, direction, way):
    self.check(geometry, dtype, direction, way, [(np.inf,), (np.nan,)])

  def check(self, geometry, dtype, direction, way, values):
    text = geometry.format(dtype=dtype)
    if dtype not in text.split("_"):
      text = f"{text}_{dtype}"
    case = Case.parse(f"{text}_{direction}")
    op = getattr(tf_conv3d_grad, case.direction.op)
    rng = np.random.default_rng(0)
    for name, of_operand in zip(case.direction.operands, values):
      for value in of_operand:
        arguments = case.arguments()
        operand = arguments[name]
        operand[tuple(rng.integers(length) for length in operand.shape)] = value
        with np.errstate(invalid="ignore"):
          exact = oracle.exact(case, arguments)
        with self.subTest(name=name, value=value):
          np.testing.assert_array_equal(specials(ways.call(way, op, arguments)), specials(exact))


class TakenApartTest(testing.OpTestCase):
  """Compiled functions that a vectorized loop makes single operations of, each with a kernel."""

  @parameterized.parameters(
    "mb1_id5x4x6_ic2oc3_k3s2d1_ncdhw_f64",
    "mb1_id5x4x6_ic2oc3_k3s1d2_ndhwc_f16",
    "mb1_id5x4x6_ic2oc3_k3s2d1_ncdhw_f32",
  )
  def test_no_kernel_is_made_that_refuses_the_call(self, notation):
    case = Case.parse(notation)
    filter, out_backprop = testing.tensors(case)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(one):
      return tf_conv3d_grad.Conv3DBackpropInputV2(
        case.input_sizes, filter, one, **case.attributes()
      )

    results = tf.vectorized_map(compiled, tf.stack(2 * [out_backprop]))
    for result in results:
      self.assert_right(case, case.arguments(), result)


if __name__ == "__main__":
  absltest.main()
