"""TensorFlow's own kernel, called for each group and for each sample of a batch."""

import dataclasses
import functools
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import differential, oracle, ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import execute
from tf_conv3d_grad.lowering.kernel import Kernel, run
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.tensorflow import private, processor
from tf_conv3d_grad.tensorflow.environment import Environment

CASES = tuple(
  map(
    Case.parse,
    (
      "mb1_id5x4x6_ic4oc6g2_k3x2x1s2x1x1d1_ndhwc_f32",
      "mb2_id5x4x6_ic6oc3g3_k3x2x1s1x2x1d1_ndhwc_f64_valid",
      "mb2_id4x5x3_ic8oc8g4_k2x3x3s1d1_ndhwc_f16",
      "mb1_id6x5x4_ic4oc4g2_k3s2x1x2d1_ncdhw_f32",
      "mb2_id4x5x3_ic6oc4g2_k3s1d1_ncdhw_bf16",
      "mb1_id7x5x6_ic4oc6g2_k3s1d2x1x2_ncdhw_f32",
    ),
  )
)


def by_group(case):
  """Returns the problem and the offer, None if this TensorFlow's kernel does not take the case."""
  problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
  found = policy.candidates(BACKPROP_INPUT, problem, Environment.here(problem.dtype))
  found = [offer for offer in found if offer.lowering.name == "kernel"]
  return problem, found[0] if found else None


class ByGroupTest(testing.OpTestCase):
  @parameterized.product(case=CASES, eager=(True, False))
  def test_the_groups_are_put_together_in_order(self, case, eager):
    problem, offer = by_group(case)
    if offer is None:
      self.assertTrue(case.dilations != (1, 1, 1), "the kernel takes everything else")
      self.skipTest("without oneDNN the kernel takes no dilations")
    self.assertTrue(offer.plan.by_group)

    def compute(*operands):
      return offer.lowering.prepared(BACKPROP_INPUT, problem, offer.plan)(*operands)

    if not eager:
      compute = tf.function(compute, autograph=False)
    self.assert_right(case, case.arguments(), compute(*testing.tensors(case)))

  @parameterized.parameters(
    ("mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32", True),
    ("mb1_id16_ic128oc128g32_k3s1d1_ndhwc_f32", False),  # few channels each
    ("mb1_id16_ic512oc512g64_k1s1d1_ndhwc_f32", False),  # many groups
    ("mb1_id16_ic64oc64g64_k3s1d1_ndhwc_f32", False),  # depthwise
  )
  def test_it_is_taken_where_a_group_has_channels_enough(self, text, taken):
    problem = validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments())[0]
    here = Environment("CPU", onednn=True, in_xla=False, mode="auto")
    offer = policy.choose(BACKPROP_INPUT, problem, here)
    self.assertEqual(offer.lowering.name == "kernel" and offer.plan.by_group, taken)


def plan_of(text, **changes):
  """Returns what the kernel plans for a case's op where oneDNN is on; None if nothing."""
  case = Case.parse(text)
  function = next(each for each in functions.ALL if each.op == case.direction.op)
  problem = validation.validate(function, **case.arguments())[0]
  here = Environment(**{**dict(device="CPU", onednn=True, in_xla=False, mode=False), **changes})
  found = Kernel().offers(function, problem, here)
  return found[0].plan if found else None


class ByPhaseTest(testing.OpTestCase):
  """The gradient in the filter of a dilated convolution, whose phases are convolutions without."""

  @parameterized.product(
    text=(
      "mb2_id9x7x8_ic3oc4_k3x2x3s1d2x3x1_ndhwc_f32_bwd_w",
      "mb1_id9x10x11_ic2oc3_k3s1d2x3x3_ncdhw_f32_valid_bwd_w",
      "mb1_id6x7x8_ic4oc4_k3s1d2_ndhwc_f16_bwd_w",
    ),
    eager=(True, False),
  )
  def test_the_result(self, text, eager):
    plan = plan_of(text)
    self.assertTrue(plan.by_phase)
    case = Case.parse(text)
    arguments = case.arguments()
    problem, *operands = validation.validate(BACKPROP_FILTER, **arguments)
    compute = functools.partial(run.backprop_filter, problem, plan)
    if not eager:
      compute = tf.function(compute, autograph=False)
    exact = oracle.conv3d_backprop_filter(case, arguments["input"], arguments["out_backprop"])
    try:
      self.assert_accurate(case, compute(*operands), exact)
    except tf.errors.InvalidArgumentError:
      self.assertFalse(private.onednn_enabled())

  @parameterized.parameters(
    ("mb1_id9_ic4oc4_k3s1d1_ndhwc_f32_bwd_w", False),
    ("mb1_id9_ic4oc4_k3s2d2_ndhwc_f32_bwd_w", False),  # strided
    ("mb1_id9_ic4oc4_k3s1d12_ndhwc_f32_bwd_w", False),  # most phases would be empty
    ("mb1_id9_ic4oc4_k3s1d2_ncdhw_f32_bwd_w", True),
    ("mb1_id9_ic4oc4_k3s1d2_ndhwc_f32_fwd", False),
    ("mb1_id9_ic4oc4_k3s1d2_ndhwc_f32", False),
  )
  def test_where(self, text, expected):
    self.assertEqual(plan_of(text).by_phase, expected)


class EagerTest(testing.OpTestCase):
  """What eager calls run has its arguments ready; a graph computes the same step by step."""

  @parameterized.product(
    form=("k3s1d1_{}", "k2x3x3s3x1x2d1_{}", "k3s2d1_{}_valid"),  # SAME skips cells: no kernel
    data_format=("ndhwc", "ncdhw"),
    dtype=("f32", "f64", "f16", "bf16"),
    direction=("", "_fwd", "_bwd_w"),
  )
  def test_it_is_right(self, form, data_format, dtype, direction):
    case = Case.parse(f"mb2_id7x6x9_ic4oc6_{form.format(f'{data_format}_{dtype}')}{direction}")
    function = {each.op: each for each in functions.ALL}[case.direction.op]
    problem, *operands = validation.validate(function, **case.arguments())
    found = policy.candidates(function, problem, Environment.here(problem.dtype))
    found = [offer for offer in found if offer.lowering.name == "kernel"]
    if function is CONV3D and problem.unambiguous_padding is None:
      self.assertEmpty(found)
      return
    compute = found[0].lowering.prepared(function, problem, found[0].plan)
    for _ in range(2):
      self.assert_right(case, case.arguments(), compute(*operands))


class ConstantsTest(testing.OpTestCase):
  """TensorFlow's optimizer computes ahead of time what it has constants for."""

  @parameterized.product(
    notation=(
      "mb2_id4x5x6_ic16oc16_k3s1d1_ncdhw_bf16",
      "mb1_id4x5x6_ic6oc4g2_k3s1d1_ndhwc_bf16",
      "mb2_id4x5x6_ic4oc4_k2s2d1_ndhwc_f16_valid",
    ),
    direction=("_fwd", "", "_bwd_w"),
  )
  @testing.sample(3)
  def test_of_constants_halves_are_added_up_as_ever(self, direction, notation):
    case = Case.parse(notation + direction)
    arguments = case.arguments()
    result = ways.call("constants", getattr(tf_conv3d_grad, case.direction.op), arguments)
    self.assert_accurate(case, result, oracle.exact(case, arguments))


class UnwrittenTest(testing.OpTestCase):
  """What oneDNN computes from memory that nobody has written is none of its calls."""

  @parameterized.parameters(
    ("mb1_id2x5x5_ic4oc4_k3s1d1_ndhwc_bf16_fwd", "float32"),
    ("mb1_id2x5x5_ic4oc4_k3s1d1_ndhwc_bf16_bwd_w", "float32"),
    ("mb1_id4x5x5_ic4oc4_k2s1d4x1x1_ndhwc_bf16_fwd", "float32"),
    ("mb1_id2x5x5_ic4oc4_k3s1d1_ndhwc_bf16", "bfloat16"),
    ("mb1_id3x5x5_ic4oc4_k3s1d1_ndhwc_bf16_bwd_w", "bfloat16"),
  )
  def test_a_filter_beyond_both_ends_is_float32(self, text, dtype):
    self.assertEqual(plan_of(text).dtype.name, dtype)

  @parameterized.parameters(
    ("mb1_id5x5x3_ic1oc4_k3s1x1x3d1_ndhwc_f32_valid_fwd", False),
    ("mb1_id5x5x3_ic1oc4_k3s1x1x3d1_ndhwc_bf16_valid_bwd_w", False),
    ("mb1_id5x5x3_ic2oc4_k3s1x1x3d1_ndhwc_f32_valid_fwd", True),
    ("mb1_id5x5x6_ic1oc4_k3s1x1x3d1_ndhwc_f32_valid_fwd", True),
    ("mb1_id5x5x3_ic1oc4_k3s1x1x3d1_ndhwc_f32_valid", True),
  )
  def test_one_in_channel_and_an_output_one_wide_is_no_kernel(self, text, taken):
    self.assertEqual(plan_of(text) is not None, taken)

  @parameterized.parameters(
    "mb3_id6x1x8_ic1oc1_k4x3x3s2d1_ndhwc_bf16_bwd_w",
    "mb2_id2_ic4oc3_k3x1x1s1d1_ndhwc_bf16_bwd_w",
    "mb3_id1x3x6_ic1oc2_k3s1x4x2d2x3x1_ndhwc_bf16_fwd",
    "mb2_id6x5x5_ic1oc5_k3s1x1x3d1_ndhwc_f16_valid_fwd",
    "mb2_id5x8x4_ic1oc2_k3x4x3s3x1x2d1_ndhwc_f32_valid_fwd",
  )
  def test_results_do_not_depend_on_what_memory_held(self, text):
    case = Case.parse(text)
    for seed in range(3):
      for way in ("eager", "unknown-sizes"):
        held = [tf.fill([2**power], 1e30) for power in range(6, 17)]
        del held
        report = differential.run(case, seed, ways=[way])  # TensorFlow's own op may be wrong here
        self.assertLessEqual(report.errors[way], report.tolerance, report)


def by_sample(case, by_sample=True):
  """Returns the problem and the plan of the kernel, sample by sample or at once."""
  problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
  here = dataclasses.replace(Environment.here(problem.dtype), mode=False)
  offer = policy.choose(BACKPROP_INPUT, problem, here)
  return problem, dataclasses.replace(offer.plan, by_sample=by_sample)


class GpuTest(testing.OpTestCase):
  """What a GPU is given, compiled by XLA for the CPU."""

  @parameterized.product(
    form=(
      "mb2_id6x5x7_ic4oc6_k3s1d2x1x1_ndhwc_f32",
      "mb1_id9x7x8_ic4oc8g2_k2x3x1s2x1x3d1_ncdhw_f64",  # behind a stride, SAME skips cells
      "mb1_id5x4x6_ic4oc4g4_k3s2d1_ndhwc_f16_valid",
    ),
    direction=("", "_fwd", "_bwd_w"),
    known=(True, False),
  )
  def test_it_is_right(self, form, direction, known):
    case = Case.parse(form + direction)
    arguments = case.arguments()
    function = {each.op: each for each in functions.ALL}[case.direction.op]
    environment = Environment("GPU", onednn=False, in_xla=True, mode="auto")

    def compute(**operands):
      problem, *tensors = validation.validate(function, **{**arguments, **operands})
      return execute.prepared(function, problem, environment)(*tensors)

    operands = {name: tf.constant(arguments[name]) for name in case.direction.operands}
    shape = None if known else [None] * 5
    compute = tf.function(compute, autograph=False, jit_compile=True).get_concrete_function(
      **{name: tf.TensorSpec(shape or each.shape, each.dtype) for name, each in operands.items()}
    )
    self.assert_right(case, arguments, compute(**operands))

  def test_there_it_is_tensorflows_own_op_in_every_function(self):
    problem, *_ = validation.validate(BACKPROP_INPUT, **CASES[0].arguments())
    for function in functions.ALL:
      for mode, compiled in (("auto", True), (True, True), (False, False)):
        where = Environment("GPU", onednn=False, in_xla=False, mode=mode)
        (offer,) = Kernel().offers(function, problem, where)
        self.assertEqual((offer.is_native, offer.compiled), (True, compiled))

  def test_an_eager_call_where_sames_padding_is_in_doubt(self):
    # What it is given here, uncompiled, TensorFlow's kernel for the CPU takes as well.
    case = Case.parse("mb2_id8x9x9_ic4oc4_k1x2x2s2d1_ndhwc_f32_fwd")
    problem, *operands = validation.validate(CONV3D, **case.arguments())
    self.assertIsNone(problem.unambiguous_padding)
    environment = Environment("GPU", onednn=False, in_xla=False, mode=False)
    offer, *_ = policy.choices(CONV3D, problem, environment)
    compute = offer.lowering.prepared(CONV3D, problem, offer.plan)
    self.assert_right(case, case.arguments(), compute(*operands))

  def test_where_sames_padding_is_in_doubt_tensorflows_own_operation_does_not_stay(self):
    for text, stays in (("k3s2d1", True), ("k1x2x2s2d1", False)):
      case = Case.parse(f"mb1_id8x9x9_ic4oc4_{text}_ndhwc_f32_fwd")
      problem, *_ = validation.validate(CONV3D, **case.arguments())
      offer, *_ = policy.choices(
        CONV3D, problem, Environment("GPU", onednn=False, in_xla=False, mode="auto")
      )
      with tf.Graph().as_default():
        native = offer.lowering.native(CONV3D, problem, offer.plan)
      self.assertEqual(native is not None, stays, text)


class DtypeTest(testing.OpTestCase):
  @parameterized.parameters(True, False)
  def test_bfloat16_in_float32_is_rounded_once(self, eager):
    case = Case.parse("mb2_id5x4x6_ic4oc30_k3s2d1_ncdhw_bf16")
    problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
    here = dataclasses.replace(Environment.here(tf.float32), mode=False, onednn_bfloat16=False)
    offer = policy.choose(BACKPROP_INPUT, problem, here)
    self.assertEqual(offer.plan.dtype, tf.float32)

    def compute(filter, out_backprop):
      return offer.lowering.prepared(BACKPROP_INPUT, problem, offer.plan)(filter, out_backprop)

    compute = compute if eager else tf.function(compute, autograph=False)
    self.assert_right(case, case.arguments(), compute(*testing.tensors(case)))


class BySampleTest(testing.OpTestCase):
  @parameterized.product(
    text=(
      "mb2_id5x4x6_ic4oc6_k3x2x1s2x1x1d1_ndhwc_f32",
      "mb3_id4x5x3_ic3oc5_k2x3x3s1d1_ndhwc_f64_valid",
      "mb4_id6x5x4_ic4oc4_k3s2x1x2d1_ncdhw_f64",
      "mb2_id4x5x3_ic6oc4_k3s2d1_ndhwc_f16",
      "mb17_id4x3x3_ic2oc3_k3s2d1_ndhwc_f32",  # too many to unroll
      "mb17_id4x3x3_ic2oc3_k3s1d1_ncdhw_f16",
    ),
    is_by_sample=(True, False),
    eager=(True, False),
  )
  def test_both_ways_are_right(self, text, is_by_sample, eager):
    case = Case.parse(text)
    problem, plan = by_sample(case, is_by_sample)
    filter, out_backprop = testing.tensors(case)
    if eager:
      compute = Kernel().prepared(BACKPROP_INPUT, problem, plan)
    else:
      compute = tf.function(lambda *operands: run.backprop_input(problem, plan, *operands))
    self.assert_right(case, case.arguments(), compute(filter, out_backprop))

  def test_eager_calls_of_one_kind_are_one_graph(self):
    case = Case.parse("mb3_id4_ic2oc3_k3s2d1_ndhwc_f64")
    made = []
    of_one_trace = private.of_one_trace

    def watched(function, *specs):
      made.append(function.get_concrete_function(*specs).graph)
      return of_one_trace(function, *specs)

    with mock.patch.object(private, "of_one_trace", watched):
      first, second = (Kernel().prepared(BACKPROP_INPUT, *by_sample(case)) for _ in range(2))
    for compute, seed in ((first, 0), (second, 1)):
      self.assert_right(case, case.arguments(seed), compute(*testing.tensors(case, seed)))
    self.assertIs(first, second)
    (graph,) = made
    kernels = [node for node in graph.as_graph_def().node if "Conv3D" in node.op]
    self.assertLen(kernels, 3)

  def test_a_loop_over_samples_has_an_iteration_for_each_core(self):
    case = Case.parse("mb17_id4_ic2oc3_k3s2d1_ndhwc_f64")
    problem, plan = by_sample(case)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in testing.tensors(case)]
    traced = tf.function(lambda *operands: run.backprop_input(problem, plan, *operands))
    with mock.patch.object(processor, "cores", return_value=3):
      graph = traced.get_concrete_function(*specs).graph
    loops = [node for node in graph.as_graph_def().node if node.op in ("While", "StatelessWhile")]
    self.assertEqual([loop.attr["parallel_iterations"].i for loop in loops], [3])


if __name__ == "__main__":
  absltest.main()
