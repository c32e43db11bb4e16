"""Tensors moved along their axes, against slices written into zeros."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.lowering import shifts


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


if __name__ == "__main__":
  absltest.main()
