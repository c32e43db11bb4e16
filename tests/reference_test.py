"""The reference of the public names is made of their docstrings; what it says runs."""

import doctest
import inspect

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing

OPS = ("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
# A string has no docstring: the package's says what it is.
NAMES = tuple(name for name in tf_conv3d_grad.__all__ if name != "__version__")


class DocstringsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.addCleanup(tf_conv3d_grad.unpatch_tensorflow)

  @parameterized.parameters(*NAMES)
  def test_its_example_runs(self, name):
    documented = getattr(tf_conv3d_grad, name)
    names = {"tf": tf, "tf_conv3d_grad": tf_conv3d_grad}
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(documented, name, globs=names)
    self.assertNotEmpty(example.examples)
    said = []
    results = doctest.DocTestRunner().run(example, out=said.append)
    self.assertEqual(results.failed, 0, "".join(said))

  @parameterized.parameters(*NAMES)
  def test_it_has_each_parameter(self, name):
    documented = getattr(tf_conv3d_grad, name)
    if inspect.isfunction(documented):
      for parameter in inspect.signature(documented).parameters:
        self.assertRegex(documented.__doc__, rf"(?m)^\s+\**{parameter}: ")

  @parameterized.parameters(*OPS)
  def test_an_op_has_shapes_dtypes_and_errors(self, name):
    text = getattr(tf_conv3d_grad, name).__doc__
    for shape_or_dtype in (
      "[depth, height, width, in_channels / groups, out_channels]",
      *testing.DTYPES,
    ):
      self.assertIn(shape_or_dtype, text)
    _, _, errors = text.partition("Raises:")
    for error in ("InvalidArgumentError", "ResourceExhaustedError", "ValueError", "TypeError"):
      self.assertIn(f"{error}:", errors)

  def test_the_package_names_all_of_them(self):
    for name in tf_conv3d_grad.__all__:
      self.assertIn(f"`{name}`", tf_conv3d_grad.__doc__)


if __name__ == "__main__":
  absltest.main()
