"""The three ops against the oracle and TensorFlow's own, over random and extreme cases.

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

from tests import testing
from tf_conv3d_grad.conformance import differential, oracle, reference
from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, PADDINGS, Case, random_case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, DIRECTIONS, FWD
from tf_conv3d_grad.conformance.reference import Reference
from tf_conv3d_grad.tensorflow import private

BASE_SEED = int(os.environ.get("TF_CONV3D_GRAD_TEST_SEED", "0"))
# Of the younger two there are 3,072 each.
CASES_PER_KIND = {FWD: 48, BWD_D: 3, BWD_W: 48}
if "TF_CONV3D_GRAD_TEST_CASES" in os.environ:
  CASES_PER_KIND = dict.fromkeys(CASES_PER_KIND, int(os.environ["TF_CONV3D_GRAD_TEST_CASES"]))
# One test runs no more than these.
CASES_PER_TEST = 12

KINDS = tuple(
  itertools.product(DTYPES.values(), DATA_FORMATS, PADDINGS, (False, True), (False, True))
)
# Each random case is called eagerly, and of those in one test every so many in another way as well,
# which takes ten times as long.
EVERY = 4
OTHER_WAYS = tuple(way for way in differential.WAYS if way != "eager")


def random_problems(direction):
  """Yields name, kind and numbers of the random cases of every test of a direction."""
  cases = CASES_PER_KIND[direction]
  for number, kind in enumerate(KINDS):
    dtype, data_format, padding, dilated, grouped = kind
    name = f"_{dtype}_{data_format}_{padding}_dilated{dilated:d}_grouped{grouped:d}"
    for first in range(0, cases, CASES_PER_TEST):
      numbers = range(number * cases + first, number * cases + min(first + CASES_PER_TEST, cases))
      yield f"{name}_{first}", kind, numbers


class DifferentialTestCase(parameterized.TestCase):
  def assert_passes(self, case, seed, ways):
    report = differential.run(case, seed, ways=ways)
    if not report.passed:
      self.fail(str(report))


class RandomCasesTest(DifferentialTestCase):
  @parameterized.named_parameters(*random_problems(FWD))
  @testing.sample(0)
  def test_the_convolution(self, kind, numbers):
    self.assert_all_pass(FWD, kind, numbers)

  @parameterized.named_parameters(*random_problems(BWD_D))
  @testing.sample(0)
  def test_the_gradient_in_the_input(self, kind, numbers):
    self.assert_all_pass(BWD_D, kind, numbers)

  @parameterized.named_parameters(*random_problems(BWD_W))
  @testing.sample(0)
  def test_the_gradient_in_the_filter(self, kind, numbers):
    self.assert_all_pass(BWD_W, kind, numbers)

  @parameterized.parameters(*range(len(DIRECTIONS)))
  @testing.sample(len(DIRECTIONS))
  def test_every_kind_is_right_for_one_of_the_three(self, first):
    # Each of the three has every dtype, format, padding, dilated or not, grouped or not.
    for number in range(first, len(KINDS), len(DIRECTIONS)):
      direction = [*DIRECTIONS.values()][first]
      self.assert_all_pass(direction, KINDS[number], [number])

  def assert_all_pass(self, direction, kind, numbers):
    dtype, data_format, padding, dilated, grouped = kind
    for number in numbers:
      seed = BASE_SEED + number
      case = random_case(
        np.random.default_rng(seed),
        max_size=8,
        dtype=dtype,
        data_format=data_format,
        padding=padding,
        dilated=dilated,
        grouped=grouped,
        direction=direction,
      )
      ways = ("eager", OTHER_WAYS[number // EVERY % len(OTHER_WAYS)])
      with self.subTest(str(case)):
        self.assert_passes(case, seed, ways if number % EVERY == 0 else ways[:1])


class ExtremeCasesTest(DifferentialTestCase):
  @parameterized.named_parameters(
    (f"_{text}", text, number)
    for number, text in enumerate((
      "mb1_id12_ic2oc3_k3s2d2_ndhwc_f16",
      "mb1_id1_ic1oc1_k1s1d1_ndhwc_f32",
      "mb1_id1_ic1oc1_k5s1d1_ncdhw_f64",
      "mb1_id2x3x4_ic2oc3_k7s1d1_ndhwc_f32",
      "mb1_id3_ic2oc3_k3s1d5_ncdhw_f16",
      "mb1_id12x1x1_ic2oc3_k5x1x1s1d1_ndhwc_bf16",
      "mb1_id1x12x1_ic2oc3_k1x12x1s1d1_ncdhw_f32_valid",
      "mb1_id13_ic1oc2_k1s7d1_ndhwc_f32",
      "mb1_id13_ic1oc2_k2s7d3_ncdhw_f64_valid",
      "mb1_id12_ic3oc2_k4s4d1_ndhwc_bf16",
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
      # Windows of which none fits, by less than a stride.
      "mb2_id4x5x6_ic2oc3_k5s2d1_ndhwc_f32_valid_fwd",
      "mb1_id3_ic4oc6g2_k3s3d2_ncdhw_bf16_valid_fwd",
    ))
  )
  @testing.sample(1)
  def test_in_ways_of_calling(self, text, number):
    case = Case.parse(text)
    # The first in all of them, the others eagerly and in three more in turn.
    others = [OTHER_WAYS[(number + place) % len(OTHER_WAYS)] for place in (0, 2, 4)]
    ways = ("eager", *others) if number else differential.WAYS
    for direction in DIRECTIONS.values() if case.direction == BWD_D else [case.direction]:
      try:
        case = dataclasses.replace(case, direction=direction)
      except ValueError:  # A convolution refuses a filter that is too long.
        continue
      with self.subTest(direction.name):
        self.assert_passes(case, seed=0, ways=ways)


class ReportTest(parameterized.TestCase):
  case = Case.parse("mb2_id4x5x6_ic4oc6g2_k3x1x2s2x1x1d1x2x1_ncdhw_f32")

  def run_with(self, op, ways=("eager",)):
    return differential.run(self.case, seed=7, op=op, ways=ways)

  def right_op(self, **arguments):
    return tf.constant(oracle.exact(self.case, arguments), self.case.dtype)

  def test_the_oracle_has_to_agree_with_the_raw_op(self):
    wrong = Reference(np.ones(self.case.input_sizes, np.float32), "eager")
    with mock.patch.object(reference, "raw", return_value=wrong):
      report = self.run_with(self.right_op)
    self.assertFalse(report.passed)
    self.assertIn("TensorFlow's own op (eager) disagree", str(report))

  @parameterized.parameters("mb3000000000_id1_ic0oc0", "mb0_id2x1x1_ic0oc3000000000")
  def test_nothing_beyond_int32_is_given_to_tensorflow(self, sizes):
    case = Case.parse(f"{sizes}_k1s1d1_ndhwc_f32")
    self.assertIsNone(reference.raw(case, case.arguments()))

  @parameterized.parameters("fwd", "bwd_w")
  def test_tensorflow_is_not_asked_where_its_kernels_contradict_each_other(self, direction):
    case = Case.parse(f"mb1_id7x4x4_ic1oc1_k1x2x2s4x1x1d1_ndhwc_f32_{direction}")
    self.assertIsNone(reference.raw(case, case.arguments()))
    case = dataclasses.replace(case, input_size=(5, 4, 4))
    self.assertIsNotNone(reference.raw(case, case.arguments()))

  @parameterized.parameters("float16", "float64")
  def test_nothing_empty_is_given_to_eigen(self, dtype):
    case = dataclasses.replace(
      Case.parse("mb3_id4x2x9_ic1oc1_k3s5d1_ndhwc_f32_valid"), dtype=dtype
    )
    self.assertIsNone(reference.raw(case, case.arguments()))

  @parameterized.parameters(
    ("f32", "fwd", "compiled"), ("f32", "bwd_w", "compiled"), ("f32", "bwd_d", "eager"),
    ("bf16", "fwd", "compiled"),
  )  # fmt: skip
  def test_tensorflow_is_not_asked_where_onednn_reads_what_nobody_has_written(
    self, dtype, direction, route
  ):
    # One in channel, and two taps over an output one cell wide.
    case = Case.parse(f"mb2_id1x2x1_ic1oc1_k1x1x2s1x1x2d1_ndhwc_{dtype}_{direction}")
    if not private.onednn_enabled(tf.as_dtype(case.dtype)):
      self.skipTest("no oneDNN")
    self.assertEqual(reference.raw(case, case.arguments()).route, route)
    two = dataclasses.replace(case, input_size=(1, 2, 4), dtype="float32")
    self.assertEqual(reference.raw(two, two.arguments()).route, "eager")

  def test_a_result_whose_products_cancel_is_measured_by_them(self):
    # One cell, the sum of two products that are 50 times as large.
    case = Case.parse("mb1_id1_ic1oc2_k3s1d1_ndhwc_f32")
    report = differential.run(case, seed=713019, ways=("eager",))
    self.assertTrue(report.passed, report)
    exact = oracle.exact(case, case.arguments(713019))
    off = (exact * (1 + 5e-6)).astype("float32")
    self.assertIsNotNone(differential.judge(case, off, exact)[1])
    self.assertIsNone(differential.judge(case, off, exact, least_norm=50 * abs(exact.item()))[1])

  @parameterized.parameters(*DIRECTIONS)
  def test_a_right_result_passes(self, direction):
    self.case = dataclasses.replace(self.case, direction=DIRECTIONS[direction])
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
