"""Tensors moved along their axes, against slices written into zeros."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests.axes import all_windows, reached
from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.problem.axis import Axis


def placed(array, dimension, before, new_length):
  """Returns `array` with its first cell at `before` of a new dimension, in plain integers."""
  shape = list(array.shape)
  shape[dimension] = new_length
  result = np.zeros(shape, array.dtype)
  for cell in range(array.shape[dimension]):
    if 0 <= cell + before < new_length:
      np.moveaxis(result, dimension, 0)[cell + before] = np.moveaxis(array, dimension, 0)[cell]
  return result


class RefitTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.array = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)

  @parameterized.product(
    before=(-6, -4, -2, 0, 1, 3, 7), new_length=(0, 1, 4, 6), unknown=(False, True)
  )
  def test_one_dimension(self, before, new_length, unknown):
    spec = tf.TensorSpec([2, None, 3] if unknown else [2, 4, 3], tf.float32)
    refit = tf.function(
      lambda tensor, length: shifts.refit(
        tensor, {1: (before, length if unknown else new_length)}
      ),
      input_signature=[spec, tf.TensorSpec([], tf.int64)],
    )
    expected = placed(self.array, 1, before, new_length)
    np.testing.assert_array_equal(refit(self.array, np.int64(new_length)), expected)

  def test_several_dimensions(self):
    result = shifts.refit(tf.constant(self.array), {0: (1, 3), 1: (-1, 2), 2: (-1, 4)})
    expected = placed(placed(placed(self.array, 0, 1, 3), 1, -1, 2), 2, -1, 4)
    np.testing.assert_array_equal(result, expected)

  def test_what_fits_already_is_left_alone(self):
    tensor = tf.constant(self.array)
    self.assertIs(shifts.refit(tensor, {0: (0, 2), 1: (0, 4)}), tensor)


class AxisTest(absltest.TestCase):
  def test_gather_reads_what_each_tap_sees(self):
    for (taps, stride, dilation), n, o, pad in itertools.product(
      all_windows(), (1, 6), (1, 4), range(3)
    ):
      axis = Axis(n, o, taps, stride, dilation, pad)
      tensor = np.arange(1, n + 1, dtype=np.float32)
      expected = np.zeros([taps, o])
      for (cell, tap), place in reached(axis).items():
        expected[tap, cell] = tensor[place]
      np.testing.assert_array_equal(shifts.gather(tf.constant(tensor), 0, axis), expected)

  def test_interleave_joins_phases_and_those_left_out_are_zero(self):
    for stride, n in itertools.product(range(1, 4), range(1, 8)):
      cells = -(-n // stride)
      phases = {r: tf.range(100 * r + 1, 100 * r + 1 + cells) for r in range(0, stride, 2)}
      joined = shifts.interleave(phases, 0, Axis(n, n, 1, stride, 1, 0))
      expected = [0 if i % stride % 2 else 100 * (i % stride) + 1 + i // stride for i in range(n)]
      np.testing.assert_array_equal(joined, expected)


if __name__ == "__main__":
  absltest.main()
