"""Which lowering is taken where, and what explain() says of it."""

from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import explain

#FIXME costs
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.kernel import eigen
from tf_conv3d_grad.plan import KERNEL, OVERLAP_ADD, TAP_LOOP
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.tensorflow import private, processor


def problem_of(text):
  case = Case.parse(text)
  arguments = case.arguments(0)
  return validation.validate(**arguments)[0]


def problem_of_shapes(text):
  """Returns the problem without making its tensors."""
  case = Case.parse(text)
  shapes = case.filter_shape, case.out_backprop_shape
  specs = [tf.TensorSpec(shape, case.dtype) for shape in shapes]
  return explain(case.input_sizes, *specs, **case.attributes()).problem


def environment(**changes):
  values = {"device": "CPU", "onednn": True, "in_xla": False, "mode": "auto"}
  return policy.Environment(**{**values, **changes})


class ChoiceTest(parameterized.TestCase):
  @parameterized.parameters(
    ("mb1_id8_ic4oc4_k3s1d2_ncdhw_f32", True),
    ("mb1_id8_ic4oc4_k3s1d1_ndhwc_f64", True),
    ("mb1_id8_ic4oc4_k3s1d2_ndhwc_f64", False),
    ("mb1_id8_ic4oc4g2_k3s1d1_ndhwc_f32", True),
    ("mb1_id8_ic4oc4g4_k3s1d1_ndhwc_f32", False),
    ("mb1_id8_ic4oc4g2_k3s1d2_ndhwc_f64", False),
  )
  def test_the_kernel_is_taken_where_it_takes_the_call(self, text, taken):
    plan = policy.choose(problem_of(text), environment())
    self.assertEqual(plan.lowering == KERNEL, taken)

  def test_a_long_filter_that_nothing_overlaps_is_a_product_for_few_channels(self):
    few, many = (
      policy.choose(problem_of(f"mb1_id64_ic{channels}oc384_k16s16d1_ndhwc_f32"), environment())
      for channels in (4, 32)
    )
    self.assertEqual((few.lowering, few.compiled), (OVERLAP_ADD, False))
    self.assertEqual(many.lowering, KERNEL)

  @parameterized.parameters(
    ("mb1_id96_ic32oc32_k3s1d1_ndhwc_f32", False),
    ("mb1_id96_ic32oc32_k3s1d1_ndhwc_f64", True),
  )
  def test_a_call_that_repays_its_compilation_is_compiled(self, text, onednn):
    problem = problem_of_shapes(text)
    with mock.patch.object(processor, "cores", return_value=2):
      choices = policy.choices(problem, environment(onednn=onednn))
      self.assertEqual(
        [(plan.lowering, plan.compiled) for plan, _ in choices],
        [(OVERLAP_ADD, True), (KERNEL, False), (OVERLAP_ADD, False)],
      )
      never = policy.choices(problem, environment(onednn=onednn, mode=False))
      self.assertEqual(never[0].plan.lowering, KERNEL)
      with mock.patch.object(private, "xla_compiles", return_value=False):
        choices = policy.choices(problem, environment(onednn=onednn))
        self.assertEqual(choices[0].plan.lowering, KERNEL)
    with mock.patch.object(processor, "cores", return_value=64):  # the kernel takes no time there
      choices = policy.choices(problem, environment(onednn=onednn))
      self.assertEqual(choices[0].plan.lowering, KERNEL)

  @parameterized.product(
    cells=("64", "128", "31x129x65"), format=("ndhwc", "ncdhw"), dtype=("f32", "f64"),
    window=("k3s1d1", "k5s1d2", "k7s1d1", "k7s2d1"),
  )  # fmt: skip
  def test_large_calls_are_computed_in_pieces_that_hold_little(self, cells, format, dtype, window):
    text = f"mb1_id{cells}_ic64oc64_{window}_{format}_{dtype}"
    (choice,) = policy.choices(problem_of_shapes(text), environment(in_xla=True))
    self.assertNotEqual(choice.plan.tile, (None, None))
    self.assertLessEqual(choice.cost.column_bytes, 64 << 20)

  @parameterized.parameters("conv3d", "backprop_input", "backprop_filter")
  def test_a_large_batch_is_computed_some_samples_at_a_time(self, function):
    problem = problem_of_shapes("mb4096_id4_ic32oc32_k3s1d1_ndhwc_f32")
    plan = policy.choose(problem, environment(in_xla=True), function)
    self.assertEqual(problem.batch % plan.samples, 0)
    self.assertBetween(plan.samples, 16, 1024)

  @parameterized.parameters(
    "mb1_id16x256x256_ic32oc32_k16x1x1s1d1_ndhwc_f32_valid",  # one depth cell of out_backprop
    "mb1_id16x256x256_ic32oc32_k3x1x1s1d18x1x1_ndhwc_f32",  # one live tap
  )
  def test_what_needs_little_of_the_depth_is_not_computed_for_all_of_it(self, text):
    problem = problem_of_shapes(text)
    (choice,) = policy.choices(problem, environment(in_xla=True))
    depth = problem.axes[0].simplified()[0]
    piece = tiles.of_result(depth, choice.plan.tile[0])
    self.assertEqual(piece.pieces * piece.axis.output * piece.axis.taps, depth.output * depth.taps)

  def test_a_cut_along_height_counts_one_sample(self):
    problem = problem_of_shapes("mb64_id1x64x64_ic32oc32_k1x3x3s1d1_ndhwc_f32")
    plan = policy.choose(problem, environment(in_xla=True))
    self.assertEqual(plan.tile[1], None)

  def test_without_onednn_the_kernel_takes_no_dilations_and_only_channels_last(self):
    here = environment(onednn=False)
    plan = policy.choose(problem_of("mb1_id8_ic4oc4_k3s1d1_ncdhw_f32"), here)
    self.assertEqual((plan.lowering, plan.kernel_format), (KERNEL, "NDHWC"))
    plan = policy.choose(problem_of("mb1_id8_ic4oc4_k3s1d2_ncdhw_f32"), here)
    self.assertEqual(plan.lowering, OVERLAP_ADD)

  def test_halves_are_never_added_up_in_half_by_the_kernel(self):
    for onednn in (True, False):
      plan = policy.choose(
        problem_of("mb1_id8_ic4oc4_k3s1d1_ndhwc_f16"), environment(onednn=onednn)
      )
      self.assertEqual(plan.kernel_dtype, tf.float32)

  def test_inside_a_compiled_function_nothing_is_compiled_on_its_own(self):
    for mode in (True, False, "auto"):
      plan = policy.choose(
        problem_of("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32"), environment(in_xla=True, mode=mode)
      )
      self.assertEqual((plan.lowering, plan.compiled), (OVERLAP_ADD, False))

  def test_the_mode_decides_whether_a_call_is_compiled(self):
    problem = problem_of("mb1_id8_ic4oc4_k3s1d2_ndhwc_f64")
    self.assertTrue(policy.choose(problem, environment(mode=True)).compiled)
    self.assertFalse(policy.choose(problem, environment(mode=False)).compiled)

  def test_a_gpu_always_takes_the_kernel(self):
    for text in ("mb1_id8_ic4oc4g2_k3s1d2_ncdhw_f16", "mb1_id8_ic4oc4_k3s1d1_ndhwc_f64"):
      plan = policy.choose(problem_of(text), environment(device="GPU"))
      self.assertEqual((plan.lowering, plan.compiled), (KERNEL, True))

  def test_what_cannot_be_unrolled_is_a_loop(self):
    plan = policy.choose(
      problem_of("mb1_id200x1x1_ic1oc1_k100x1x1s1d1_ndhwc_f32"), environment(in_xla=True)
    )
    self.assertEqual(plan.lowering, TAP_LOOP)


class BatchTest(parameterized.TestCase):
  """Which plans take a batch sample by sample, with an L3 cache of 320 MB."""

  def setUp(self):
    super().setUp()
    for module, name, value in ((private, "eigen_l3_bytes", 320 << 20), (processor, "cores", 2)):
      self.enter_context(mock.patch.object(module, name, return_value=value))
    policy._remembered_choice.cache_clear()
    self.addCleanup(policy._remembered_choice.cache_clear)

  def plan(self, problem, function=functions.BACKPROP_INPUT, onednn=False):
    plan = policy.choose(problem, environment(onednn=onednn, mode=False), function)
    self.assertEqual(plan.lowering, KERNEL)
    return plan

  @parameterized.parameters(
    ("mb2_id24_ic32oc64_k3s2d1_ndhwc_f32", True),
    ("mb2_id24_ic32oc64_k3s2d1_ncdhw_f16", True),
    ("mb4_id8_ic4oc4_k3s2d1_ndhwc_f64", True),
    ("mb2_id8_ic16oc16_k3s1x2x1d1_ndhwc_f32", True),
    ("mb1_id24_ic32oc64_k3s2d1_ndhwc_f32", False),
    ("mb2_id16_ic96oc96_k3s1d1_ndhwc_f32", False),
    ("mb2_id24_ic64oc8_k3s1d1_ncdhw_f16", False),
    ("mb64_id4_ic8oc8_k1s1d1_ndhwc_f32", False),
  )
  def test_those_that_eigen_would_look_up_element_by_element(self, text, by_sample):
    self.assertEqual(self.plan(problem_of_shapes(text)).by_sample, by_sample)

  def test_onednn_takes_every_batch_at_once_and_eigen_what_it_has_beside_it(self):
    for dtype, by_sample in (("f32", False), ("bf16", False), ("f16", False), ("f64", True)):
      problem = problem_of_shapes(f"mb2_id24_ic32oc64_k3s2d1_ndhwc_{dtype}")
      self.assertEqual(self.plan(problem, onednn=True).by_sample, by_sample, dtype)

  def test_the_convolution_itself_takes_every_batch_at_once(self):
    problem = problem_of_shapes("mb2_id24_ic32oc64_k3s2d1_ndhwc_f32_valid")
    self.assertFalse(self.plan(problem, functions.CONV3D).by_sample)

  def test_each_group_is_a_problem_of_its_own(self):
    problem = problem_of_shapes("mb2_id16_ic64oc64g2_k3s2d1_ndhwc_f32")
    with mock.patch.object(eigen, "is_faster_by_sample", return_value=True) as asked:
      plans = policy.candidates(problem, environment(onednn=False))
    self.assertIn((True, True), [(plan.by_group, plan.by_sample) for plan in plans])
    for call in asked.call_args_list:
      group = call.args[0]
      self.assertEqual((group.in_channels, group.out_channels, group.groups), (32, 32, 1))

  @parameterized.parameters(
    ([None, 24, 24, 24, 32], 2, True),
    ([None, 24, 24, 24, 32], 1, False),
    ([None, 24, 24, 24, 1], 1, True),
    ([None, None, None, None, 32], 2, True),
    ([None, None, None, None, 32], 1, False),
    ([None, None, None, None, 1], 1, False),
  )
  def test_an_unknown_batch_is_one_of_two_and_of_other_sizes_strides_tell(
    self, shape, stride, by_sample
  ):
    batch, *cells, channels = shape

    def call(filter, like, out_backprop):
      input_sizes = [size or tf.shape(like)[axis] for axis, size in enumerate(shape)]
      strides = [1, stride, stride, stride, 1]
      problem = explain(input_sizes, filter, out_backprop, strides, "SAME").problem
      self.assertFalse(problem.is_static)
      self.assertEqual(self.plan(problem).by_sample, by_sample)
      return out_backprop

    out_shape = [batch, *(cell and cell // stride for cell in cells), 64]
    shapes = [3, 3, 3, channels, 64], shape, out_shape
    specs = [tf.TensorSpec(each, tf.float64) for each in shapes]
    tf.function(call, autograph=False).get_concrete_function(*specs)


class ExplainTest(parameterized.TestCase):
  def test_it_gives_arithmetic_bytes_and_choices_and_prints_them(self):
    case = Case.parse("mb1_id16_ic4oc8_k3s2d1_ndhwc_f32")
    explanation = explain(**case.arguments(0))
    self.assertEqual(explanation.flops, case.flops)
    self.assertEqual(explanation.bytes, costs.tensor_bytes(explanation.problem))
    text = str(explanation)
    for word in ("GFLOP", "lowering", "predicted", "inside jit_compile=True", OVERLAP_ADD):
      self.assertIn(word, text)

  def test_what_is_known_of_one_argument_settles_the_others(self):
    explanation = explain(
      [2, 8, 8, 8, 4],
      tf.TensorSpec([3, 3, 3, 4, 8], tf.float32),
      tf.TensorSpec([None, 8, 8, 8, 8], tf.float32),
      [1] * 5,
      "SAME",
    )
    self.assertEqual(explanation.problem.batch, 2)

  @parameterized.parameters((0, 8, 0), (4, 0, 4))
  def test_no_channels(self, inner, outer, channels):
    filter = tf.TensorSpec([3, 3, 3, inner, outer], tf.float32)
    out_backprop = tf.TensorSpec([1, 4, 4, 4, outer], tf.float32)
    explanation = explain([1, 4, 4, 4, channels], filter, out_backprop, [1] * 5, "SAME")
    self.assertEqual(explanation.flops, 0)
    self.assertIn("inside jit_compile=True", str(explanation))

  def test_input_sizes_may_hold_tensors(self):
    explanation = explain(
      [tf.constant(2), 8, 8, tf.constant(8), 4],
      tf.ones([3, 3, 3, 4, 8]),
      tf.ones([2, 8, 8, 8, 8]),
      [1] * 5,
      "SAME",
    )
    self.assertEqual(explanation.problem.batch, 2)

  def test_it_says_what_is_wrong_with_the_arguments(self):
    with self.assertRaisesRegex(ValueError, "padding"):
      explain([1, 4, 4, 4, 1], tf.ones([1, 1, 1, 1, 1]), tf.ones([1, 4, 4, 4, 1]), [1] * 5, "same")


if __name__ == "__main__":
  absltest.main()
