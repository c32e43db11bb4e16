"""What is said of the results of two models."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import saved_models
from tf_conv3d_grad.conversion import comparison, files
from tf_conv3d_grad.conversion.comparison import AGREES, DIFFERS, FAILS, NOT_COMPARED

OPEN = tf.TensorSpec([None, 3], name="values")


def named(function):
  """Returns a function whose result has a name."""
  return lambda values: {"result": function(values)}


class ComparisonTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.addCleanup(comparison._loaded.cache_clear)

  def compare(self, first, second, *specs, dtypes=("float32",)):
    """Compares models of two functions."""
    folders = [saved_models.folder_of(self) / "first", saved_models.folder_of(self) / "second"]
    for function, folder in zip((first, second), folders):
      saved_models.of_function(named(function), folder, *specs or [OPEN])
    (signature,) = comparison.signatures(files.read(folders[0]).meta_graphs[0])
    return comparison.compare(*map(str, folders), signature, 4, dtypes)

  def test_equal_results_agree(self):
    found = self.compare(tf.sin, tf.sin)
    self.assertEqual((found.status, found.error), (AGREES, 0.0))

  @parameterized.parameters(
    (1.0001, ("float32",), AGREES), (1.01, ("float32",), DIFFERS), (1.01, ("float16",), AGREES)
  )
  def test_what_is_allowed_is_that_of_the_coarsest_dtype(self, factor, dtypes, status):
    found = self.compare(tf.identity, lambda values: factor * values, dtypes=dtypes)
    self.assertEqual(found.status, status)
    self.assertAlmostEqual(found.error, factor - 1, delta=1e-6)

  def test_the_output_that_differs_is_named(self):
    found = self.compare(tf.identity, tf.abs)
    self.assertEqual((found.status, found.message), (DIFFERS, "of the output result"))

  def test_infinities_have_their_places(self):
    def some(values):
      return tf.where(values > 0, np.inf, values)

    self.assertEqual(self.compare(some, some).status, AGREES)
    found = self.compare(some, tf.identity)
    self.assertEqual((found.status, found.error), (DIFFERS, np.inf))

  def test_shapes_matter(self):
    self.assertEqual(self.compare(tf.identity, lambda values: values[1:]).status, DIFFERS)

  def test_few_integers_may_differ(self):
    def chosen(values):
      return tf.argmax(values, axis=1)

    self.assertEqual(self.compare(chosen, chosen).status, AGREES)
    found = self.compare(chosen, lambda values: chosen(values) + 1)
    self.assertEqual((found.status, found.error), (DIFFERS, 1.0))

  def test_random_results_are_not_compared(self):
    tf.random.set_seed(None)  # other tests of the process may have set one
    def noisy(values):
      return values + tf.random.normal([2, 3])

    found = self.compare(noisy, noisy)
    self.assertEqual(found.status, NOT_COMPARED)
    self.assertIn("other results each time", found.message)

  def test_a_model_that_does_not_run_is_not_compared(self):
    def wrong(values):
      return tf.reshape(values, [9])

    found = self.compare(wrong, tf.identity)
    self.assertEqual(found.status, NOT_COMPARED)
    self.assertRegex(found.message, "the model does not run: .*reshape.*; converted it does$")
    found = self.compare(tf.identity, wrong)
    self.assertEqual(found.status, FAILS)
    self.assertIn("reshape", found.message)

  @parameterized.parameters(
    (tf.TensorSpec([2], tf.string, "words"), "words is of string, which has no random values"),
    (tf.TensorSpec(None, tf.float32, "any"), "any may have any rank"),
    (tf.TensorSpec([2**20, 2**20], tf.float32, "large"), "large has 1099511627776 values, more"),
  )
  def test_inputs_that_cannot_be_made_are_named(self, spec, message):
    found = self.compare(tf.identity, tf.identity, spec)
    self.assertEqual(found.status, NOT_COMPARED)
    self.assertIn(f"the input {message}", found.message)

  @parameterized.parameters("int32", "bool", "float16", "complex64")
  def test_others_can(self, dtype):
    spec = tf.TensorSpec([None, 4], dtype, "values")
    self.assertEqual(self.compare(tf.identity, tf.identity, spec).status, AGREES)

  def test_an_open_batch_is_2_and_other_lengths_are_as_asked(self):
    each = comparison.Input("values", "float32", (None, None, 3))
    values = comparison._random(np.random.default_rng(0), each, 7)
    self.assertEqual(values.shape, (2, 7, 3))


if __name__ == "__main__":
  absltest.main()
