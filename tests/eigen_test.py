"""How Eigen's kernel takes a batch: what is read off TensorFlow's source, and what follows."""

from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import explain
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.kernel import eigen
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT
from tf_conv3d_grad.tensorflow import private, processor

ARE_QUICK = True

KB, MB = 2**10, 2**20


def problem_of(text):
  case = Case.parse(text)
  shapes = case.filter_shape, case.out_backprop_shape
  specs = [tf.TensorSpec(shape, case.dtype) for shape in shapes]
  return explain(case.input_sizes, *specs, **case.attributes()).problem


def is_faster_by_sample(text, l3, cores=2, onednn=False):
  problem = problem_of(text)
  with (
    mock.patch.object(private, "eigen_l3_bytes", return_value=l3),
    mock.patch.object(private, "onednn_enabled", return_value=onednn),
    mock.patch.object(processor, "cores", return_value=cores),
  ):
    return eigen.is_faster_by_sample(problem, problem.dtype)


class PatchesTest(parameterized.TestCase):
  # With TensorFlow 2.21 the kernel took 20 to 1000 times as long with an L3 cache 8 kB larger, as
  # Eigen was told.
  @parameterized.parameters(
    ("mb2_id24_ic32oc64_k3s2d1_ndhwc_f32", 129600),
    ("mb3_id12_ic32oc64_k3s2d1_ndhwc_f32", 35964),
    ("mb2_id8_ic96oc64_k3s2d1_ndhwc_f32", 55104),
    ("mb8_id12_ic64oc128_k3s2d1_ndhwc_f32", 223560),
    ("mb2_id16_ic1oc48_k3s2d1_ndhwc_f32", 17057),
  )
  def test_they_begin_at_the_size_of_the_cache_at_which_the_kernel_was_seen_to(self, text, kb):
    problem = problem_of(text)
    self.assertFalse(eigen.looks_patches_up(problem, tf.float32, (kb - 4) * KB))
    self.assertTrue(eigen.looks_patches_up(problem, tf.float32, (kb + 4) * KB))

  def test_one_sample_has_them_or_not_whatever_the_cache(self):
    for text, expected in (
      ("mb1_id24_ic32oc64_k3s2d1_ndhwc_f32", False),
      ("mb1_id16_ic32oc32_k5s1d1_ndhwc_f32", True),
    ):
      for l3 in (1 * MB, 512 * MB):
        self.assertEqual(eigen.looks_patches_up(problem_of(text), tf.float32, l3), expected)

  def test_a_larger_batch_has_them_later(self):
    few, many = (f"mb{batch}_id12_ic32oc64_k3s2d1_ndhwc_f32" for batch in (2, 64))
    self.assertTrue(eigen.looks_patches_up(problem_of(few), tf.float32, 320 * MB))
    self.assertFalse(eigen.looks_patches_up(problem_of(many), tf.float32, 320 * MB))


class BySampleTest(parameterized.TestCase):
  @parameterized.product(
    text=(
      "mb2_id24_ic32oc64_k3s2d1_ndhwc_f32",
      "mb3_id16_ic16oc16_k3s1x1x2d1_ndhwc_f64",
      "mb8_id8_ic64oc128_k3s2d1_ndhwc_f32",
      "mb4_id12_ic8oc32_k2s2d1_ndhwc_f64",
    ),
    cores=(1, 2, 16),
  )
  def test_where_strided_patches_would_be_looked_up(self, text, cores):
    self.assertTrue(eigen.looks_patches_up(problem_of(text), problem_of(text).dtype, 320 * MB))
    self.assertTrue(is_faster_by_sample(text, 320 * MB, cores))

  @parameterized.parameters(
    "mb2_id16_ic96oc96_k3s1d1_ndhwc_f32",
    "mb2_id24_ic64oc8_k3s1d1_ndhwc_f32",
    "mb4_id12_ic128oc64_k3s1d1_ndhwc_f64",
  )
  def test_not_where_patches_are_looked_up_run_by_run(self, text):
    self.assertTrue(eigen.looks_patches_up(problem_of(text), problem_of(text).dtype, 320 * MB))
    self.assertFalse(is_faster_by_sample(text, 320 * MB))

  @parameterized.parameters("mb2_id24_ic4oc48_k5s1d1_ndhwc_f32", "mb4_id24_ic1oc4_k3s1d1_ndhwc_f32")
  def test_for_few_channels_patches_cost_more_than_columns(self, text):
    self.assertTrue(eigen.looks_patches_up(problem_of(text), tf.float32, 320 * MB))
    self.assertTrue(is_faster_by_sample(text, 320 * MB))

  def test_patches_cost_more_than_columns_for_a_filter_larger_than_the_tensors(self):
    self.assertTrue(is_faster_by_sample("mb2_id6_ic48oc32_k5s1d1_ndhwc_f32", 320 * MB))

  def test_where_columns_of_the_batch_do_not_stay_in_memory(self):
    text = "mb8_id24_ic8oc16_k3s1d1_ndhwc_f64"
    self.assertFalse(eigen.looks_patches_up(problem_of(text), tf.float64, 320 * MB))
    self.assertTrue(is_faster_by_sample(text, 320 * MB))
    self.assertFalse(is_faster_by_sample(text, 320 * MB, onednn=True))  # whose allocator keeps it

  def test_not_where_those_of_one_sample_do_not_either(self):
    self.assertFalse(is_faster_by_sample("mb4_id32_ic64oc4_k3s1d1_ndhwc_f32", 32 * MB))

  def test_not_where_several_samples_at_a_time_fit(self):
    self.assertFalse(is_faster_by_sample("mb8_id8_ic64oc128_k3s2d1_ndhwc_f32", 32 * MB))

  def test_where_one_sample_at_a_time_would_leave_cores_idle(self):
    text = "mb8_id16_ic64oc4_k2s1d1_ndhwc_f32"
    alone, together = (is_faster_by_sample(text, 2 * MB, cores) for cores in (1, 16))
    self.assertFalse(alone)
    self.assertTrue(together)

  def test_not_for_what_takes_less_than_the_calls(self):
    self.assertFalse(is_faster_by_sample("mb8_id3_ic2oc2_k3s2d1_ndhwc_f32", 320 * MB))

  def test_a_cache_of_unknown_size_is_taken_for_the_one_that_would_be_worse(self):
    text = "mb8_id8_ic64oc128_k3s2d1_ndhwc_f32"
    self.assertTrue(is_faster_by_sample(text, None))


class OneSampleTest(absltest.TestCase):
  def test_columns_of_a_hundred_megabytes_take_longest_where_pages_are_cleared(self):
    problem = problem_of("mb1_id24_ic32oc32_k3s1d1_ndhwc_f64")
    seconds = []
    for onednn in (True, False):
      with mock.patch.object(private, "onednn_enabled", return_value=onednn):
        plan = Plan("CPU", False, problem.dtype, "NDHWC")
        seconds.append(eigen.seconds(BACKPROP_INPUT, problem, plan))
    # 18 and 48 ms on 2 cores were measured.
    self.assertBetween(seconds[0], 0.025, 0.05)
    self.assertBetween(seconds[1], 0.075, 0.15)


class FilterGradientTest(parameterized.TestCase):
  def seconds(self, text):
    problem = problem_of(text)
    return eigen.seconds(BACKPROP_FILTER, problem, Plan("CPU", False, problem.dtype, "NDHWC"))

  def test_samples_of_a_batch_are_looked_up_together_without_a_stride(self):
    alone, batch = (self.seconds(f"mb{n}_id16_ic16oc32_k3s1d1_ndhwc_f32") for n in (1, 8))
    # 20 ms on 2 cores were measured.
    self.assertBetween(batch, 0.02, 0.08)
    self.assertBetween(batch / alone, 2, 4)
    of_one = self.seconds("mb1_id32_ic16oc32_k3s1d1_ndhwc_f32")
    self.assertGreater(of_one, 2 * batch)

  def test_with_a_stride_each_by_itself(self):
    alone, batch = (self.seconds(f"mb{n}_id16_ic16oc32_k3s2d1_ndhwc_f32") for n in (1, 8))
    self.assertAlmostEqual(batch, 8 * alone)
    self.assertGreater(batch, 3 * self.seconds("mb8_id16_ic16oc32_k3s1d1_ndhwc_f32"))

  @parameterized.parameters(
    ("mb1_id26_ic44oc36_k3s1d1_ndhwc_f32", 114),
    ("mb1_id30_ic36oc4_k3s1d1_ndhwc_f32", 32),
    ("mb1_id24_ic64oc4_k3s1d1_ndhwc_f32", 23),
    ("mb1_id24_ic48oc32_k1x3x3s1d1_ndhwc_f32", 35),
    ("mb1_id20x36x36_ic36oc36_k3x1x1s1d1_ndhwc_f32", 35),
    ("mb8_id12_ic64oc4_k3s1d1_ndhwc_f32", 20),
    ("mb1_id20_ic24oc40_k3s2d1_ndhwc_f32", 93),
    ("mb1_id20_ic24oc40_k3s2d1_ndhwc_f64", 177),
    ("mb1_id36_ic20oc40_k2s2d1_ndhwc_f32", 172),
    ("mb1_id22_ic16oc28_k3s1d1_ndhwc_f64", 53),
  )
  def test_it_takes_about_as_many_milliseconds_of_a_core_as_on_zen_4(self, text, measured):
    self.assertBetween(1e3 * self.seconds(text) / measured, 0.75, 1.35)


class CacheTest(absltest.TestCase):
  def test_eigen_tells_its_size_or_nothing_is_known(self):
    known = private.eigen_l3_bytes()
    self.assertTrue(known is None or known >= 256 * KB, known)

  def test_without_eigens_function_it_is_unknown(self):
    with mock.patch.object(tf.sysconfig, "get_lib", return_value=self.create_tempdir().full_path):
      self.assertIsNone(private.eigen_l3_bytes.__wrapped__())


if __name__ == "__main__":
  absltest.main()
