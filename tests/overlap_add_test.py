"""Overlap-add with every plan, against the oracle."""

import functools
import itertools
import math
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import nonfinite
from tf_conv3d_grad.lowering.interface import Offer
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd, offers
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST
from tf_conv3d_grad.tensorflow import xla_onednn
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
GATHERED = tuple(itertools.product((False, True), repeat=3))
LAYOUTS = tuple(itertools.product((CHANNELS_LAST, CHANNELS_FIRST), repeat=2))
OVERLAP_ADD = OverlapAdd()
TILES = ((None, None), (2, None), (1, 3), (None, 2))


def operands(text):
  case = Case.parse(text)
  arguments = case.arguments(0)
  problem, weights, out_backprop = validation.validate(BACKPROP_INPUT, **arguments)
  return case, arguments, problem, weights, out_backprop


class PlansTest(testing.OpTestCase):
  @parameterized.parameters(*CASES)
  def test_every_choice_of_gathered_axes_is_right(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    for index, gathered in enumerate(GATHERED):
      plan = Plan(gathered, *LAYOUTS[index % len(LAYOUTS)])
      with self.subTest(plan=plan):
        result = OVERLAP_ADD.backprop_input(problem, plan, weights, out_backprop)
        self.assert_right(case, arguments, result)

  @parameterized.parameters(*CASES)
  def test_every_tiling_is_right_in_every_layout(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    for index, (tile, layout) in enumerate(itertools.product(TILES, LAYOUTS)):
      plan = Plan(GATHERED[index % len(GATHERED)], *layout, tile)
      with self.subTest(plan=plan):
        result = OVERLAP_ADD.backprop_input(problem, plan, weights, out_backprop)
        self.assert_right(case, arguments, result)

  @parameterized.parameters(
    "mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32",
    "mb1_id8_ic4oc6g2_k3s2d1_ndhwc_f64_valid",
    "mb1_id9_ic2oc3_k3s1d4_ncdhw_f32",
  )
  def test_scattered_taps_meet_no_padding(self, text):
    case, arguments, problem, weights, out_backprop = operands(text)
    filter = arguments["filter"].copy()
    filter.reshape(-1)[:: max(2, filter.size // 3)] = np.inf
    for layout in LAYOUTS:
      plan = Plan((False, False, False), *layout)
      result = OVERLAP_ADD.backprop_input(problem, plan, tf.constant(filter), out_backprop)
      with np.errstate(invalid="ignore"):
        exact = oracle.conv3d_backprop_input(case, filter, arguments["out_backprop"])
      np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
      np.testing.assert_array_equal(np.isinf(result), np.isinf(exact))
      self.assertFalse(OVERLAP_ADD.multiplies_padding(BACKPROP_INPUT, problem, plan))

  @parameterized.parameters(
    ("mb1_id8x5x5_ic2oc3_k3x1x1s1d16x1x1_ndhwc_f32", 4),  # dead taps
    ("mb1_id4x5x5_ic2oc3_k4x1x1s1d1_ndhwc_f32_valid", 2),  # one cell of out_backprop
    ("mb1_id9x5x5_ic2oc3_k2x1x1s2x1x1d1_ndhwc_f32_valid", 4),  # cells behind the last tap
    ("mb2_id6x5x7_ic2oc3_k3x1x1s1d1_ncdhw_f32", 2),
    ("mb2_id8x5x7_ic2oc3_k2x1x1s2x1x1d1_ncdhw_f32", 2),
  )
  def test_taps_of_tiles_meet_no_padding_either(self, text, tile):
    case, _, problem, weights, out_backprop = operands(text)
    plan = Plan(tile=(tile, None))
    compute = functools.partial(OVERLAP_ADD.backprop_input, problem, plan)
    offer = Offer(OVERLAP_ADD, plan, False, None)
    compute = nonfinite.exact(BACKPROP_INPUT, problem, offer, compute)
    for tap in range(weights.shape[0]):
      filter = weights.numpy()
      filter[tap] = np.inf
      with np.errstate(invalid="ignore"):
        exact = oracle.conv3d_backprop_input(case, filter, out_backprop.numpy())
      result = compute(tf.constant(filter), out_backprop).numpy()
      np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
      np.testing.assert_array_equal(np.isinf(result), np.isinf(exact))

  @parameterized.product(
    input_cells=tuple(range(1, 8)), stride=(1, 2, 3), taps=(1, 2), padding=("", "_valid")
  )
  def test_gathered_taps_that_meet_no_padding(self, input_cells, stride, taps, padding):
    form = f"k{taps}x1x1s{stride}x1x1d1_ndhwc_f32{padding}"
    case = Case.parse(f"mb1_id{input_cells}x3x3_ic2oc3_{form}")
    if 0 in case.out_backprop_shape:
      return
    problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
    axis = problem.canonical.axes[0]
    plan = Plan((True, False, False))
    says = OVERLAP_ADD.multiplies_padding(BACKPROP_INPUT, problem, plan)
    # A phase has as many cells as the longest; its first lies `-shift` behind the first output.
    phases = geometry.phases(axis.taps, axis.stride, axis.dilation, axis.pad)
    cells = -(-axis.input // axis.stride)
    read = {cell - shift for phase in phases for shift in phase.shifts for cell in range(cells)}
    beyond = not read <= set(range(axis.output))
    if not says and not axis.is_shuffled:
      self.assertFalse(beyond, axis)
    if axis.taps == 1:
      self.assertEqual(says, beyond, axis)

  @parameterized.parameters(
    ("mb1_id4x1x1_ic2oc2_k2x1x1s1d8x1x1_ndhwc_f32", True),  # both taps reach padding alone
    ("mb1_id4x1x1_ic2oc2_k3x1x1s1d8x1x1_ndhwc_f32", False),  # one of three reaches cells
    ("mb1_id4x1x1_ic2oc2_k3x1x1s1d1_ndhwc_f32", True),
    ("mb1_id4x1x1_ic2oc2_k2x1x1s2x1x1d1_ndhwc_f32", False),
  )
  def test_gathered_taps_multiply_padding_or_not(self, text, expected):
    problem = operands(text)[2]
    plan = Plan((True, False, False))
    self.assertEqual(OVERLAP_ADD.multiplies_padding(BACKPROP_INPUT, problem, plan), expected)

  @parameterized.product(
    text=("mb2_id4x5x3_ic6oc{}_k1s1d1_ndhwc_f32", "mb1_id4x6x2_ic5oc{}_k2s2d1_ndhwc_f32"),
    channels=(1, 2, 3, 4, 5),
    gathered=((False, False, False), (True, True, False)),
  )
  def test_few_channels_where_nothing_overlaps(self, text, channels, gathered):
    case, arguments, problem, weights, out_backprop = operands(text.format(channels))
    plan = Plan(gathered, in_xla=True)
    compute = functools.partial(OVERLAP_ADD.backprop_input, problem, plan)
    for options in ({}, {"jit_compile": True}):
      result = tf.function(compute, autograph=False, **options)(weights, out_backprop)
      self.assert_right(case, arguments, result)

  def test_xla_need_not_transpose_the_matrix_of_a_product_over_two_or_three_channels(self):
    for text in ("mb1_id4_ic6oc{}_k1s1d1_ndhwc_f32", "mb1_id4_ic6oc{}_k3s1d1_ndhwc_f32"):
      for channels, is_transposed in ((1, True), (2, False), (3, False), (4, True)):
        _, _, problem, *tensors = operands(text.format(channels))
        compute = functools.partial(OVERLAP_ADD.backprop_input, problem, Plan(in_xla=True))
        graph = tf.function(compute, autograph=False).get_concrete_function(*tensors).graph
        (product,) = (op for op in graph.get_operations() if op.type == "MatMul")
        self.assertEqual(product.get_attr("transpose_b"), is_transposed, (text, channels))

  def test_columns_are_not_spread_out_before_they_are_added_up(self):
    case, _, problem, weights, out_backprop = operands(
      "mb1_id64x8x8_ic2oc2_k1x9x1s16x1x1d1_ndhwc_f32"
    )
    sizes = self.sizes(problem, Plan(), weights, out_backprop)
    self.assertLessEqual(max(sizes), 2 * math.prod(case.input_sizes))

  @parameterized.parameters("mb1_id9_ic2oc2_k8s4d1_ndhwc_f32", "mb1_id9_ic2oc2_k8s4d1_ncdhw_f32")
  def test_many_taps_of_many_phases_are_few_operations(self, text):
    _, _, problem, weights, out_backprop = operands(text)
    for columns in (CHANNELS_LAST, CHANNELS_FIRST):
      plan = Plan(columns=columns)
      self.assertLess(len(self.sizes(problem, plan, weights, out_backprop)), 300)

  def sizes(self, problem, plan, weights, out_backprop):
    """Returns how many numbers each operation's result has."""
    compute = tf.function(functools.partial(OVERLAP_ADD.backprop_input, problem, plan))
    graph = compute.get_concrete_function(weights, out_backprop).graph
    tensors = [tensor for operation in graph.get_operations() for tensor in operation.outputs]
    return [tensor.shape.num_elements() or 0 for tensor in tensors]

  @parameterized.product(
    text=("mb4_id6x5x7_ic3oc4_k3s2d1_ndhwc_f32", "mb4_id6x5x7_ic4oc6g2_k3s1d2_ncdhw_f64"),
    samples=(1, 2),
    compiled=(False, True),
  )
  def test_some_samples_at_a_time(self, text, samples, compiled):
    case, arguments, problem, weights, out_backprop = operands(text)
    for rows, columns in LAYOUTS:
      plan = Plan((True, False, False), rows, columns, samples=samples, in_xla=compiled)
      compute = functools.partial(OVERLAP_ADD.backprop_input, problem, plan)
      compute = tf.function(compute, jit_compile=True) if compiled else compute
      self.assert_right(case, arguments, compute(weights, out_backprop))

  @parameterized.product(
    text=(
      "mb1_id4x12x11_ic3oc3g3_k1x9x9s1d1_ndhwc_f32",
      "mb2_id5x9x10_ic2oc4g2_k3x9x9s2x1x1d1_ncdhw_f64",
      "mb1_id9x9x9_ic2oc2g2_k5s1d1_ndhwc_f16",
    ),
    mode=(True, False),
  )
  def test_many_depthwise_taps(self, text, mode):
    case = Case.parse(text)
    arguments = case.arguments()
    with tf_conv3d_grad.jit_compile(mode):
      self.assert_right(case, arguments, tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))

  def test_more_depthwise_taps_than_a_loop_over_cells_holds_are_a_loop_of_their_own(self):
    for taps, is_loop in ("1x8x8", False), ("1x5x13", True):
      _, _, problem, *tensors = operands(f"mb1_id3x9x9_ic2oc2g2_k{taps}s1d1_ndhwc_f32")
      plan = Plan((True, True, True), in_xla=True)
      compute = tf.function(functools.partial(OVERLAP_ADD.backprop_input, problem, plan))
      graph = compute.get_concrete_function(*tensors).graph
      loops = [op for op in graph.get_operations() if op.type.endswith("While")]
      self.assertEqual(bool(loops), is_loop, taps)

  def test_a_depthwise_one_that_scatters_nothing_multiplies_no_zeros_of_other_channels(self):
    _, _, problem, weights, out_backprop = operands("mb1_id5_ic6oc6g6_k3s1d1_ndhwc_f32")
    for gathered, has_products in (((True, True, True), False), ((True, True, False), True)):
      plan = Plan(gathered)
      compute = tf.function(functools.partial(OVERLAP_ADD.backprop_input, problem, plan))
      graph = compute.get_concrete_function(weights, out_backprop).graph
      found = {operation.type for operation in graph.get_operations()}
      self.assertEqual(any("MatMul" in each for each in found), has_products, found)

  @parameterized.product(text=(CASES[0], CASES[1], CASES[5]), tile=TILES[1:])
  def test_every_tiling_is_right_compiled(self, text, tile):
    case, arguments, problem, weights, out_backprop = operands(text)
    plan = Plan((True, False, False), tile=tile, in_xla=True)
    compute = tf.function(
      lambda *operands: OVERLAP_ADD.backprop_input(problem, plan, *operands), jit_compile=True
    )
    self.assert_right(case, arguments, compute(weights, out_backprop))


class OffersTest(absltest.TestCase):
  def offers(self, text, function=BACKPROP_INPUT, **changes):
    where = {"device": "CPU", "onednn": True, "in_xla": False, "mode": "auto", **changes}
    problem, _, _ = validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments(0))
    return OVERLAP_ADD.offers(function, problem, Environment(**where))

  def test_the_mode_says_what_may_be_compiled(self):
    for mode, compiled in ((True, {True}), (False, {False}), ("auto", {True, False})):
      found = self.offers(CASES[0], mode=mode)
      self.assertEqual({offer.compiled for offer in found}, compiled)
      for offer in found:
        self.assertEqual(offer.plan.in_xla, offer.compiled)
    inside = self.offers(CASES[0], in_xla=True)
    self.assertEqual({(offer.compiled, offer.plan.in_xla) for offer in inside}, {(False, True)})

  def test_takes_the_gradient_in_the_input_on_a_cpu_alone(self):
    for function in (CONV3D, BACKPROP_FILTER):
      self.assertEmpty(self.offers(CASES[0], function))
    self.assertEmpty(self.offers(CASES[0], device="GPU"))
    self.assertNotEmpty(self.offers(CASES[0]))

  def test_takes_no_more_taps_and_phases_than_are_worth_unrolling(self):
    for window, taken in (("k65x1x1s1d1", False), ("k64x1x1s1d1", True), ("k65x1x1s65x1x1d1", True),
                          ("k6x6x3s5x5x1d1", True), ("k6x6x6s5d1", False)):  # fmt: skip
      found = self.offers(f"mb1_id130x26x26_ic1oc1_{window}_ndhwc_f32")
      self.assertEqual(bool(found), taken, window)


class InTilesTest(testing.OpTestCase):
  """What is computed tile by tile inside a compiled function, as anything else is."""

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "0"}))
    limits = {"MAX_COLUMN_BYTES": 1 << 10, "_CACHE_COLUMN_BYTES": (1 << 10,)}
    self.enter_context(mock.patch.multiple(offers, **limits))
    policy.forget()
    self.addCleanup(policy.forget)
    self.case, self.arguments, problem, self.weights, self.out_backprop = operands(CASES[1])
    inside = Environment("CPU", onednn=True, in_xla=True, mode="auto")
    plan = policy.choose(BACKPROP_INPUT, problem, inside).plan
    self.assertNotEqual(plan.tile, (None, None))

  def op(self, weights, out_backprop):
    return tf_conv3d_grad.Conv3DBackpropInputV2(
      self.case.input_sizes, weights, out_backprop, **self.case.attributes()
    )

  def test_in_place(self):
    compiled = tf.function(self.op, jit_compile=True)
    self.assert_right(self.case, self.arguments, compiled(self.weights, self.out_backprop))
    hlo = compiled.experimental_get_compiler_ir(self.weights, self.out_backprop)(stage="hlo")
    # The whole result, with what the last tiles have too much.
    self.assertRegex(hlo, r"f32\[2,3,6,[56],7\]\S* dynamic-update-slice")

  def test_forward_mode(self):
    @tf.function(jit_compile=True)
    def derivative(weights, out_backprop):
      with tf.autodiff.ForwardAccumulator(out_backprop, out_backprop) as accumulator:
        with tf.GradientTape() as tape:
          tape.watch(weights)
          result = self.op(weights, out_backprop)
        gradient = tape.gradient(result, weights, result)
      return accumulator.jvp(result), gradient, accumulator.jvp(gradient)

    result, gradient, moved = derivative(self.weights, self.out_backprop)
    self.assert_right(self.case, self.arguments, result)  # linear in out_backprop
    np.testing.assert_allclose(moved, 2 * gradient, rtol=1e-4, atol=1e-4)  # quadratic in it

  def test_forward_mode_of_a_graph_that_compiles_the_call_alone(self):
    @tf.function
    def derivative(weights, out_backprop):
      with tf.autodiff.ForwardAccumulator(out_backprop, out_backprop) as accumulator:
        with tf_conv3d_grad.jit_compile(True):
          result = self.op(weights, out_backprop)
      return accumulator.jvp(result)

    for _ in range(2):  # what the first leaves behind in caches is no help to the second
      plain = tf.function(self.op)
      with tf_conv3d_grad.jit_compile(True):
        self.assert_right(self.case, self.arguments, plain(self.weights, self.out_backprop))
      self.assert_right(self.case, self.arguments, derivative(self.weights, self.out_backprop))

  def test_sizes_that_the_tensors_do_not_have(self):
    unknown = tf.TensorSpec([None] * 5, self.weights.dtype)

    @tf.function(input_signature=[unknown, unknown])
    def call(weights, out_backprop):
      with tf_conv3d_grad.jit_compile(False):
        weights = tf.ensure_shape(weights, self.case.filter_shape)
        return self.op(weights, out_backprop)

    self.assert_right(self.case, self.arguments, call(self.weights, self.out_backprop))

  @parameterized.parameters(True, False)
  def test_vectorized(self, compiled_inside):
    op = tf.function(self.op, jit_compile=True) if compiled_inside else self.op
    several = tf.function(
      lambda weights, gradients: tf.vectorized_map(lambda one: op(weights, one), gradients),
      jit_compile=not compiled_inside,
    )
    results = several(self.weights, tf.stack(3 * [self.out_backprop]))
    for result in results:
      self.assert_right(self.case, self.arguments, result)


if __name__ == "__main__":
  absltest.main()
