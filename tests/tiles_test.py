"""The tiles of one axis, against the definition, for every small axis there is."""

import functools
import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests.axes import reached
from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.tensorflow import private

ARE_QUICK = True

WINDOWS = tuple(itertools.product(range(1, 5), range(1, 4), range(1, 3)))


def of_results():
  """Yields every small axis, and cuts of the result of its transposed convolution."""
  for (taps, stride, dilation), n, o, pad in itertools.product(
    WINDOWS, (1, 2, 5, 7), (1, 2, 5), range(-2, 4)
  ):
    axis = Axis(n, o, taps, stride, dilation, pad)
    for tile in range(1, n + 2):
      yield axis, tile, tiles.of_result(axis, tile)


def of_outputs():
  """Yields every small axis, and cuts of the output of its convolution."""
  for (taps, stride, dilation), n, o, pad in itertools.product(
    WINDOWS, (1, 2, 5, 7), (1, 2, 5, 6), range(4)
  ):
    axis = Axis(n, o, taps, stride, dilation, pad)
    for tile in range(1, o + 2):
      yield axis, tile, tiles.of_output(axis, tile)


def windows(tiling):
  """Returns which cells of the other tensor each tile reads, by their places without padding."""
  first = tiling.first - tiling.before
  return [
    range(first + index * tiling.step, first + index * tiling.step + tiling.window)
    for index in range(tiling.count)
  ]


class CutTestCase(absltest.TestCase):
  def assert_each_cell_once(self, length, tile, tiling, per_tile):
    """Asserts that tiles of one length, with nothing behind but in the last, are all cells."""
    cells = [
      index * per_tile + cell for index in range(tiling.count) for cell in range(per_tile)
    ]
    self.assertEqual(cells[:length], list(range(length)))
    self.assertLess(len(cells) - length, per_tile)
    self.assertLessEqual(tile, per_tile)

  def assert_within(self, length, tiling):
    """Asserts that all that is read is there once the tensor is padded, and no cell is twice."""
    padded = range(-tiling.before, length + tiling.after)
    for window in windows(tiling):
      if window:
        self.assertContainsSubset({window[0], window[-1]}, padded)
        self.assertTrue(tiling.pads or (window[0] >= 0 and window[-1] < length))

  def assert_same_window(self, axis, tiling):
    for name in ("taps", "stride", "dilation"):
      self.assertEqual(getattr(tiling.axis, name), getattr(axis, name))


class OfResultTest(CutTestCase):
  def test_every_cell_is_computed_once_in_tiles_that_begin_on_one_phase(self):
    for axis, tile, tiling in of_results():
      if tiling.is_whole:
        self.assertGreaterEqual(tile + axis.stride - 1, axis.input)
        continue
      self.assert_each_cell_once(axis.input, tile, tiling, tiling.axis.input)
      self.assertEqual(tiling.axis.input % axis.stride, 0)
      self.assertLess(tiling.axis.input - tile, axis.stride)

  def test_every_window_lies_within_the_padded_tensor(self):
    for axis, _, tiling in of_results():
      self.assert_within(axis.output, tiling)

  def test_each_tile_is_what_the_definition_gives(self):
    for axis, tile, tiling in of_results():
      self.assert_same_window(axis, tiling)
      self.assertEqual(tiling.axis.output, tiling.window)
      everything = reached(axis)
      for index, window in enumerate(windows(tiling)):
        first = index * tiling.axis.input
        cells = range(first, first + tiling.axis.input)
        expected = {pair: cell for pair, cell in everything.items() if cell in cells}
        found = {
          (window[o], q): first + cell
          for (o, q), cell in reached(tiling.axis).items()
          if window[o] in range(axis.output) and first + cell < axis.input
        }
        self.assertEqual(found, expected, (axis, tile, index))

  def test_the_first_and_last_cell_of_a_window_reach_their_tile(self):
    for axis, tile, tiling in of_results():
      if not tiling.is_whole and tiling.window:
        reaching = {o for o, _ in reached(tiling.axis)}
        self.assertContainsSubset({0, tiling.window - 1}, reaching, (axis, tile))

  def test_no_more_is_padded_than_is_read(self):
    for axis, tile, tiling in of_results():
      read = [cell for window in windows(tiling) for cell in window]
      if read:
        self.assertEqual(tiling.before, max(0, -min(read)), (axis, tile))
        self.assertEqual(tiling.after, max(0, max(read) - axis.output + 1), (axis, tile))

  def test_as_much_as_all_is_one_tile(self):
    axis = Axis(7, 4, 3, 2, 1, 1)
    for tile in (None, 7, 8, 100):
      tiling = tiles.of_result(axis, tile)
      self.assertTrue(tiling.is_whole)
      self.assertFalse(tiling.pads)
      self.assertEqual((tiling.axis, tiling.window), (axis, 4))


class OfOutputTest(CutTestCase):
  def test_every_cell_is_computed_once(self):
    for axis, tile, tiling in of_outputs():
      if tiling.is_whole:
        self.assertGreaterEqual(tile, axis.output)
        continue
      self.assert_each_cell_once(axis.output, tile, tiling, tiling.axis.output)
      self.assertEqual(tiling.axis.output, tile)

  def test_every_window_lies_within_the_padded_tensor(self):
    for axis, _, tiling in of_outputs():
      self.assert_within(axis.input, tiling)

  def test_each_tile_is_what_the_definition_gives(self):
    for axis, tile, tiling in of_outputs():
      self.assert_same_window(axis, tiling)
      self.assertEqual(tiling.axis.input, tiling.window)
      everything = reached(axis)
      for index, window in enumerate(windows(tiling)):
        first = index * tiling.axis.output
        expected = {
          (o, q): cell
          for (o, q), cell in everything.items()
          if first <= o < first + tiling.axis.output
        }
        found = {
          (first + o, q): window[cell]
          for (o, q), cell in reached(tiling.axis).items()
          if first + o < axis.output and window[cell] in range(axis.input)
        }
        self.assertEqual(found, expected, (axis, tile, index))

  def test_a_window_is_no_longer_than_what_its_tile_sees(self):
    for axis, tile, tiling in of_outputs():
      if not tiling.is_whole:
        seen = reached(tiling.axis)
        self.assertLen(seen, tile * axis.taps, (axis, tile))
        self.assertEqual({min(seen.values()), max(seen.values())}, {0, tiling.window - 1})

  def test_the_input_is_padded_as_the_axis_is_and_behind_as_far_as_is_read(self):
    for axis, tile, tiling in of_outputs():
      if not tiling.is_whole:
        last = windows(tiling)[-1][-1]
        self.assertEqual(tiling.before, axis.pad, (axis, tile))
        self.assertEqual(tiling.after, max(0, last - axis.input + 1), (axis, tile))

  def test_as_much_as_all_is_one_tile(self):
    axis = Axis(7, 4, 3, 2, 1, 1)
    for tile in (None, 4, 5, 100):
      tiling = tiles.of_output(axis, tile)
      self.assertTrue(tiling.is_whole)
      self.assertFalse(tiling.pads)
      self.assertEqual((tiling.axis, tiling.window), (axis, 7))

  def test_of_unknown_lengths_it_is_the_same(self):
    def fields(tiling):
      return [tf.cast(value, tf.int64) for value in (
        tiling.count, tiling.before, tiling.after, tiling.first, tiling.step, tiling.window,
        tiling.axis.input, tiling.axis.output, tiling.axis.pad,
      )]  # fmt: skip

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
    def unknown(n, o):
      return fields(tiles.of_output(Axis(n, o, 3, 2, 2, 2), 2))

    for n, o in itertools.product((1, 5, 8), (3, 4, 5)):
      known = fields(tiles.of_output(Axis(n, o, 3, 2, 2, 2), 2))
      self.assertEqual([int(f) for f in unknown(n, o)], [int(f) for f in known])


class SamplesTest(absltest.TestCase):
  def test_they_are_the_largest_divisor_of_the_batch_that_fits_none_where_all_do(self):
    for batch, held, budget in itertools.product(range(1, 37), range(1, 8), range(1, 40)):
      samples = tiles.samples_within(batch, held, budget)
      fitting = [d for d in range(1, batch + 1) if batch % d == 0 and d * held <= budget]
      expected = max(fitting, default=1)  # one has to do
      self.assertEqual(batch if samples is None else samples, expected, (batch, held, budget))

  def test_an_empty_batch_or_samples_of_nothing_are_all_at_once(self):
    self.assertIsNone(tiles.samples_within(0, 8, 64))
    self.assertIsNone(tiles.samples_within(64, 0, 64))


class LoopsTest(parameterized.TestCase):
  def test_read_gives_the_windows_of_the_padded_tensor(self):
    for cut in (tiles.of_result, tiles.of_output):
      axis = Axis(9, 6, 3, 2, 1, 2)
      tiling = cut(axis, 4)
      length = axis.output if cut is tiles.of_result else axis.input
      tensor = np.arange(1, length + 1, dtype=np.float32)[np.newaxis]
      padded = tiles.pad(tf.constant(tensor), 1, tiling)
      for index, window in enumerate(windows(tiling)):
        expected = [cell + 1 if cell in range(length) else 0 for cell in window]
        for place in (index, tf.constant(index)):
          np.testing.assert_array_equal(tiles.read(padded, 1, tiling, place), [expected])

  def test_all_windows_together_are_those_that_are_read(self):
    for axis in (  # longer than a step by less and by more than one, as long, and shorter
      Axis(11, 11, 3, 1, 1, 1),
      Axis(12, 12, 7, 1, 2, 6),
      Axis(16, 8, 2, 2, 1, 0),
      Axis(13, 5, 1, 3, 1, 0),
      Axis(10, 7, 3, 2, 1, 4),
    ):
      for tile in (2, 3, 4):
        tiling = tiles.of_output(axis, tile)
        tensor = tf.reshape(tf.range(1.0, 6 * axis.input + 1), [2, axis.input, 3])
        padded = tiles.pad(tensor, 1, tiling)
        expected = [tiles.read(padded, 1, tiling, index) for index in range(tiling.count)]
        result = tiles.windows(tensor, 1, tiling)
        np.testing.assert_array_equal(result, tf.stack(expected, 1), str((axis, tile)))

  def test_however_many_windows_there_are_a_few_slices_hold_them(self):
    axis = Axis(60, 60, 3, 1, 1, 1)
    for tile, most in ((2, 9), (4, 9), (10, 9)):
      compute = functools.partial(
        tiles.windows, dimension=1, tiling=tiles.of_output(axis, tile)
      )
      graph = tf.function(compute).get_concrete_function(tf.zeros([2, 60, 3])).graph
      slices = [op for op in graph.get_operations() if "Slice" in op.type]
      self.assertLess(len(slices), most)

  def test_one_tile_reads_the_tensor_itself(self):
    tensor = tf.ones([1, 4])
    tiling = tiles.of_result(Axis(7, 4, 3, 2, 1, 1), None)
    self.assertIs(tiles.pad(tensor, 1, tiling), tensor)
    self.assertIs(tiles.read(tensor, 1, tiling, 0), tensor)

  @parameterized.product(count=(1, 2, 5), way=("known", "unknown", "compiled"))
  def test_tiles_are_stacked_put_and_added_up(self, count, way):
    is_compiled = way == "compiled"

    def tile(index):
      return tf.cast(index, tf.float32) + tf.constant([1.0, 10.0])

    def call(size):
      size = size if way == "unknown" else count
      update_slice = private.update_slice() if is_compiled else None
      results = [tiles.map(tile, size, tf.float32), tiles.sum(tile, size, tf.zeros([2]))]
      if update_slice is not None:
        begin = lambda index: tf.stack([2 * tf.cast(index, tf.int64)])  # noqa: E731
        results.append(tiles.put(tile, size, update_slice, begin, tf.zeros([2 * count + 1])))
      return results

    stacked, total, *put = tf.function(call, jit_compile=is_compiled, autograph=False)(
      tf.constant(count)
    )
    expected = np.arange(count, dtype=np.float32)[:, np.newaxis] + np.float32([1, 10])
    np.testing.assert_array_equal(stacked, expected)
    np.testing.assert_array_equal(total, expected.sum(0))
    for result in put:
      np.testing.assert_array_equal(result, [*expected.reshape(-1), 0])

  @parameterized.product(samples=(None, 1, 2), tile=(None, 1, 2, 4), batch=("known", "unknown"))
  def test_parts_added_up_are_every_sample_and_tile_once(self, samples, tile, batch):
    depth = tiles.of_output(Axis(6, 4, 3, 1, 1, 0), tile)

    def added(size):
      compute = lambda sample, tile: tf.stack([  # noqa: E731
        tf.one_hot(sample, 6), tf.one_hot(tile, 6)
      ])  # fmt: skip
      batch_size = 6 if batch == "known" else size
      self.assertEqual(
        tf.get_static_value(tiles.parts(6, samples, depth)), 6 // (samples or 6) * depth.count
      )
      return tiles.sum_of_parts(compute, batch_size, samples, depth, tf.zeros([2, 6]))

    firsts, of_depth = tf.function(added, autograph=False)(tf.constant(6)).numpy()
    each, step = depth.count, samples or 6
    np.testing.assert_array_equal(firsts, [each * (n % step == 0) for n in range(6)])
    np.testing.assert_array_equal(of_depth, [6 // step * (n < each) for n in range(6)])



class EvenTest(absltest.TestCase):
  def test_the_largest_divisor_near_or_the_least_with_as_few_tiles(self):
    self.assertEqual(tiles.even(24, 7), 6)
    self.assertEqual(tiles.even(24, 12), 12)
    self.assertEqual(tiles.even(13, 10), 7)
    self.assertEqual(tiles.even(23, 10), 8)
    self.assertEqual(tiles.even(26, 6, step=2), 5)
    self.assertEqual(tiles.even(24, 4, step=2), 4)
    self.assertEqual(tiles.even(24, 5, step=2), 4)


if __name__ == "__main__":
  absltest.main()
