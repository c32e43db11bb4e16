"""Sizes: the same from integers and from tensors, and integers wherever they are known."""

import itertools
import operator

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.problem import sizes

ARE_QUICK = True

VALUES = (0, 1, 3, 7)
FUNCTIONS = {
  "maximum": sizes.maximum,
  "minimum": sizes.minimum,
  "sum": operator.add,
  "difference": operator.sub,
  "product": operator.mul,
  "quotient": lambda a, b: a // (b + 1),
  "remainder": lambda a, b: a % (b + 1),
}


class KnownTest(absltest.TestCase):
  def test_integers_are_known_tensors_and_nothing_are_not(self):
    self.assertTrue(sizes.is_known())
    self.assertTrue(sizes.is_known(0, 1, 2))
    self.assertFalse(sizes.is_known(0, tf.constant(1), 2))
    self.assertFalse(sizes.is_known(0, None))

  def test_static_has_none_for_what_is_not_known(self):
    self.assertEqual(sizes.static([1, tf.constant(2), 3, tf.constant(0)]), [1, None, 3, None])
    self.assertEqual(sizes.static([]), [])


class ArithmeticTest(parameterized.TestCase):
  @parameterized.parameters(*FUNCTIONS)
  def test_integers_give_integers_and_tensors_the_same(self, name):
    function = FUNCTIONS[name]
    traced = tf.function(function, input_signature=[tf.TensorSpec([], tf.int64)] * 2)
    for a, b in itertools.product(VALUES, repeat=2):
      known = function(a, b)
      self.assertIsInstance(known, int)
      self.assertTrue(sizes.is_known(known))
      for mixed in (traced(a, b), function(a, tf.constant(b, tf.int64)),
                    function(tf.constant(a, tf.int64), b)):  # fmt: skip
        self.assertFalse(sizes.is_known(mixed))
        self.assertEqual(int(mixed), known, (a, b))

  def test_those_of_other_integer_types_are_compared_too(self):
    for dtype in (tf.int32, tf.int64):
      a, b = tf.constant(3, dtype), tf.constant(5, tf.int64)
      self.assertEqual((int(sizes.maximum(a, b)), int(sizes.minimum(a, b))), (5, 3))

  def test_a_size_is_cast_to_what_combines_with_any_other(self):
    self.assertIs(sizes.cast(7), 7)
    cast = sizes.cast(tf.constant(7, tf.int32))
    self.assertEqual((cast.dtype, int(cast)), (tf.int64, 7))


class ShapeTest(absltest.TestCase):
  def test_the_shape_has_integers_where_it_is_known(self):
    found = []

    @tf.function(input_signature=[tf.TensorSpec([2, None, 4, None], tf.float32)])
    def shape(tensor):
      lengths = sizes.shape_of(tensor)
      found.append(sizes.static(lengths))
      return [tf.cast(length, tf.int64) for length in lengths]

    for array in (np.ones([2, 3, 4, 5], np.float32), np.ones([2, 0, 4, 1], np.float32)):
      self.assertEqual([int(length) for length in shape(array)], list(array.shape))
    self.assertEqual(found, [[2, None, 4, None]])

  def test_where_the_rank_is_not_certain_no_operation_counts_on_it(self):
    # TensorFlow's unstacking refuses another rank, before the rule about it does.
    for options, expected in (({}, "Unpack"), ({"is_rank_certain": False}, "Pad")):
      with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tensor = tf.compat.v1.placeholder(tf.float32, [2, None, None])
        lengths = sizes.shape_of(tensor, **options)
        self.assertEqual(session.run(lengths[1:], {tensor: np.ones([2, 3, 5])}), [3, 5])
        kinds = {operation.type for operation in graph.get_operations()}
      self.assertEqual({"Unpack", "Pad"} & kinds, {expected})

  def test_as_a_vector_known_and_unknown_sizes_are_alike(self):
    vector = sizes.as_tensor([2, 3, 4])
    self.assertEqual(vector.dtype, tf.int64)
    np.testing.assert_array_equal(vector, [2, 3, 4])
    mixed = sizes.as_tensor([2, tf.constant(3, tf.int32), tf.constant(4, tf.int64)])
    self.assertEqual(mixed.dtype, tf.int64)
    np.testing.assert_array_equal(mixed, [2, 3, 4])

  def test_of_known_sizes_the_vector_is_a_constant(self):
    with tf.Graph().as_default():
      self.assertEqual(sizes.as_tensor([2, 3]).op.type, "Const")
      self.assertNotEqual(sizes.as_tensor([2, tf.constant(3)]).op.type, "Const")
    self.assertIs(sizes.as_tensor([2, 3, 5]), sizes.as_tensor((2, 3, 5)))


if __name__ == "__main__":
  absltest.main()
