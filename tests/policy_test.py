"""Which of the offers is taken where."""

import dataclasses
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import explain, lowering
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.lowering.kernel import eigen
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.tensorflow import private, processor
from tf_conv3d_grad.tensorflow.environment import Environment

ARE_QUICK = True


def problem_of(text):
  case = Case.parse(text)
  arguments = case.arguments(0)
  return validation.validate(BACKPROP_INPUT, **arguments)[0]


def problem_of_shapes(text):
  """Returns the problem without making its tensors."""
  case = Case.parse(text)
  shapes = case.filter_shape, case.out_backprop_shape
  specs = [tf.TensorSpec(shape, case.dtype) for shape in shapes]
  return explain(case.input_sizes, *specs, **case.attributes()).problem


def environment(**changes):
  values = {"device": "CPU", "onednn": True, "in_xla": False, "mode": "auto"}
  return Environment(**{**values, **changes})


def chosen(problem, function=BACKPROP_INPUT, **changes):
  return policy.choose(function, problem, environment(**changes))


def choices(problem, function=BACKPROP_INPUT, **changes):
  return policy.choices(function, problem, environment(**changes))


def names(offers):
  """Returns the lowering of each offer, and whether it is compiled."""
  return [(offer.lowering.name, offer.compiled) for offer in offers]


class MachineTestCase(parameterized.TestCase):
  """Pretends to be on some machine; what was chosen on another is forgotten."""

  def machine(self, **values):
    for name, value in values.items():
      module = processor if hasattr(processor, name) else private
      self.enter_context(mock.patch.object(module, name, return_value=value))
    policy.forget()
    self.addCleanup(policy.forget)


class ChoiceTest(MachineTestCase):
  @parameterized.parameters(
    ("mb1_id8_ic4oc4_k3s1d2_ncdhw_f32", True),
    ("mb1_id8_ic4oc4_k3s1d1_ndhwc_f64", True),
    ("mb1_id8_ic4oc4_k3s1d2_ndhwc_f64", False),
    ("mb1_id8_ic4oc4g2_k3s1d1_ndhwc_f32", True),
    ("mb1_id8_ic4oc4g4_k3s1d1_ndhwc_f32", False),
    ("mb1_id8_ic4oc4g2_k3s1d2_ndhwc_f64", False),
  )
  def test_the_kernel_is_taken_where_it_takes_the_call(self, text, taken):
    self.assertEqual(chosen(problem_of(text)).lowering.name == "kernel", taken)

  @parameterized.parameters(
    ("mb1_id40_ic2oc32_k5s2d1_ndhwc_f32", BACKPROP_INPUT, True),
    ("mb1_id40_ic1oc24_k3s1d1_ndhwc_f32", BACKPROP_INPUT, True),
    ("mb1_id24_ic48oc48_k3s1d1_ndhwc_f32", BACKPROP_INPUT, False),  # the kernel is best
    ("mb1_id24_ic48oc48_k3s1d1_ndhwc_f32", CONV3D, False),
    ("mb1_id8_ic1oc24_k3s1d1_ndhwc_f32", BACKPROP_INPUT, False),  # a compilation costs more
  )
  def test_a_graph_compiles_what_some_hundred_calls_repay(self, text, function, compiled):
    problem = problem_of_shapes(text)
    self.assertFalse(chosen(problem, function).compiled)
    in_graph = chosen(problem, function, in_graph=True)
    self.assertEqual((in_graph.compiled, in_graph.is_native), (compiled, not compiled))
    self.assertFalse(chosen(problem, function, in_graph=True, mode=False).compiled)
    self.machine(xla_compiles=False)
    self.assertFalse(chosen(problem, function, in_graph=True).compiled)

  @parameterized.parameters(*((function,) for function in functions.ALL))
  def test_what_eigens_kernel_refuses_is_compiled_where_some_hundred_calls_repay_it(self, function):
    first, last = (
      problem_of_shapes(f"mb1_id26_ic28oc36_k3s1d1_{data_format}_f32")
      for data_format in ("ncdhw", "ndhwc")
    )
    self.assertTrue(chosen(first, function, onednn=False).compiled)
    self.assertFalse(chosen(last, function, onednn=False).compiled)
    self.assertFalse(chosen(first, function).compiled)  # oneDNN's takes it
    small = problem_of_shapes("mb1_id6_ic4oc4_k3s1d1_ncdhw_f32")
    self.assertFalse(chosen(small, function, onednn=False).compiled)

  @parameterized.parameters((True, "kernel"), (False, "im2col"))
  def test_without_avx512_onednns_filter_gradient_of_a_row_is_not_taken(self, has_avx512, name):
    self.machine(onednn_has_avx512=has_avx512)
    problem = problem_of_shapes("mb1_id2048x1x1_ic48oc48_k9x1x1s1d1_ndhwc_f32")
    self.assertEqual(chosen(problem, BACKPROP_FILTER).lowering.name, name)

  @parameterized.parameters(("", True), ("AVX512_CORE", True), ("avx2", False), ("AVX2", False))
  def test_what_onednn_may_use_is_what_it_is_told(self, most, has_avx512):
    flags = mock.patch.object(processor, "_cpuinfo", return_value="fpu avx2 avx512f")
    self.addCleanup(processor.onednn_has_avx512.cache_clear)
    processor.onednn_has_avx512.cache_clear()
    with flags, mock.patch.dict("os.environ", ONEDNN_MAX_CPU_ISA=most):
      self.assertEqual(processor.onednn_has_avx512(), has_avx512)

  @parameterized.parameters(
    ("", "avx512f avx512_bf16", False),
    ("avx512_core_bf16", "avx512f avx512_bf16", False),
    ("", "avx512f", True),
    ("AVX512_CORE", "avx512f avx512_bf16", True),
    ("avx512_core_vnni", "avx512f avx512_bf16", True),
    ("AVX2", "avx512f avx512_bf16", True),
    ("", "avx_ne_convert", False),  # not AVX-512's
  )
  def test_bfloat16_is_emulated_without_its_instructions(self, most, has, expected):
    asked = processor.onednn_emulates_bfloat16
    self.addCleanup(asked.cache_clear)
    asked.cache_clear()
    flags = mock.patch.object(processor, "_cpuinfo", return_value=f"fpu avx2 {has}")
    with flags, mock.patch.dict("os.environ", ONEDNN_MAX_CPU_ISA=most):
      self.assertEqual(asked(), expected)

  @parameterized.parameters("", "_fwd", "_bwd_w")
  def test_where_it_is_emulated_bfloat16_is_computed_in_float32(self, direction):
    case = Case.parse(f"mb1_id8_ic4oc4_k3s1d1_ndhwc_bf16{direction}")
    function = next(each for each in functions.ALL if each.op == case.direction.op)
    problem = validation.validate(function, **case.arguments())[0]
    for is_emulated in (False, True):
      self.machine(onednn_emulates_bfloat16=is_emulated)
      with mock.patch.object(private, "onednn_enabled", return_value=True):
        here = dataclasses.replace(Environment.here(tf.bfloat16), mode=False)
      offer = policy.choose(function, problem, here)
      expected = tf.float32 if is_emulated else tf.bfloat16
      self.assertEqual((offer.lowering.name, offer.plan.dtype), ("kernel", expected))

  def test_what_is_expected_to_be_a_little_faster_is_not_taken_in_the_kernels_place(self):
    native, other = mock.Mock(spec=Lowering), mock.Mock(spec=Lowering)
    native.offers.return_value = [Offer(native, None, False, Cost(1.0, 0), is_native=True)]
    self.addCleanup(policy.forget)
    for seconds, taken in ((0.9, native), (0.5, other)):
      other.offers.return_value = [Offer(other, None, False, Cost(seconds, 0))]
      policy.forget()
      with mock.patch.object(lowering, "REGISTERED", [native, other]):
        found = chosen(problem_of_shapes("mb1_id4_ic4oc4_k3s1d1_ndhwc_f64"))
      self.assertIs(found.lowering, taken)

  @parameterized.parameters((False, True), (False, False), ("auto", True), ("auto", False))
  def test_xla_is_asked_only_where_it_may_be_used(self, mode, in_graph):
    problem = problem_of_shapes("mb1_id128_ic32oc32_k3s1d1_ndhwc_f32")
    self.machine(cores=2, xla_compiles=True)
    chosen(problem, mode=mode, in_graph=in_graph)
    self.assertEqual(private.xla_compiles.called, mode == "auto")

  def test_a_long_filter_that_nothing_overlaps_is_a_product_for_few_channels(self):
    few, many = (
      chosen(problem_of_shapes(f"mb1_id64_ic{channels}oc384_k16s16d1_ndhwc_f32"))
      for channels in (4, 32)
    )
    self.assertEqual(names([few, many]), [("overlap_add", False), ("kernel", False)])

  @parameterized.product(
    text=("mb1_id96_ic32oc32_k3s1d1_ndhwc_f32", "mb1_id96_ic32oc32_k3s1d1_ndhwc_f64"),
    machine=(
      ({"cores": 2}, "auto", True),
      ({"cores": 2}, False, False),
      ({"cores": 2, "xla_compiles": False}, "auto", False),
      ({"cores": 4096}, "auto", False),  # it takes no time there
    ),
  )
  def test_a_call_that_repays_its_compilation_is_compiled(self, text, machine):
    values, mode, compiled = machine
    self.machine(**values, onednn_enabled=False)
    found = names(choices(problem_of_shapes(text), onednn=False, mode=mode))
    self.assertEqual(found[0][1], compiled)
    if values["cores"] == 2:
      self.assertEqual(found[0][0], "overlap_add")
    others = {("overlap_add", True), ("kernel", False), ("overlap_add", False)}
    if mode is False:
      others.remove(("overlap_add", True))
    self.assertCountEqual(found, others)

  @parameterized.parameters((True, 2e-3, "quick"), (True, 3e-3, "slow"), (False, 2e-3, "quick"))
  def test_what_a_plan_takes_to_compile_counts(self, in_xla, seconds, expected):
    costs = {"slow": Cost(1e-3, 0), "quick": Cost(seconds, 0, compiling=0.1)}
    lowerings = []
    for name, cost in costs.items():
      offering = mock.Mock(spec=Lowering)
      offering.name = name
      offering.offers.return_value = [Offer(offering, None, not in_xla, cost)]
      lowerings.append(offering)
    self.addCleanup(policy.forget)
    policy.forget()
    with mock.patch.object(lowering, "REGISTERED", lowerings):
      found = chosen(problem_of_shapes("mb1_id4_ic4oc4_k3s1d1_ndhwc_f64"), in_xla=in_xla)
    self.assertEqual(found.lowering.name, expected)

  @parameterized.parameters(
    ("mb1_id4_ic4oc4_k1s1d2_ndhwc_f64", False), ("mb1_id24_ic4oc4_k3s1d2_ndhwc_f64", True)
  )
  def test_a_call_that_no_kernel_takes_is_compiled_if_some_hundred_repay_that(self, text, compiled):
    found = choices(problem_of_shapes(text))
    own = {("overlap_add", True), ("overlap_add", False)}
    self.assertEqual(set(names(found)), own)
    by_mode = {offer.compiled: offer.cost.seconds for offer in found}
    saved = 200 * (by_mode[False] - by_mode[True])
    self.assertEqual(found[0].compiled, saved > policy.COMPILE_SECONDS)
    self.assertEqual(found[0].compiled, compiled)

  def test_of_two_that_are_about_as_fast_the_one_that_compiles_sooner(self):
    slow = Offer(lowering.REGISTERED[0], "slow to compile", True, Cost(1e-3, 0))
    quick = Offer(lowering.REGISTERED[0], "quick", True, Cost(2e-3, 0, compiling=0.1))
    for in_xla in (False, True):
      here = environment(in_xla=in_xla)
      self.assertEqual(policy._least([slow, quick], 1, here), quick)
      self.assertEqual(policy._least([slow, quick], 1000, here), slow)
    # What nobody compiles takes no time to compile.
    called = [offer._replace(compiled=False) for offer in (slow, quick)]
    self.assertEqual(policy._least(called, 1, environment(in_xla=False)), called[0])

  @parameterized.parameters(
    ("mb1_id4_ic4oc4_k1s1d2_ndhwc_f64", False), ("mb1_id24_ic4oc4_k3s1d2_ndhwc_f64", True)
  )
  def test_of_an_unknown_batch_it_is_what_one_sample_is(self, text, compiled):
    problem = problem_of_shapes(text)
    with tf.Graph().as_default():
      unknown = problem.replace(batch=tf.compat.v1.placeholder(tf.int64, []))
      offer = chosen(unknown)
    self.assertEqual(offer.compiled, compiled)
    self.assertEqual(offer.cost, chosen(problem).cost)

  def test_of_a_known_batch_it_costs_what_all_samples_do(self):
    one, many = (
      chosen(problem_of_shapes(f"mb{batch}_id16_ic4oc4_k3s1d2_ndhwc_f64"), in_xla=True).cost
      for batch in (1, 100)
    )
    self.assertGreater(many.seconds, 20 * one.seconds)

  @parameterized.product(
    cells=("64", "128", "31x129x65"), format=("ndhwc", "ncdhw"), dtype=("f32", "f64"),
    window=("k3s1d1", "k5s1d2", "k7s1d1", "k7s2d1"),
  )  # fmt: skip
  def test_large_calls_are_computed_in_tiles_that_hold_little(self, cells, format, dtype, window):
    text = f"mb1_id{cells}_ic64oc64_{window}_{format}_{dtype}"
    (choice,) = choices(problem_of_shapes(text), in_xla=True)
    self.assertNotEqual(choice.plan.tile, (None, None))
    self.assertLessEqual(choice.cost.column_bytes, 64 << 20)

  @parameterized.parameters(*((each,) for each in (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER)))
  def test_a_large_batch_is_computed_some_samples_at_a_time(self, function):
    problem = problem_of_shapes("mb4096_id4_ic32oc32_k3s1d1_ndhwc_f32")
    plan = chosen(problem, function, in_xla=True).plan
    self.assertEqual(problem.batch % plan.samples, 0)
    self.assertBetween(plan.samples, 16, 1024)

  @parameterized.parameters(
    "mb1_id16x256x256_ic32oc32_k16x1x1s1d1_ndhwc_f32_valid",  # one depth cell of out_backprop
    "mb1_id16x256x256_ic32oc32_k3x1x1s1d18x1x1_ndhwc_f32",  # one live tap
  )
  def test_what_needs_little_of_the_depth_is_not_computed_for_all_of_it(self, text):
    problem = problem_of_shapes(text)
    (choice,) = choices(problem, in_xla=True)
    depth = problem.canonical.axes[0]
    tiling = tiles.of_result(depth, choice.plan.tile[0])
    of_all = tiling.count * tiling.axis.output * tiling.axis.taps
    self.assertEqual(of_all, depth.output * depth.taps)

  def test_a_cut_along_height_counts_one_sample(self):
    problem = problem_of_shapes("mb64_id1x64x64_ic32oc32_k1x3x3s1d1_ndhwc_f32")
    plan = chosen(problem, in_xla=True).plan
    self.assertEqual(plan.tile[1], None)

  def test_without_onednn_the_kernel_takes_no_dilations_and_only_channels_last(self):
    offer = chosen(problem_of("mb1_id8_ic4oc4_k3s1d1_ncdhw_f32"), onednn=False)
    self.assertEqual((offer.lowering.name, offer.plan.data_format), ("kernel", "NDHWC"))
    offer = chosen(problem_of("mb1_id8_ic4oc4_k3s1d2_ncdhw_f32"), onednn=False)
    self.assertEqual(offer.lowering.name, "overlap_add")

  @parameterized.parameters(
    ("mb1_id8_ic4oc4_k3s1d1_ncdhw_f32", "NCDHW"),
    ("mb1_id8_ic4oc4_k3s1d1_ncdhw_bf16", "NDHWC"),
    ("mb1_id8_ic4oc4_k1s1d1_ncdhw_bf16", "NCDHW"),
    ("mb1_id8_ic4oc4_k3s1d1_ndhwc_bf16", "NDHWC"),
  )
  def test_onednn_takes_bfloat16_channels_last_unless_it_is_pointwise(self, text, data_format):
    offer = chosen(problem_of(text))
    self.assertEqual((offer.lowering.name, offer.plan.data_format), ("kernel", data_format))

  def test_halves_are_never_added_up_in_half_by_the_kernel(self):
    for onednn in (True, False):
      offer = chosen(problem_of("mb1_id8_ic4oc4_k3s1d1_ndhwc_f16"), onednn=onednn)
      self.assertEqual((offer.lowering.name, offer.plan.dtype), ("kernel", tf.float32))

  @parameterized.parameters(1, 2)
  def test_where_only_float32_is_onednns_its_kernel_takes_bfloat16(self, dilation):
    problem = problem_of(f"mb1_id8_ic4oc4_k3s1d{dilation}_ncdhw_bf16")
    offer = policy.choose(BACKPROP_INPUT, problem, environment(onednn_bfloat16=False))
    self.assertEqual((offer.lowering.name, offer.plan.dtype), ("kernel", tf.float32))

  def test_each_dtype_is_asked_for_that_calls_come_in(self):
    def only_float32(dtype=tf.float32):
      return dtype == tf.float32

    self.enter_context(
      mock.patch.object(processor, "onednn_emulates_bfloat16", return_value=False)
    )
    with mock.patch.object(private, "onednn_enabled", side_effect=only_float32) as asked:
      here = Environment.here(tf.bfloat16)
      self.assertEqual((here.onednn, here.onednn_bfloat16), (True, False))
      asked.reset_mock()
      for dtype in (tf.float16, tf.float32, tf.float64):
        self.assertTrue(Environment.here(dtype).onednn)
      self.assertNotIn(mock.call(tf.bfloat16), asked.mock_calls)

  def test_inside_a_compiled_function_nothing_is_compiled_on_its_own(self):
    for mode in (True, False, "auto"):
      problem = problem_of("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32")
      self.assertEqual(names(choices(problem, in_xla=True, mode=mode)), [("overlap_add", False)])

  def test_the_mode_decides_whether_a_call_is_compiled(self):
    problem = problem_of("mb1_id8_ic4oc4_k3s1d2_ndhwc_f64")
    for mode in (True, False):
      for function in (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER):
        found = {offer.compiled for offer in choices(problem, function, mode=mode)}
        self.assertEqual(found, {mode}, function.name)

  def test_a_gpu_always_takes_the_kernel(self):
    for text in ("mb1_id8_ic4oc4g2_k3s1d2_ncdhw_f16", "mb1_id8_ic4oc4_k3s1d1_ndhwc_f64"):
      for function in (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER):
        found = choices(problem_of(text), function, device="GPU")
        self.assertEqual(names(found), [("kernel", True)])

  def test_what_cannot_be_unrolled_is_a_loop(self):
    problem = problem_of("mb1_id200x1x1_ic1oc1_k100x1x1s1d1_ndhwc_f32")
    self.assertEqual(chosen(problem, in_xla=True).lowering.name, "tap_loop")

  @parameterized.parameters(
    (CONV3D, "16", True, "kernel"),
    (CONV3D, "16", False, "kernel"),
    (BACKPROP_FILTER, "16", True, "kernel"),
    (BACKPROP_FILTER, "16", False, "im2col"),  # Eigen's is slow
    (BACKPROP_FILTER, "4", False, "kernel"),  # small ones are one operation
  )
  def test_the_derivatives_are_the_kernel_where_that_is_fast(self, function, size, onednn, name):
    problem = problem_of_shapes(f"mb1_id{size}_ic32oc32_k3s1d1_ndhwc_f32")
    for in_graph in (False, True):
      offer = chosen(problem, function, onednn=onednn, in_graph=in_graph)
      self.assertEqual(offer.lowering.name, name)

  def test_without_sizes_the_filters_gradient_is_never_eigens(self):
    problem = problem_of_shapes("mb1_id4_ic4oc4_k3s1d1_ndhwc_f64")
    self.assertEqual(chosen(problem, BACKPROP_FILTER).lowering.name, "kernel")
    with tf.Graph().as_default():
      length = tf.compat.v1.placeholder(tf.int64, [])
      axes = [dataclasses.replace(axis, input=length, output=length) for axis in problem.axes]
      offer = chosen(problem.replace(axes=tuple(axes)), BACKPROP_FILTER)
    self.assertEqual(offer.lowering.name, "im2col")

  def test_a_convolution_is_a_kernel_where_all_kernels_mean_the_same_by_its_padding(self):
    # Where some axes have padding and others skip cells, no padding means the same to all kernels.
    for size, taps, stride, name in (
      ("9", "2", "2", "kernel"), ("9", "1", "2", "kernel"), ("9", "2", "3", "kernel"),
      ("10", "2", "3", "kernel"), ("9x10x8", "2", "3", "im2col"), ("8", "1x3x3", "2", "im2col"),
    ):  # fmt: skip
      with self.subTest(size=size, taps=taps, stride=stride):
        problem = problem_of(f"mb1_id{size}_ic4oc4_k{taps}s{stride}d1_ndhwc_f32")
        self.assertEqual(chosen(problem, CONV3D).lowering.name, name)


class OffersTest(parameterized.TestCase):
  CASES = (
    "mb1_id8_ic4oc4_k3s1d1_ndhwc_f32",
    "mb2_id24_ic16oc32_k3s1d2_ncdhw_f64",
    "mb1_id16_ic64oc64g4_k3s2d1_ndhwc_f32",
    "mb2_id16_ic8oc8g8_k3s1d1_ndhwc_f16",
    "mb1_id64_ic4oc64_k4s4d1_ndhwc_f32",
  )

  @parameterized.product(text=CASES, function=(CONV3D, BACKPROP_INPUT, BACKPROP_FILTER),
    where=({}, {"in_xla": True}, {"mode": True}, {"mode": False}, {"onednn": False}))  # fmt: skip
  def test_the_chosen_one_stands_first_then_the_best_of_each_lowering_by_time(
    self, text, function, where
  ):
    problem = problem_of_shapes(text)
    first, *others = choices(problem, function, **where)
    self.assertEqual(first, chosen(problem, function, **where))
    seconds = [offer.cost.seconds for offer in others]
    self.assertEqual(seconds, sorted(seconds))
    kinds = names([first, *others])
    self.assertLen(set(kinds), len(kinds))
    timed = policy.candidates(function, problem, environment(**where))
    self.assertEqual(set(names(timed)), set(kinds))
    for offer in timed:
      (best,) = (each for each in (first, *others) if names([each]) == names([offer]))
      self.assertLessEqual(best.cost.seconds, offer.cost.seconds)

  @parameterized.parameters(*CASES)
  def test_at_most_four_of_a_lowering_are_timed_the_chosen_one_first(self, text):
    problem = problem_of_shapes(text)
    timed = policy.candidates(BACKPROP_INPUT, problem, environment())
    self.assertEqual(timed[0], chosen(problem))
    self.assertLen(set(timed), len(timed))
    for kind in set(names(timed)):
      self.assertLessEqual(names(timed).count(kind), 4)

  def test_gathering_is_timed_against_scattering(self):
    problem = problem_of_shapes("mb1_id24_ic16oc16_k3s1d2_ndhwc_f64")
    timed = policy.candidates(BACKPROP_INPUT, problem, environment())
    self.assertGreater(len({offer.plan.gathered for offer in timed}), 1)

  def test_the_loop_is_no_choice_where_anything_else_is(self):
    for text in self.CASES:
      found = [name for name, _ in names(choices(problem_of_shapes(text)))]
      self.assertNotIn("tap_loop", found)


class BatchTest(MachineTestCase):
  """Which plans take a batch sample by sample, with an L3 cache of 320 MB."""

  def setUp(self):
    super().setUp()
    self.machine(eigen_l3_bytes=320 << 20, cores=2, onednn_enabled=False)

  def plan(self, problem, function=BACKPROP_INPUT, onednn=False):
    offer = chosen(problem, function, onednn=onednn, mode=False)
    self.assertEqual(offer.lowering.name, "kernel")
    return offer.plan

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
    self.assertFalse(self.plan(problem, CONV3D).by_sample)

  def test_each_group_is_a_problem_of_its_own(self):
    problem = problem_of_shapes("mb2_id16_ic64oc64g2_k3s2d1_ndhwc_f32")
    looked = mock.patch.object(eigen, "looks_patches_up", wraps=eigen.looks_patches_up)
    with looked as asked:
      plan = self.plan(problem)
    self.assertEqual((plan.by_group, plan.by_sample), (True, True))
    asked.assert_called()
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


if __name__ == "__main__":
  absltest.main()
