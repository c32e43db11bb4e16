"""The op against the oracle and TensorFlow's own op, over random and extreme cases.

`TF_CONV3D_GRAD_TEST_SEED` moves the random cases to others, `TF_CONV3D_GRAD_TEST_CASES` sets how
many there are of each kind. Thousands at a time: `tf-conv3d-grad check --cases 1000`.
"""

import dataclasses
import itertools
import os
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.conformance import differential, oracle
from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, PADDINGS, Case, random_case
from tf_conv3d_grad.conformance.reference import Reference, raw_conv3d_backprop_input

BASE_SEED = int(os.environ.get("TF_CONV3D_GRAD_TEST_SEED", "0"))
CASES_PER_KIND = int(os.environ.get("TF_CONV3D_GRAD_TEST_CASES", "3"))

# dtype, data format, padding, dilated, grouped
KINDS = tuple(
  itertools.product(DTYPES.values(), DATA_FORMATS, PADDINGS, (False, True), (False, True))
)
# Each random case is called eagerly and in one other way, which its number chooses.
OTHER_WAYS = tuple(way for way in differential.WAYS if way != "eager")


def random_problems():
  """Yields name, case, seed and ways of every random problem of the suite."""
  for number, (repeat, kind) in enumerate(itertools.product(range(CASES_PER_KIND), KINDS)):
    dtype, data_format, padding, dilated, grouped = kind
    seed = BASE_SEED + number
    case = random_case(
      np.random.default_rng(seed),
      max_size=8,
      dtype=dtype,
      data_format=data_format,
      padding=padding,
      dilated=dilated,
      grouped=grouped,
    )
    # The kinds run through in the same order each time, so each meets another way next time.
    way = OTHER_WAYS[(number + repeat) % len(OTHER_WAYS)]
    yield f"_seed{seed}_{case}", case, seed, ("eager", way)


class DifferentialTestCase(parameterized.TestCase):
  def assert_passes(self, case, seed, ways):
    report = differential.run(case, seed, ways=ways)
    if not report.passed:
      self.fail(str(report))


class RandomCasesTest(DifferentialTestCase):
  @parameterized.named_parameters(*random_problems())
  def test(self, case, seed, ways):
    self.assert_passes(case, seed, ways)


class ExtremeCasesTest(DifferentialTestCase):
  @parameterized.named_parameters(
    (f"_{text}", text)
    for text in (
      "mb1_id1_ic1oc1_k1s1d1_ndhwc_f32",
      "mb1_id1_ic1oc1_k5s1d1_ncdhw_f64",
      "mb1_id2x3x4_ic2oc3_k7s1d1_ndhwc_f32",
      "mb1_id3_ic2oc3_k3s1d5_ncdhw_f16",
      "mb1_id12x1x1_ic2oc3_k5x1x1s1d1_ndhwc_bf16",
      "mb1_id1x12x1_ic2oc3_k1x12x1s1d1_ncdhw_f32_valid",
      "mb1_id13_ic1oc2_k1s7d1_ndhwc_f32",
      "mb1_id13_ic1oc2_k2s7d3_ncdhw_f64_valid",
      "mb1_id12_ic3oc2_k4s4d1_ndhwc_bf16",
      "mb1_id12_ic2oc3_k3s2d2_ndhwc_f16",
      "mb1_id12_ic2oc3_k3s4d6_ncdhw_f32",
      "mb1_id12_ic2oc3_k2s6d4_ndhwc_f64",
      "mb2_id6_ic8oc8g8_k3s1d1_ndhwc_f32",
      "mb2_id6_ic8oc16g8_k3s2d1_ncdhw_bf16",
      "mb1_id5_ic12oc4g4_k2s1d2_ndhwc_f64_valid",
      "mb9_id3x2x1_ic1oc1_k2s1d1_ndhwc_f16",
      "mb1_id4_ic64oc1_k2s1d1_ndhwc_f32",
      "mb1_id4_ic1oc64_k2s1d1_ncdhw_f16",
      "mb0_id4x5x6_ic2oc3_k3s2d1_ndhwc_f32",
      "mb0_id4x5x6_ic4oc6g2_k3s1d2_ncdhw_f64_valid",
      "mb2_id4x0x6_ic2oc3_k3s1d1_ndhwc_f16",
      "mb2_id4x5x6_ic0oc3_k3s1d1_ndhwc_f32",
      "mb2_id4x5x6_ic2oc0_k3s2d1_ncdhw_bf16",
      "mb2_id4x5x6_ic2oc3_k3x0x3s1d1_ndhwc_f32",
      "mb2_id4x5x6_ic2oc3_k0s2d1_ndhwc_f64",
      "mb1_id4_ic2oc3_k5s1d1_ndhwc_f32_valid",
      "mb1_id4_ic2oc3_k3s3d3_ncdhw_f64_valid",
      "mb1_id2_ic2oc3_k5s1d1_ndhwc_f32_valid",
      "mb2_id4x2x9_ic4oc6g2_k3s2x1x1d1x4x1_ncdhw_f16_valid",
    )
  )
  def test_in_every_way_of_calling(self, text):
    self.assert_passes(Case.parse(text), seed=0, ways=differential.WAYS)


class ReportTest(parameterized.TestCase):
  case = Case.parse("mb2_id4x5x6_ic4oc6g2_k3x1x2s2x1x1d1x2x1_ncdhw_f32")

  def run_with(self, op, ways=("eager",)):
    return differential.run(self.case, seed=7, op=op, ways=ways)

  def right_op(self, filter, out_backprop, **unused):
    exact = oracle.conv3d_backprop_input(self.case, filter, out_backprop)
    return tf.constant(exact, filter.dtype)

  def test_the_oracle_has_to_agree_with_the_raw_op(self):
    wrong = Reference(np.ones(self.case.input_sizes, np.float32), "eager")
    with mock.patch.object(differential, "raw_conv3d_backprop_input", return_value=wrong):
      report = self.run_with(self.right_op)
    self.assertFalse(report.passed)
    self.assertIn("TensorFlow's own op (eager) disagree", str(report))

  @parameterized.parameters("mb3000000000_id1_ic0oc0", "mb0_id2x1x1_ic0oc3000000000")
  def test_nothing_beyond_int32_is_given_to_tensorflow(self, sizes):
    case = Case.parse(f"{sizes}_k1s1d1_ndhwc_f32")
    self.assertIsNone(raw_conv3d_backprop_input(case, case.arguments()))

  @parameterized.parameters("float16", "float64")
  def test_nothing_empty_is_given_to_eigen(self, dtype):
    case = dataclasses.replace(
      Case.parse("mb3_id4x2x9_ic1oc1_k3s5d1_ndhwc_f32_valid"), dtype=dtype
    )
    self.assertIsNone(raw_conv3d_backprop_input(case, case.arguments()))

  def test_a_right_result_passes(self):
    report = self.run_with(self.right_op)
    self.assertTrue(report.passed, report)
    self.assertEqual(report.raw_route, "compiled")

  @parameterized.named_parameters(
    ("one_wrong_cell", lambda dx: dx + tf.eye(6)[0] * 1e-4, "the relative error must be at most"),
    ("a_nan", lambda dx: dx * np.nan, "the relative error must be at most"),
    ("another_shape", lambda dx: dx[:1], "the shape must be"),
    ("another_dtype", lambda dx: tf.cast(dx, tf.float64), "the dtype must be"),
    ("a_touched_gap", lambda dx: dx + 1e-12, "a cell that no term reaches is not zero"),
  )
  def test_a_wrong_result_fails(self, spoil, reason):
    # With one tap and stride 2 every other cell stays untouched.
    self.case = Case.parse("mb2_id4x5x6_ic4oc6g2_k1s2x1x1d1_ncdhw_f32")
    report = self.run_with(lambda **arguments: spoil(self.right_op(**arguments)))
    self.assertFalse(report.passed)
    self.assertIn(reason, str(report))

  def test_an_exception_fails(self):
    def broken(**unused):
      raise ZeroDivisionError("by zero")

    self.assertIn("eager: ZeroDivisionError: by zero", str(self.run_with(broken)))

  def test_a_failure_prints_one_line_that_runs_it_again(self):
    report = self.run_with(lambda **arguments: 2 * self.right_op(**arguments))
    command, _, reason = str(report).partition("  # ")
    self.assertNotIn("\n", reason)
    self.assertEqual(command, f"tf-conv3d-grad check {self.case} --seed 7 --ways eager")


if __name__ == "__main__":
  absltest.main()
