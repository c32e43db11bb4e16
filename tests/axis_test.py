"""One axis and its canonical form, against the definition, for every small axis there is."""

import itertools

import tensorflow as tf
from absl.testing import absltest

from tests.axes import all_windows, reached
from tf_conv3d_grad.problem.axis import Axis, output_length

# All small ones, and those whose taps are one for each cell but for a few.
WINDOWS = [*all_windows(), (5, 6, 1), (6, 7, 1), (5, 10, 1), (5, 11, 1), (6, 7, 2)]


def small_axes():
  """Every small axis, those with cells cut off in front among them."""
  for (taps, stride, dilation), n, o, pad in itertools.product(
    WINDOWS, range(1, 8), range(1, 4), range(-2, 5)
  ):
    yield Axis(n, o, taps, stride, dilation, pad)


class OfTest(absltest.TestCase):
  def test_its_reach_is_up_to_the_last_cell_that_any_tap_meets(self):
    for axis in small_axes():
      met = [
        o * axis.stride + q * axis.dilation for o in range(axis.output) for q in range(axis.taps)
      ]
      self.assertEqual(axis.reach, max(met) + 1, axis)

  def test_valid_has_no_padding_and_windows_within_the_input(self):
    for (taps, stride, dilation), n in itertools.product(all_windows(), range(12)):
      output = output_length(n, taps, stride, dilation, "VALID")
      axis = Axis.of(n, output, taps, stride, dilation, "VALID")
      self.assertEqual(axis, Axis(n, output, taps, stride, dilation, 0))
      self.assertLen(reached(axis), output * taps)

  def test_same_has_as_much_padding_in_front_as_behind_or_one_less(self):
    for (taps, stride, dilation), n in itertools.product(all_windows(), range(1, 12)):
      output = output_length(n, taps, stride, dilation, "SAME")
      self.assertEqual(output, len(range(0, n, stride)))
      axis = Axis.of(n, output, taps, stride, dilation, "SAME")
      last = (output - 1) * stride + (taps - 1) * dilation - axis.pad
      behind = last - (n - 1)
      if axis.pad or behind > 0:
        self.assertIn(behind - axis.pad, (0, 1), axis)

  def test_with_a_stride_of_one_the_padding_needs_no_length(self):
    for padding, pad in (("SAME", 2), ("VALID", 0)):
      with tf.Graph().as_default():
        length = tf.compat.v1.placeholder(tf.int64, [])
        self.assertEqual(Axis.of(length, length, 5, 1, 1, padding).pad, pad)


class ValueTest(absltest.TestCase):
  def test_those_of_the_same_numbers_are_one_key(self):
    axis, same, other = Axis(8, 4, 3, 2, 1, 0), Axis(8, 4, 3, 2, 1, 0), Axis(8, 4, 3, 2, 1, 1)
    self.assertLen({axis, same, other}, 2)


class KindsTest(absltest.TestCase):
  def test_where_nothing_overlaps_no_cell_is_reached_twice(self):
    found = 0
    for axis in small_axes():
      cells = list(reached(axis).values())
      if axis.is_non_overlapping:
        found += 1
        self.assertLen(set(cells), len(cells), axis)
      if axis.is_shuffled:
        self.assertTrue(axis.is_non_overlapping)
        self.assertEqual(cells, sorted(cells), axis)
    self.assertGreater(found, 1000)

  def test_a_filter_as_long_as_the_stride_is_shuffled_one_tap_and_dilations_are_not(self):
    for axis, expected in (
      (Axis(8, 4, 2, 2, 1, 0), True),
      (Axis(8, 3, 3, 2, 1, 0), False),
      (Axis(8, 3, 2, 2, 2, 0), False),
      (Axis(8, 8, 1, 1, 1, 0), False),
    ):
      self.assertEqual(axis.is_shuffled, expected, axis)


class PaddedTest(absltest.TestCase):
  def test_is_all_padding_there_is_in_front_and_behind(self):
    found = set()
    for axis in small_axes():
      last = (axis.output - 1) * axis.stride + (axis.taps - 1) * axis.dilation - axis.pad
      behind = last - (axis.input - 1)  # less than none where cells at the end are skipped
      self.assertEqual(axis.padded, axis.pad + behind, axis)
      found.add(axis.padded)
    self.assertContainsSubset(range(-3, 6), found)

  def test_of_one_tap_and_an_unknown_length_there_is_at_most_none(self):
    with tf.Graph().as_default():
      length = tf.compat.v1.placeholder(tf.int64, [])
      self.assertEqual(Axis(length, length, 1, 1, 1, 0).padded, 0)
      self.assertFalse(isinstance(Axis(length, length, 2, 1, 1, 0).padded, int))
    self.assertEqual(Axis(8, 3, 1, 2, 1, 0).padded, -3)


class CanonicalTest(absltest.TestCase):
  def test_a_canonical_axis_reaches_the_same_cells_with_the_taps_that_it_keeps(self):
    for axis in small_axes():
      canonical, kept = axis.canonical()
      before = {(o, q): cell for (o, q), cell in reached(axis).items()}
      after = {
        (o, q + kept.start): cell
        for (o, q), cell in reached(canonical).items()
        if q < kept.stop - kept.start
      }
      self.assertEqual(after, before, (axis, canonical, kept))

  def test_taps_that_reach_nothing_are_left_out(self):
    canonical, kept = Axis(3, 3, 7, 1, 1, 3).canonical()
    self.assertEqual((canonical.taps, kept), (5, slice(1, 6)))

  def test_a_single_output_cell_is_shuffled_or_where_it_is_dilated_without_a_stride(self):
    canonical, _ = Axis(28, 1, 28, 1, 1, 0).canonical()
    self.assertTrue(canonical.is_shuffled)
    canonical, _ = Axis(28, 1, 5, 3, 2, 0).canonical()
    self.assertEqual((canonical.stride, canonical.dilation), (1, 2))

  def test_no_tap_that_reaches_something_is_left_out(self):
    for axis in small_axes():
      _, kept = axis.canonical()
      self.assertContainsSubset({q for _, q in reached(axis)}, range(axis.taps)[kept], axis)

  def test_without_a_stride_the_first_and_the_last_tap_reach_something(self):
    for axis in small_axes():
      _, kept = axis.canonical()
      if axis.stride == 1 and kept.stop - kept.start > 1:
        live = {q for _, q in reached(axis)}
        self.assertContainsSubset({kept.start, kept.stop - 1}, live, axis)

  def test_it_is_its_own_canonical_form(self):
    for axis in small_axes():
      canonical, kept = axis.canonical()
      if canonical.taps == kept.stop - kept.start:
        self.assertEqual(canonical.canonical(), (canonical, slice(0, canonical.taps)), axis)

  def test_one_tap_is_not_dilated(self):
    for axis in small_axes():
      canonical, _ = axis.canonical()
      if canonical.taps == 1:
        self.assertEqual(canonical.dilation, 1)

  def test_almost_as_many_taps_as_the_stride_are_shuffled_with_zeros_behind(self):
    canonical, kept = Axis(35, 5, 6, 7, 1, 0).canonical()
    self.assertTrue(canonical.is_shuffled)
    self.assertEqual((canonical.taps, kept), (7, slice(0, 6)))
    canonical, _ = Axis(60, 5, 5, 11, 1, 0).canonical()  # more zeros than taps
    self.assertEqual(canonical.taps, 5)

  def test_of_unknown_lengths_every_tap_may_be_live(self):
    with tf.Graph().as_default():
      length = tf.compat.v1.placeholder(tf.int64, [])
      axis = Axis(length, length, 7, 1, 1, 3)
      canonical, kept = axis.canonical()
      self.assertIs(canonical, axis)
      self.assertEqual(kept, slice(0, 7))


if __name__ == "__main__":
  absltest.main()
