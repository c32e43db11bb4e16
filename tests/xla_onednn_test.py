"""oneDNN inside of what XLA compiles, against the oracle, and what it is not given.

Where this processor or TensorFlow does not have it, only what it is not given is tested.
"""

import contextlib
import tempfile
import warnings
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case, random_case
from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.xla_onednn import XlaOnednn, filter_gradient, forward
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT, OF_FILTER
from tf_conv3d_grad.tensorflow import xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment

LOWERING = XlaOnednn()
HERE = xla_onednn.works(tf.float32)
CASES = (
  "mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32",
  "mb2_id6x5x7_ic3oc4_k3x2x4s2x1x3d1x2x1_ncdhw_f32",
  "mb1_id8_ic4oc6g2_k3s2d1_ndhwc_f16_valid",
  "mb2_id5x4x6_ic6oc12g6_k3x1x3s1d2x1x1_ncdhw_f32",
  "mb3_id8x6x4_ic2oc3_k2s2d1_ndhwc_bf16",
  "mb1_id9x7x5_ic16oc16g8_k3s1d1_ndhwc_f32",
  "mb1_id24x18x16_ic3oc3g3_k3s1d1_ncdhw_f32",  # a gradient in pieces
  "mb2_id25x20x20_ic2oc2g2_k3x1x3s1d1_ndhwc_f32",  # in pieces that do not divide it
  "mb2_id7_ic4oc4_k1s1d1_ncdhw_f32",
)


def called(text):
  """Returns a case, the function, its problem and its operands."""
  case = Case.parse(text)
  function = next(each for each in functions.ALL if each.op == case.direction.op)
  arguments = case.arguments(0)
  problem, *operands = validation.validate(function, **arguments)
  return case, function, problem, operands, arguments


def offers(function, problem, **changes):
  where = {"device": "CPU", "onednn": True, "in_xla": True, "mode": "auto", "xla_onednn": True}
  where["onednn_bfloat16"] = problem.dtype != tf.bfloat16 or xla_onednn.works(tf.bfloat16)
  return LOWERING.offers(function, problem, Environment(**{**where, **changes}))


def compiled(function, problem, plan):
  return tf.function(
    LOWERING.prepared(function, problem, plan), jit_compile=True, autograph=False
  )


@absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
class ResultsTest(testing.OpTestCase):
  @parameterized.product(text=CASES, direction=("_fwd", "", "_bwd_w"))
  def test_each_function(self, text, direction):
    case, function, problem, operands, arguments = called(text + direction)
    found = offers(function, problem)
    self.assertNotEmpty(found)
    result = compiled(function, problem, found[0].plan)(*operands)
    self.assert_right(case, arguments, result)

  @parameterized.product(
    text=(*CASES, "mb2_id3_ic4oc6_k5s2d1_ncdhw_f32"), cells=(True, False)
  )
  def test_the_gradient_in_the_input_turns_taps_or_cells_around(self, text, cells):
    case, function, problem, operands, arguments = called(text)
    (offer, *_) = offers(function, problem)
    with mock.patch.object(forward, "has_fewer_cells", return_value=cells):
      result = compiled(function, problem, offer.plan)(*operands)
    self.assert_right(case, arguments, result)

  @parameterized.parameters(
    ("mb1_id2_ic8oc8_k3s1d1_ndhwc_f32", True),
    ("mb16_id2_ic8oc8_k3s1d1_ndhwc_f32", False),  # 2048 values and 1728
    ("mb1_id3x3x4_ic8oc8_k3s1d1_ndhwc_f32", True),  # 576 values and 1728
    ("mb1_id3x3x4_ic8oc8g4_k3s1d1_ndhwc_f32", False),
  )
  def test_it_turns_around_what_is_less(self, text, cells):
    _, _, problem, *_ = called(text)
    self.assertEqual(forward.has_fewer_cells(problem), cells)
    of_any, of_one = (problem.replace(batch=batch) for batch in (tf.constant(4, tf.int64), 1))
    self.assertEqual(forward.has_fewer_cells(of_any), forward.has_fewer_cells(of_one))

  @parameterized.product(
    text=(
      "mb3_id6x5x7_ic3oc4_k3s1d1_ncdhw_f32",
      "mb2_id8x6x7_ic4oc6g2_k3s2d1_ndhwc_bf16",
    ),
    direction=("_fwd", "", "_bwd_w"),
  )
  def test_of_a_batch_that_only_the_run_tells(self, text, direction):
    case, function, problem, operands, arguments = called(text + direction)

    def compute(*operands):
      batch = tf.shape(operands[1], out_type=tf.int64)[0]
      unknown = problem.replace(batch=batch)
      (offer,) = offers(function, unknown)
      return LOWERING.prepared(function, unknown, offer.plan)(*operands)

    shapes = [
      operand.shape if name == "filter" else [None, *operand.shape[1:]]
      for name, operand in zip(function.operands, operands)
    ]
    specs = [tf.TensorSpec(shape, problem.dtype) for shape in shapes]
    of_any = tf.function(compute, jit_compile=True, autograph=False, input_signature=specs)
    self.assert_right(case, arguments, of_any(*operands))
    none = [t if name == "filter" else t[:0] for name, t in zip(function.operands, operands)]
    result = of_any(*none)
    shape = [0, *case.result_shape[1:]] if function.result != "filter" else case.result_shape
    self.assertSequenceEqual(result.shape, shape)
    self.assertEqual(float(tf.reduce_sum(tf.abs(result))), 0)

  @parameterized.parameters(*range(20))
  def test_random_cases(self, seed):
    rng = np.random.default_rng(seed)
    taken = 0
    while taken < 10:
      text = str(random_case(rng))
      case, function, problem, operands, arguments = called(text)
      found = offers(function, problem)
      if found:
        taken += 1
        self.assert_right(case, arguments, compiled(function, problem, found[0].plan)(*operands))

  @parameterized.parameters(*range(20))
  def test_infinities_and_nans_go_where_the_sum_says_without_padding(self, seed):
    rng = np.random.default_rng(seed)
    taken = 0
    while taken < 10:
      case, function, problem, operands, arguments = called(str(random_case(rng)))
      found = offers(function, problem)
      if not found or LOWERING.multiplies_padding(function, problem, found[0].plan):
        continue
      taken += 1
      operands = [np.array(operand.numpy()) for operand in operands]
      wild = operands[rng.integers(2)].reshape(-1)
      wild[rng.integers(wild.size)] = rng.choice([np.inf, -np.inf, np.nan])
      names = [function.argument(name) for name in function.operands]
      arguments.update(zip(names, operands))
      with np.errstate(all="ignore"):
        exact = oracle.exact(case, arguments)
      result = compiled(function, problem, found[0].plan)(*map(tf.constant, operands))
      result = np.asarray(tf.cast(result, tf.float64))
      for special in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(special(result), special(exact), str(case))


@absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
class FilterGradientTest(testing.OpTestCase):
  @parameterized.product(
    text=(
      "mb4_id9x5x6_ic3oc4_k3s1d1_ndhwc_f32_bwd_w",
      "mb4_id9x5x6_ic6oc8g2_k3x2x3s2x1x1d1x2x1_ncdhw_f32_bwd_w",
      "mb4_id9x5x6_ic8oc8g4_k3s1d2x1x1_ndhwc_f32_bwd_w",
      "mb4_id9x5x6_ic3oc4_k4s1d1_ncdhw_f32_valid_bwd_w",
      "mb4_id9x5x6_ic4oc4_k3s1d1_ndhwc_bf16_bwd_w",
    ),
    pieces=(
      {},
      {"slab": 1},
      {"slab": 2},
      {"slab": 4},
      {"depth": 4, "slab": 2},
      {"depth": 4, "samples": 2, "slab": 3},
      {"samples": 1, "slab": 2},
      {"depth": 2, "samples": 2},
    ),
  )
  def test_samples_slabs_and_pieces(self, text, pieces):
    case, function, problem, operands, arguments = called(text)
    dtype = problem.dtype
    if dtype == tf.bfloat16 and not xla_onednn.works(dtype):
      dtype = tf.float32
    result = compiled(function, problem, Plan(dtype, **pieces))(*operands)
    self.assert_right(case, arguments, result)

  @absltest.skipUnless(xla_onednn.works(tf.bfloat16), "oneDNN has no bfloat16 in XLA here")
  def test_a_sum_of_pieces_in_bfloat16_is_rounded_once(self):
    case = Case.parse("mb4_id8_ic2oc2_k1s1d1_ndhwc_bf16_bwd_w")
    function = functions.BACKPROP_FILTER
    ones = {"input": tf.ones([4, 8, 8, 8, 2], tf.bfloat16), "filter_sizes": [1, 1, 1, 2, 2]}
    # The first piece is 1027. In bfloat16 it would be 1024, and the sum of both 4.
    gradient = np.zeros([4, 8, 8, 8, 2], np.float32)
    gradient[:, 0, 0, 0] = np.reshape([1024, 3, -1020, 0], [4, 1])
    arguments = {**case.arguments(0), **ones, "out_backprop": tf.cast(gradient, tf.bfloat16)}
    problem, *operands = validation.validate(function, **arguments)
    result = compiled(function, problem, Plan(tf.bfloat16, samples=2))(*operands)
    np.testing.assert_array_equal(tf.cast(result, tf.float32), np.full([1, 1, 1, 2, 2], 7.0))


class PlannedTest(parameterized.TestCase):
  def planned(self, text, **changes):
    _, _, problem, _, _ = called(text + "_bwd_w")
    problem = problem.replace(**changes)
    plan = filter_gradient.planned(problem, problem.dtype)
    return problem, plan, filter_gradient.as_convolution(problem, plan)

  @parameterized.parameters(
    "mb1_id32x8x8_ic4oc16_k3s1d1_ndhwc_f32",
    "mb2_id16x8x8_ic4oc16_k3s1d1_ncdhw_f32",
    "mb1_id23x8x8_ic4oc16_k3s1d1_ndhwc_f32",
    "mb5_id13x8x8_ic4oc16_k3s2d1_ndhwc_f32",
  )
  def test_samples_and_slabs_are_some_channels(self, text):
    _, _, convolution = self.planned(text)
    self.assertBetween(convolution.filter_in_channels, 6, 24)

  def test_samples_are_enough(self):
    _, plan, convolution = self.planned("mb16_id6_ic4oc16_k3s1d1_ndhwc_f32")
    self.assertIsNone(plan.slab)
    self.assertEqual(convolution.filter_in_channels, 16)

  def test_of_an_unknown_batch_slabs_alone_are(self):
    _, plan, convolution = self.planned(
      "mb1_id32x8x8_ic4oc16_k3s1d1_ndhwc_f32", batch=tf.constant(3)
    )
    self.assertEqual(plan.samples, 1)
    self.assertBetween(convolution.filter_in_channels, 6, 24)

  @parameterized.parameters(1, 2, 4, 8)
  def test_windows_that_overlap_are_not_much_longer(self, dilation):
    problem, plan, _ = self.planned(f"mb1_id24x4x4_ic4oc16_k3s1d{dilation}x1x1_ndhwc_f32")
    slabs = tiles.of_output(problem.axes[0], plan.slab)
    self.assertLessEqual(slabs.count * slabs.window, 4 * problem.axes[0].input)

  @parameterized.parameters(3, 5, 6, 7, 11, 22, 23, 25)
  def test_bfloat16_has_an_even_number_of_channels(self, depth):
    _, plan, convolution = self.planned(f"mb1_id{depth}x8x8_ic4oc16_k3s1d1_ndhwc_bf16")
    self.assertEqual(plan.dtype, tf.bfloat16)
    self.assertEqual(convolution.filter_in_channels % 2, 0)

  def test_a_channel_that_is_a_group_of_its_own_has_no_slabs(self):
    _, plan, convolution = self.planned("mb2_id32x16x16_ic4oc4g4_k3s1d1_ndhwc_f32")
    self.assertEqual((plan.slab, convolution.filter_in_channels), (None, 1))

  @parameterized.parameters((1, None, 16), (8, 1, 16), (None, 1, 16))
  def test_a_large_sample_is_taken_piece_by_piece(self, batch, samples, depth):
    batch = tf.constant(2) if batch is None else batch
    _, plan, _ = self.planned(
      "mb1_id1_ic32oc32_k1s1d1_ndhwc_f32", batch=batch, axes=(Axis(64, 64, 3, 1, 1, 1),) * 3
    )
    self.assertEqual((plan.samples, plan.depth), (samples, depth))

  def test_of_small_samples_as_many_are_taken_as_fit(self):
    _, plan, _ = self.planned(
      "mb1_id1_ic32oc32_k1s1d1_ndhwc_f32", batch=12, axes=(Axis(32, 32, 3, 1, 1, 1),) * 3
    )
    self.assertEqual((plan.samples, plan.depth), (2, None))


class OffersTest(parameterized.TestCase):
  def problem(self, text):
    _, function, problem, _, _ = called(text)
    return function, problem

  @parameterized.parameters(
    "mb1_id8_ic4oc4_k3s1d1_ndhwc_f64",  # would end the process
    "mb1_id8_ic4oc4_k3s1d40000_ndhwc_f32",
    "mb1_id8x8x1_ic1oc4_k1x1x3s1d1_ndhwc_f32_fwd",  # memory that nobody has written
    "mb1_id9_ic4oc4_k4s4x4x1d1_ndhwc_f32",  # 16 calls
    "mb1_id8_ic8oc8g8_k3s2d1_ndhwc_f32_bwd_w",  # slow
  )
  def test_what_it_is_not_given(self, text):
    self.assertEmpty(offers(*self.problem(text)))

  @absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
  @parameterized.parameters(
    ("mb1_id8_ic4oc4_k2s1d32768_ndhwc_f32_fwd", True),
    ("mb1_id8_ic4oc4_k2s1d32769_ndhwc_f32_fwd", False),
    ("mb1_id70000x8x8_ic4oc4_k1s32768x1x1d1_ndhwc_f32_fwd", True),
    ("mb1_id70000x8x8_ic4oc4_k1s32769x1x1d1_ndhwc_f32_fwd", False),
  )
  def test_steps_are_as_long_as_its_arithmetic_takes(self, text, is_given):
    self.assertEqual(bool(offers(*self.problem(text))), is_given)

  @absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
  @parameterized.parameters(
    ("mb1_id8_ic4oc4_k1s1d1_ndhwc_f32", False),
    ("mb1_id8_ic4oc4_k1s1d1_ndhwc_f32_fwd", False),
    ("mb1_id8_ic4oc4_k1s1d1_ndhwc_f32_bwd_w", True),  # that of slabs, which are padded
    ("mb1_id8_ic4oc4_k2s1d1_ndhwc_f32", True),
    ("mb1_id8_ic4oc4_k2s1d1_ndhwc_f32_fwd", True),
    ("mb1_id8_ic4oc4_k2s1d1_ndhwc_f32_valid_fwd", False),
    ("mb1_id8_ic4oc4_k1x1x2s1d1_ndhwc_f32_fwd", True),
  )
  def test_padding_is_multiplied_where_there_is_any(self, text, is_multiplied):
    function, problem = self.problem(text)
    (offer,) = offers(function, problem)
    self.assertEqual(
      offer.lowering.multiplies_padding(function, problem, offer.plan), is_multiplied
    )

  @parameterized.parameters(
    {"xla_onednn": False}, {"device": "GPU"}, {"in_xla": False, "mode": False}
  )
  def test_where_there_is_none(self, **where):
    self.assertEmpty(offers(*self.problem("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32"), **where))

  @absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
  def test_bfloat16_is_float32_where_the_processor_or_an_odd_channel_wants_it(self):
    function, problem = self.problem("mb1_id8_ic4oc4_k3s1d1_ndhwc_bf16_fwd")
    (offer,) = offers(function, problem, onednn_bfloat16=False)
    self.assertEqual(offer.plan.dtype, tf.float32)
    function, problem = self.problem("mb1_id8_ic3oc4_k3s1d1_ndhwc_bf16_fwd")
    self.assertEqual(offers(function, problem)[0].plan.dtype, tf.float32)
    function, problem = self.problem("mb1_id1x8x8_ic4oc16_k1x3x3s1d1_ndhwc_bf16_bwd_w")
    self.assertEqual(offers(function, problem)[0].plan.dtype, tf.float32)

  @absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
  def test_outside_of_xla_it_is_a_compiled_call(self):
    function, problem = self.problem("mb1_id8_ic8oc8g2_k3s1d1_ndhwc_f32")
    (inside,) = offers(function, problem)
    (outside,) = offers(function, problem, in_xla=False)
    self.assertEqual((inside.compiled, outside.compiled), (False, True))
    self.assertGreater(outside.cost.seconds, inside.cost.seconds)


class ConvolutionTest(parameterized.TestCase):
  @parameterized.parameters(
    {"output_shape": (2, 4, 4, 4, 6)},
    {"pads": [(1, 0)] * 3},
    {"groups": 2},
    {"strides": (1, 1, 2)},
    {"filter": tf.ones([3, 3, 3, 3, 6])},
    {"pads": [(-1, 1), (0, 0), (0, 0)]},
  )
  def test_what_does_not_fit_raises_before_it_ends_the_process(self, **changes):
    data = OF_DATA_FORMAT[NDHWC]
    arguments = dict(
      input=tf.ones([2, 6, 6, 6, 4]),
      filter=tf.ones([3, 3, 3, 4, 6]),
      output_shape=(2, 4, 4, 4, 6),
      layouts=(data, OF_FILTER, data),
      pads=[(0, 0)] * 3,
      strides=(1, 1, 1),
      dilations=(1, 1, 1),
      groups=1,
      dtype=tf.float32,
    )
    if changes == {"output_shape": arguments["output_shape"]}:
      changes = {"output_shape": (2, 5, 4, 4, 6)}
    with self.assertRaisesRegex(ValueError, "no convolution"):
      xla_onednn.convolution(**{**arguments, **changes})


class AllowedTest(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "1"}))

  def test_an_environment_variable_turns_it_off(self):
    with mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "0"}):
      self.assertFalse(xla_onednn.is_allowed())
      self.assertIn("is 0", xla_onednn.why_not(tf.float32))
    with mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "maybe"}):
      with self.assertRaisesRegex(ValueError, "must be 0 or 1, got 'maybe'"):
        xla_onednn.is_allowed()

  def test_an_unknown_version_has_none(self):
    self.addCleanup(xla_onednn._lacks.cache_clear)
    for version in ("2.20.0", "2.22.0", "3.0.0", "2.210.0"):
      xla_onednn._lacks.cache_clear()
      with mock.patch.object(tf, "__version__", version):
        self.assertRegex(xla_onednn.why_not(tf.float32), "none of those verified: 2.21")

  @parameterized.parameters("check_numerics", "eager_functions")
  def test_while_tensorflow_is_debugged_nothing_is_compiled_or_tried(self, how):
    expected = xla_onednn.works(tf.float32)
    self.addCleanup(xla_onednn._fails.cache_clear)
    xla_onednn._fails.cache_clear()
    case = Case.parse("mb2_id24_ic32oc32g32_k3s1d1_ndhwc_f32_fwd")  # which a graph compiles
    arguments = {
      name: tf.constant(value) if isinstance(value, np.ndarray) else value
      for name, value in case.arguments().items()
    }

    def is_compiled():
      function = tf.function(lambda: tf_conv3d_grad.Conv3D(**arguments), autograph=False)
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        self.assert_right(case, case.arguments(), tf_conv3d_grad.Conv3D(**arguments))
        self.assert_right(case, case.arguments(), function())
      return testing.is_compiled(function.get_concrete_function())

    with contextlib.ExitStack() as debugging:
      if how == "check_numerics":
        tf.debugging.enable_check_numerics()
        debugging.callback(tf.debugging.disable_check_numerics)
        self.assertFalse(is_compiled())
      else:
        tf.config.run_functions_eagerly(True)
        debugging.callback(tf.config.run_functions_eagerly, False)
        self.assert_right(case, case.arguments(), tf_conv3d_grad.Conv3D(**arguments))
      self.assertFalse(xla_onednn.works(tf.float32))
    self.assertTrue(is_compiled())
    self.assertEqual(xla_onednn.works(tf.float32), expected)

  @absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
  def test_where_the_first_call_is_wrong_there_is_one_warning_and_none_after_it(self):
    self.addCleanup(xla_onednn._fails.cache_clear)
    xla_onednn._fails.cache_clear()

    def zeros(x, w, shape, *_, **__):
      return tf.zeros(shape)

    wrong = mock.patch.object(xla_onednn, "convolution", zeros)
    with wrong, self.assertWarnsRegex(RuntimeWarning, "a result of float32 was wrong"):
      self.assertFalse(xla_onednn.works(tf.float32))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self.assertFalse(xla_onednn.works(tf.float32))
    _, function, problem, _, _ = called(CASES[0])
    here = Environment("CPU", True, True, "auto", xla_onednn=True)
    self.assertNotEqual(policy.choose(function, problem, here).lowering.name, LOWERING.name)


@absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
class SavedTest(parameterized.TestCase):
  """What was traced with the call, and has run, is saved without."""

  CHILD = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[1] + "/result.npy", model.step(np.load(sys.argv[1] + "/volume.npy")))
"""

  def test_after_it_has_run(self):
    class Model(tf.Module):
      def __init__(self):
        super().__init__()
        self.filter = tf.Variable(tf.random.stateless_normal([3, 3, 3, 16, 32], (1, 2)))
        self.grouped = tf.Variable(tf.random.stateless_normal([3, 3, 3, 4, 16], (3, 4)))

      @tf.function(jit_compile=True)
      def inner(self, volume):
        output = tf_conv3d_grad.Conv3D(volume, self.filter, [1] * 5, "SAME")
        return tf_conv3d_grad.Conv3DBackpropInputV2(
          tf.shape(volume), self.filter, output, [1] * 5, "SAME"
        )

      @tf.function(input_signature=[tf.TensorSpec([None, 12, 12, 12, 16])])
      def step(self, volume):
        with tf.GradientTape() as tape:
          loss = tf.reduce_sum(self.inner(volume) ** 2)
        inner = self.inner(volume) + tf.reduce_sum(tape.gradient(loss, self.filter))
        return tf_conv3d_grad.Conv3D(inner, self.grouped, [1] * 5, "SAME")

    model, volume = Model(), tf.random.stateless_normal([2, 12, 12, 12, 16], (5, 6))
    result = model.step(volume).numpy()
    names = {
      node.op
      for function in model.step.get_concrete_function().graph.as_graph_def().library.function
      for node in function.node_def
    }
    self.assertIn("XlaCustomCallV2", names)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    tf.saved_model.save(model, folder)
    with open(f"{folder}/saved_model.pb", "rb") as file:
      self.assertNotIn(b"XlaCustomCall", file.read())
    np.save(f"{folder}/volume.npy", volume)
    # It works on, and so does what was saved, where the calls are forbidden.
    np.testing.assert_array_equal(model.step(volume), result)
    child = testing.run_child(["-c", self.CHILD, folder], TF_ENABLE_ONEDNN_OPTS="0")
    self.assertEqual(child.returncode, 0, child.stderr)
    loaded = np.load(f"{folder}/result.npy")
    np.testing.assert_allclose(loaded, result, rtol=1e-4, atol=1e-4 * np.abs(result).max())


@absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
class ReplaceableTest(parameterized.TestCase):
  def test_what_is_in_its_place_is_traced_where_it_is_wanted_only(self):
    traced = []

    def instead(first, second):
      traced.append(first)
      return first + second

    replaceable = xla_onednn.Replaceable(lambda first, second: first - second, instead)
    compiled = tf.function(replaceable, jit_compile=True, autograph=False)
    self.assertEqual(float(compiled(tf.constant(3.0), tf.constant(1.0))), 2)
    self.assertEmpty(traced)
    self.assertEqual(float(tf.vectorized_map(lambda x: compiled(x, x), tf.ones([2]))[0]), 2)
    self.assertLen(traced, 1)


@absltest.skipUnless(HERE, xla_onednn.why_not(tf.float32))
class VectorizedTest(parameterized.TestCase):
  """TensorFlow takes apart what was traced with the call, and can vectorize none."""

  @parameterized.parameters(False, True)
  def test_after_it_was_traced(self, compiled):
    filter = tf.random.stateless_normal([3, 3, 3, 16, 32], (1, 2))
    volumes = tf.random.stateless_normal([3, 2, 12, 12, 12, 16], (3, 4))

    @tf.function(jit_compile=True)
    def convolution(volume):
      return tf_conv3d_grad.Conv3D(volume, filter, [1] * 5, "SAME")

    expected = tf.stack([convolution(volume) for volume in volumes])
    vectorized = tf.function(lambda: tf.vectorized_map(convolution, volumes), jit_compile=compiled)
    np.testing.assert_allclose(vectorized(), expected, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
  absltest.main()
