"""One validated call: what its shapes settle, its groups, and its canonical form."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.tap_loop import exactly
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT

ARE_QUICK = True

PLAIN = "mb2_id5x6x7_ic4oc6_k3x2x1s1x2x3d2x1x1_ndhwc_f32"


def problem_of(text):
  case = Case.parse(text)
  attributes = Attributes(case.data_format, case.padding, case.strides, case.dilations)
  shapes = map(list, (case.filter_shape, case.input_sizes, case.out_backprop_shape))
  return Problem.of_shapes(tf.as_dtype(case.dtype), attributes, *shapes)


class OfShapesTest(parameterized.TestCase):
  @parameterized.product(
    text=(PLAIN, "mb1_id8_ic4oc4g2_k3s2d1_ndhwc_f16_valid"), channels_first=(True, False)
  )
  def test_it_has_the_shapes_and_attributes_that_it_is_made_of(self, text, channels_first):
    case = Case.parse(text.replace("ndhwc", "ncdhw") if channels_first else text)
    problem = problem_of(str(case))
    self.assertEqual(problem.filter_shape, list(case.filter_shape))
    self.assertEqual(problem.input_shape, list(case.input_sizes))
    self.assertEqual(problem.out_backprop_shape, list(case.out_backprop_shape))
    self.assertEqual(problem.taps, case.taps)
    self.assertEqual(
      problem.attributes, (case.data_format, case.padding, case.strides, case.dilations)
    )
    self.assertTrue(problem.is_static)
    self.assertEqual(problem, validation.validate(BACKPROP_INPUT, **case.arguments())[0])

  @parameterized.product(
    padding=("SAME", "VALID"),
    data_format=("NDHWC", "NCDHW"),
    unknown=(["batch"], ["output"], ["out"], ["batch", "output", "out"]),
    in_filter=(True, False),
  )
  def test_what_is_known_of_one_shape_settles_another(
    self, padding, data_format, unknown, in_filter
  ):
    case = Case.parse(PLAIN)
    case = dataclasses.replace(case, padding=padding, data_format=data_format)
    expected = problem_of(str(case))
    layout = expected.layout
    with tf.Graph().as_default():
      nobody = tf.compat.v1.placeholder(tf.int64, [])
      batch, lengths, out = layout.split(expected.out_backprop_shape)
      filter_shape, input_shape = expected.filter_shape, expected.input_shape
      if "output" in unknown:
        lengths = [nobody] * 3
      if "out" in unknown and in_filter:
        filter_shape = [*filter_shape[:4], nobody]
      elif "out" in unknown:
        out = nobody
      if "batch" in unknown and in_filter:
        input_shape = layout.arranged(nobody, *layout.split(input_shape)[1:])
      elif "batch" in unknown:
        batch = nobody
      problem = Problem.of_shapes(
        tf.float32, expected.attributes, filter_shape, input_shape,
        layout.arranged(batch, lengths, out),
      )  # fmt: skip
    self.assertTrue(problem.is_static)
    self.assertEqual(problem, expected)

  def test_what_nobody_knows_stays_a_tensor(self):
    with tf.Graph().as_default():
      nobody = tf.compat.v1.placeholder(tf.int64, [])
      problem = Problem.of_shapes(
        tf.float32,
        Attributes("NDHWC", "SAME", (1, 1, 2), (1, 1, 1)),
        [3, 3, 3, 4, 8],
        [nobody, nobody, 6, nobody, 4],
        [nobody, nobody, nobody, nobody, nobody],
      )
      depth, height, width = problem.axes
      self.assertFalse(problem.is_static)
      self.assertEqual(sizes.static(problem.input_shape), [None, None, 6, None, 4])
      self.assertEqual(sizes.static(problem.out_backprop_shape), [None, None, 6, None, 8])
      # Without a stride "SAME" is as much padding for any length.
      self.assertEqual((depth.pad, height.pad), (1, 1))
      self.assertFalse(sizes.is_known(width.pad))


class ChannelsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("mb1_id4_ic6oc4_k3s1d1_ndhwc_f32", 1, False),
    ("mb1_id4_ic6oc4g2_k3s1d1_ndhwc_f32", 2, False),
    ("mb1_id4_ic6oc6g6_k3s1d1_ndhwc_f32", 6, True),
    ("mb1_id4_ic6oc24g6_k3s1d1_ncdhw_f32", 6, True),  # four each
    ("mb1_id4_ic6oc30g6_k3s1d1_ndhwc_f32", 6, False),  # five
    ("mb1_id4_ic1oc4_k3s1d1_ndhwc_f32", 1, False),  # no groups
  )
  def test_groups_are_so_many_and_depthwise_if_of_one_channel_to_few(self, text, groups, depthwise):
    problem = problem_of(text)
    self.assertEqual((problem.groups, problem.is_depthwise), (groups, depthwise))

  def test_a_result_of_no_channels_is_one_group_whatever_the_filter(self):
    for inner in (0, 3):
      problem = problem_of(PLAIN).replace(in_channels=0, filter_in_channels=inner)
      self.assertEqual(problem.groups, 1)
      self.assertFalse(problem.is_depthwise)

  def test_of_unknown_channels_groups_are_found_when_it_runs(self):
    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
    def groups(channels, inner):
      return problem_of(PLAIN).replace(in_channels=channels, filter_in_channels=inner).groups

    for channels, inner, expected in ((6, 2, 3), (6, 6, 1), (0, 3, 1), (0, 0, 1)):
      self.assertEqual(int(groups(channels, inner)), expected)


class EmptyTest(parameterized.TestCase):
  def test_it_is_empty_if_any_of_the_tensors_is(self):
    problem = problem_of(PLAIN)
    self.assertFalse(problem.is_empty)
    for name in ("batch", "in_channels", "filter_in_channels", "out_channels"):
      self.assertTrue(problem.replace(**{name: 0}).is_empty, name)
    for number, name in itertools.product(range(3), ("input", "output", "taps")):
      axes = list(problem.axes)
      axes[number] = dataclasses.replace(axes[number], **{name: 0})
      self.assertTrue(problem.replace(axes=tuple(axes)).is_empty, (number, name))

  def test_unknown_sizes_are_not_known_to_be_empty(self):
    problem = problem_of(PLAIN).replace(batch=tf.constant(0))
    self.assertFalse(problem.is_empty)
    self.assertTrue(problem.replace(in_channels=0).is_empty)


class CanonicalTest(parameterized.TestCase):
  @parameterized.parameters(
    PLAIN,
    "mb2_id3_ic2oc3_k7s1d1_ndhwc_f64",  # taps in the padding
    "mb1_id5x4x3_ic4oc2g2_k3s1d4x3x2_ncdhw_f64",  # nothing but the middle ones
    "mb1_id5x4x4_ic2oc3_k5x4x4s2x1x3d1_ndhwc_f64_valid",  # one cell of out_backprop
    "mb1_id13x7x8_ic2oc3_k6x5x1s7x6x2d1x1x3_ncdhw_f64",  # shuffled with zeros behind
  )
  def test_it_has_the_same_result_of_its_live_taps(self, text):
    case = dataclasses.replace(Case.parse(text), dtype="float64")
    arguments = case.arguments()
    problem, filter, out_backprop = validation.validate(BACKPROP_INPUT, **arguments)
    canonical = problem.canonical
    live = problem.live_taps(filter)
    # Those that a shuffled axis has too many are zero.
    missing = [axis.taps - given for axis, given in zip(canonical.axes, live.shape)]
    self.assertTrue(all(more >= 0 for more in missing))
    for more, axis in zip(missing, canonical.axes):
      self.assertTrue(more == 0 or axis.is_shuffled)
    padded = tf.pad(live, [*([0, more] for more in missing), [0, 0], [0, 0]])
    self.assertEqual(padded.shape.as_list(), canonical.filter_shape)
    exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
    result = exactly(BACKPROP_INPUT, canonical)(padded, out_backprop)
    np.testing.assert_allclose(result, exact, rtol=1e-12, atol=1e-12)

  def test_nothing_but_the_axes_changes(self):
    problem = problem_of("mb2_id3_ic4oc6g2_k7s1d1_ncdhw_f16")
    canonical = problem.canonical
    self.assertEqual(canonical, problem.replace(axes=canonical.axes))
    self.assertEqual(canonical.taps, (5, 5, 5))
    self.assertEqual(canonical.axes, tuple(axis.canonical()[0] for axis in problem.axes))

  def test_idle_taps_are_cut_off_and_a_filter_without_any_is_left_alone(self):
    filter = tf.reshape(tf.range(7.0 * 3 * 3), [7, 3, 3, 1, 1])
    problem = problem_of("mb1_id3x8x8_ic1oc1_k7x3x3s1d1_ndhwc_f32")
    np.testing.assert_array_equal(problem.live_taps(filter), filter[1:6])
    problem = problem_of("mb1_id8_ic1oc1_k3s1d1_ndhwc_f32")
    given = filter[:3]
    self.assertIs(problem.live_taps(given), given)

  def test_what_does_not_overlap_is_so_on_every_axis(self):
    self.assertTrue(problem_of("mb1_id8_ic1oc1_k2x1x4s2x1x4d1_ndhwc_f32").is_non_overlapping)
    self.assertFalse(problem_of("mb1_id8_ic1oc1_k2x3x4s2x2x4d1_ndhwc_f32").is_non_overlapping)


class UnambiguousPaddingTest(parameterized.TestCase):
  @parameterized.parameters(
    ("id8_ic4oc4_k3s2d1_ndhwc_f32_valid", "VALID"),
    ("id8_ic4oc4_k1s2d1_ndhwc_f32_valid", "VALID"),
    ("id8_ic4oc4_k3s3d1_ndhwc_f32", "SAME"),  # strides up to the taps skip nothing
    ("id8_ic4oc4_k1s2d1_ndhwc_f32", "VALID"),  # the last cell is skipped on each axis
    ("id9_ic4oc4_k2s2d1_ndhwc_f32", "SAME"),
    ("id9_ic4oc4_k1s2d1_ndhwc_f32", "VALID"),  # neither padding nor cells skipped
    ("id10_ic4oc4_k2s3d1_ndhwc_f32", "SAME"),  # a cell of padding on each axis
    ("id10x9x10_ic4oc4_k2s3d1_ndhwc_f32", None),  # one skips, others are padded
    ("id10x11x10_ic4oc4_k2s3d1_ndhwc_f32", "SAME"),  # one is just as long
    ("id10x11x9_ic4oc4_k2s3d1_ndhwc_f32", None),
    ("id9x11x9_ic4oc4_k2s3d1_ndhwc_f32", "VALID"),
    ("id8_ic4oc4_k3x3x1s2d1_ndhwc_f32", None),
  )
  def test_same_where_nothing_is_skipped_valid_where_nothing_is_padded(self, text, expected):
    self.assertEqual(problem_of(f"mb1_{text}").unambiguous_padding, expected)

  def test_of_unknown_lengths_there_is_none_unless_no_stride_can_skip(self):
    with tf.Graph().as_default():
      nobody = tf.compat.v1.placeholder(tf.int64, [])
      for stride, expected in ((3, "SAME"), (4, None)):
        problem = Problem.of_shapes(
          tf.float32,
          Attributes("NDHWC", "SAME", (stride,) * 3, (1, 1, 1)),
          [3, 3, 3, 4, 8],
          [1, nobody, nobody, nobody, 4],
          [1, nobody, nobody, nobody, 8],
        )
        self.assertEqual(problem.unambiguous_padding, expected)


class KeyTest(absltest.TestCase):
  def test_equal_problems_are_one_key_and_a_change_makes_another(self):
    problem = problem_of(PLAIN)
    self.assertLen({problem, problem_of(PLAIN)}, 1)
    others = {
      problem,
      problem.replace(dtype=tf.float64),
      problem.replace(data_format="NCDHW"),
      problem.replace(padding="VALID"),
      problem.replace(batch=3),
      problem.replace(axes=(Axis(5, 5, 3, 1, 2, 1), *problem.axes[1:])),
    }
    self.assertLen(others, 6)


if __name__ == "__main__":
  absltest.main()
