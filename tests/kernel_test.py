"""TensorFlow's own kernel, called for each group and for each sample of a batch."""

import dataclasses
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.kernel import run
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow import processor
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


def by_sample(case, by_sample=True):
  """Returns the problem and the plan of the kernel, sample by sample or at once."""
  problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
  here = dataclasses.replace(Environment.here(problem.dtype), mode=False)
  offer = policy.choose(BACKPROP_INPUT, problem, here)
  return problem, dataclasses.replace(offer.plan, by_sample=by_sample)


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
      compute = run.eager_backprop_input(problem, plan)
    else:
      compute = tf.function(lambda *operands: run.backprop_input(problem, plan, *operands))
    self.assert_right(case, case.arguments(), compute(filter, out_backprop))

  def test_eager_calls_of_one_kind_are_one_graph(self):
    case = Case.parse("mb3_id4_ic2oc3_k3s2d1_ndhwc_f64")
    first, second = (run.eager_backprop_input(*by_sample(case)) for _ in range(2))
    for compute, seed in ((first, 0), (second, 1)):
      self.assert_right(case, case.arguments(seed), compute(*testing.tensors(case, seed)))
    self.assertIs(first, second)
    graph = first.get_concrete_function(*testing.tensors(case)).graph
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
