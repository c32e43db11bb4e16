"""Layouts: where dimensions are, and what it takes to move them."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.problem.layout import (
  CHANNELS_FIRST,
  CHANNELS_LAST,
  NCDHW,
  NDHWC,
  OF_DATA_FORMAT,
  rearranged,
)

LAYOUTS = (CHANNELS_LAST, CHANNELS_FIRST, OF_DATA_FORMAT[NCDHW])


class LayoutTest(parameterized.TestCase):
  def test_data_formats_spell_their_order(self):
    for name, order in ((NDHWC, "NDHWC"), (NCDHW, "NCDHW")):
      self.assertEqual("".join(OF_DATA_FORMAT[name].arranged("N", "DHW", "C")), order)
    self.assertEqual("".join(CHANNELS_FIRST.arranged("N", "DHW", "C")), "CNDHW")

  @parameterized.parameters(*LAYOUTS)
  def test_what_is_arranged_is_split_into_what_it_was(self, *layout):
    layout = type(CHANNELS_LAST)(*layout)
    self.assertEqual(layout.split(layout.arranged(7, [1, 2, 3], 9)), (7, [1, 2, 3], 9))

  def test_every_cell_arrives(self):
    for given, wanted in itertools.product(LAYOUTS, repeat=2):
      for sizes in ((2, (3, 4, 5), 6), (1, (3, 4, 5), 6), (2, (1, 1, 1), 6), (2, (3, 4, 5), 1)):
        tensor = tf.reshape(tf.range(np.prod(np.hstack(sizes))), given.arranged(*sizes))
        moved = rearranged(tensor, given, wanted)
        self.assertEqual(moved.shape.as_list(), wanted.arranged(*sizes))
        plain = tf.transpose(tensor, [given[0], *given[1], given[2]])
        back = tf.transpose(moved, [wanted[0], *wanted[1], wanted[2]])
        np.testing.assert_array_equal(plain, back)

  def test_dimensions_of_one_cell_move_without_a_transposition(self):
    with tf.Graph().as_default() as graph:
      rearranged(tf.zeros([1, 3, 4, 5, 6]), CHANNELS_LAST, OF_DATA_FORMAT[NCDHW])
      self.assertIn("Transpose", {op.type for op in graph.get_operations()})
    with tf.Graph().as_default() as graph:
      rearranged(tf.zeros([2, 3, 4, 5, 1]), CHANNELS_LAST, OF_DATA_FORMAT[NCDHW])
      self.assertNotIn("Transpose", {op.type for op in graph.get_operations()})


if __name__ == "__main__":
  absltest.main()
