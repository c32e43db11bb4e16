import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, PADDINGS, Case, random_case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, DIRECTIONS, FWD

ARE_QUICK = True

PLAIN = "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32"
UNEQUAL = "mb2_id8x9x10_ic4oc6g2_k3x1x2s2x1x1d1x2x1_ncdhw_f16_valid"


class NotationTest(parameterized.TestCase):
  def test_equal_sizes_are_written_once(self):
    case = Case.parse(PLAIN)
    self.assertEqual(
      case,
      Case(
        batch=1,
        input_size=(32, 32, 32),
        in_channels=32,
        out_channels=64,
        taps=(3, 3, 3),
        strides=(1, 1, 1),
        dilations=(1, 1, 1),
      ),
    )
    self.assertEqual(str(case), PLAIN)

  def test_unequal_sizes_groups_and_valid_are_spelt_out(self):
    case = Case.parse(UNEQUAL)
    self.assertEqual(
      case,
      Case(
        batch=2,
        input_size=(8, 9, 10),
        in_channels=4,
        out_channels=6,
        groups=2,
        taps=(3, 1, 2),
        strides=(2, 1, 1),
        dilations=(1, 2, 1),
        padding="VALID",
        data_format="NCDHW",
        dtype="float16",
      ),
    )
    self.assertEqual(str(case), UNEQUAL)

  def test_same_padding_may_be_spelt_out(self):
    self.assertEqual(Case.parse(f"{PLAIN}_same"), Case.parse(PLAIN))

  @parameterized.parameters(
    ("", BWD_D, ""), ("_bwd_d", BWD_D, ""), ("_fwd", FWD, "_fwd"), ("_bwd_w", BWD_W, "_bwd_w")
  )
  def test_the_direction_comes_last_and_that_of_the_input_is_not_written(self, *ending):
    read, direction, written = ending
    for text in (PLAIN, UNEQUAL):
      case = Case.parse(text + read)
      self.assertEqual(case, dataclasses.replace(Case.parse(text), direction=direction))
      self.assertEqual(str(case), text + written)

  def test_surrounding_blanks_do_not_matter(self):
    self.assertEqual(Case.parse(f" {PLAIN}\n"), Case.parse(PLAIN))

  @parameterized.parameters(range(100))
  def test_random_cases_read_back_as_themselves(self, seed):
    case = random_case(np.random.default_rng(seed))
    self.assertEqual(Case.parse(str(case)), case)

  @parameterized.parameters(
    ("", "case must read like"),
    ("conv3d", "case must read like"),
    ("mb1_id32x32_ic32oc64_k3s1d1_ndhwc_f32", "case must read like"),
    ("mb1_id32_ic32oc64_k3s1d1_nhwc_f32", "case must read like"),
    ("mb1_id32_ic32oc64_k3s1d1_ndhwc_i8", "case must read like"),
    ("mb1_id32_ic32oc64_k3s0d1_ndhwc_f32", "strides must be"),
    ("mb1_id32_ic32oc64_k3s1d1x0x1_ndhwc_f32", "dilations must be"),
    ("mb1_id32_ic32oc64g0_k3s1d1_ndhwc_f32", "groups must be"),
    ("mb1_id32_ic32oc64g3_k3s1d1_ndhwc_f32", "3 does not divide 32"),
    ("mb1_id32_ic32oc64_k3s1d2147483648_ndhwc_f32", "dilations must be"),
    ("mb9999999999999999999_id3_ic3oc4_k5s1d1_ndhwc_f32", "input_sizes must have fewer than 2.63"),
    ("mb1_id3_ic1oc1_k9999999s1d1_ndhwc_f32", "filter_shape must have fewer than 2.63 cells"),
    ("mb1_id32_ic32oc64_k3s1d1_ndhwc_f32_bwd", "case must read like"),
    ("mb1_id32_ic32oc64_k3s1d1_ndhwc_f32_fwd_valid", "case must read like"),
    ("mb1_id3_ic1oc1_k5s1d1_ndhwc_f32_valid_fwd", "taps must fit into the input"),
    ("mb1_id3_ic1oc1_k0s1d4999999_ndhwc_f32_valid", "out_backprop_shape must have fewer than 2.63"),
  )
  def test_bad_text_is_refused_with_the_reason(self, text, reason):
    with self.assertRaisesRegex(ValueError, reason) as raised:
      Case.parse(text)
    self.assertIn(repr(text), str(raised.exception))


class CaseTest(parameterized.TestCase):
  def test_shapes_and_attributes_channels_last(self):
    case = dataclasses.replace(Case.parse(UNEQUAL), data_format="NDHWC")
    self.assertEqual(case.input_sizes, (2, 8, 9, 10, 4))
    self.assertEqual(case.filter_shape, (3, 1, 2, 2, 6))
    self.assertEqual(case.out_backprop_shape, (2, 3, 9, 9, 6))
    self.assertEqual(case.strides_attr, (1, 2, 1, 1, 1))
    self.assertEqual(case.dilations_attr, (1, 1, 2, 1, 1))

  def test_shapes_and_attributes_channels_first(self):
    case = Case.parse(UNEQUAL)
    self.assertEqual(case.input_sizes, (2, 4, 8, 9, 10))
    self.assertEqual(case.filter_shape, (3, 1, 2, 2, 6))
    self.assertEqual(case.out_backprop_shape, (2, 6, 3, 9, 9))
    self.assertEqual(case.strides_attr, (1, 1, 2, 1, 1))
    self.assertEqual(case.dilations_attr, (1, 1, 1, 2, 1))

  @parameterized.parameters((5, 1, 0), (5, 2, 0), (4, 1, 0), (3, 3, 0), (3, 1, 1))
  def test_a_filter_that_does_not_fit_gives_no_output(self, taps, dilation, length):
    case = Case.parse(f"mb1_id3_ic1oc1_k{taps}s1d{dilation}_ndhwc_f32_valid")
    self.assertEqual(case.output_size, (length,) * 3)

  @parameterized.parameters((4, 1, True), (5, 1, False), (5, 2, True), (6, 2, False))
  def test_of_a_convolution_the_filter_may_be_too_long_by_less_than_a_stride(
    self, taps, stride, is_valid
  ):
    text = f"mb1_id3_ic1oc1_k{taps}s{stride}d1_ndhwc_f32_valid_fwd"
    if is_valid:
      self.assertEqual(Case.parse(text).result_shape, (1, 0, 0, 0, 1))
    else:
      self.assertRaises(ValueError, Case.parse, text)

  @parameterized.parameters(range(40))
  def test_output_size_is_tensorflows(self, seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng, dtype="float32", data_format="NDHWC", grouped=False)
    if case.is_empty or (max(case.dilations) > 1 and max(case.strides) > 1):
      case = Case.parse("mb1_id7x8x9_ic1oc1_k3x2x1s2x3x4d1_ndhwc_f32_valid")
    x = tf.zeros((1, *case.input_size, 1))
    y = tf.nn.convolution(
      x,
      tf.zeros((*case.taps, 1, 1)),
      strides=case.strides,
      padding=case.padding,
      dilations=case.dilations,
    )
    self.assertEqual(tuple(y.shape[1:4]), case.output_size)

  def test_flops_count_every_tap_of_every_output_cell_twice(self):
    self.assertEqual(
      Case.parse("mb2_id4_ic6oc9g3_k3x1x2s2d1_ndhwc_f32").flops, 2 * (2 * 8) * 6 * 2 * 9
    )

  @parameterized.product(
    dtype=("float16", "bfloat16", "float32", "float64"), direction=tuple(DIRECTIONS)
  )
  def test_arguments_are_in_the_dtype_without_zeros(self, dtype, direction):
    case = Case.parse(f"{UNEQUAL}_{direction}")
    case = dataclasses.replace(case, dtype=dtype)
    arguments = case.arguments(seed=3)
    shapes = {
      "input": case.input_sizes,
      "filter": case.filter_shape,
      "out_backprop": case.out_backprop_shape,
    }
    for name in case.direction.operands:
      self.assertEqual(arguments[name].dtype, tf.as_dtype(dtype).as_numpy_dtype)
      self.assertEqual(arguments[name].shape, shapes[name])
      self.assertTrue(np.all(arguments[name] != 0))

  def test_arguments_depend_on_the_seed_alone(self):
    case = Case.parse(UNEQUAL)
    first, again, other = case.arguments(1), case.arguments(1), case.arguments(2)
    np.testing.assert_array_equal(first["filter"], again["filter"])
    self.assertFalse(np.array_equal(first["filter"], other["filter"]))

  @parameterized.parameters(*DIRECTIONS)
  def test_arguments_are_those_of_the_raw_op(self, direction):
    case = Case.parse(f"mb2_id4x5x6_ic2oc3_k3s2d1_ndhwc_f32_{direction}")
    result = getattr(tf.raw_ops, case.direction.op)(**case.arguments())
    self.assertEqual(tuple(result.shape), case.result_shape)
    # Neither vanishing nor overflowing in half.
    self.assertBetween(float(tf.math.reduce_std(result)), 0.2, 5)


class RandomCaseTest(parameterized.TestCase):
  def test_all_kinds_of_cases_are_drawn(self):
    cases = [random_case(np.random.default_rng(seed)) for seed in range(1000)]
    self.assertEqual({case.dtype for case in cases}, set(DTYPES.values()))
    self.assertEqual({case.data_format for case in cases}, set(DATA_FORMATS))
    self.assertEqual({case.padding for case in cases}, set(PADDINGS))
    self.assertEqual({case.direction for case in cases}, set(DIRECTIONS.values()))
    kinds = {
      "grouped": lambda case: case.groups > 1,
      "depthwise": lambda case: case.groups == case.in_channels > 1,
      "dilated": lambda case: max(case.dilations) > 1,
      "strided and dilated on one axis": lambda case: any(
        s > 1 and d > 1 for s, d in zip(case.strides, case.dilations)
      ),
      "filter larger than the input": lambda case: any(
        k > n for k, n in zip(case.taps, case.input_size)
      ),
      "stride larger than the filter": lambda case: any(
        s > k for s, k in zip(case.strides, case.taps)
      ),
      "rectangular": lambda case: len(set(case.input_size)) == 3,
      "cubic": lambda case: len({case.input_size, case.taps, case.strides}) == 3,
      "empty batch": lambda case: case.batch == 0,
      "empty axis": lambda case: 0 in case.input_size,
      "no taps": lambda case: 0 in case.taps,
      "no in channels": lambda case: case.in_channels == 0,
      "no out channels": lambda case: case.out_channels == 0,
      "empty output of a filter that does not fit": lambda case: (
        0 in case.output_size and 0 not in case.input_size
      ),
      "the same of a convolution": lambda case: (
        0 in case.output_size and 0 not in case.input_size and case.direction == FWD
      ),
    }
    for name, is_kind in kinds.items():
      with self.subTest(name):
        self.assertGreater(sum(map(is_kind, cases)), 1)
    self.assertLess(sum(case.is_empty for case in cases), 150)

  @parameterized.product(dtype=("bfloat16",), padding=PADDINGS, dilated=(0, 1), grouped=(0, 1))
  def test_what_is_given_is_kept(self, dtype, padding, dilated, grouped):
    for seed in range(20):
      case = random_case(
        np.random.default_rng(seed),
        max_size=5,
        dtype=dtype,
        data_format="NCDHW",
        padding=padding,
        dilated=bool(dilated),
        grouped=bool(grouped),
        direction=BWD_W,
      )
      self.assertLessEqual(max(case.input_size), 5)
      self.assertEqual((case.dtype, case.data_format, case.padding), (dtype, "NCDHW", padding))
      self.assertEqual(max(case.dilations) > 1, bool(dilated))
      self.assertEqual(case.groups > 1, bool(grouped))
      self.assertEqual(case.direction, BWD_W)


if __name__ == "__main__":
  absltest.main()
