"""What a TensorFlow that was never tested is told, and which ones are said to be tested."""

import warnings
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import testing
from tf_conv3d_grad.tensorflow import versions
from tools import compat


def warned_of(version):
  with mock.patch.object(tf, "__version__", version), warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    versions.warn_if_untested()
  return [str(warning.message) for warning in told]


class VersionsTest(parameterized.TestCase):
  @parameterized.parameters("2.16.1", "2.18.0-rc0", "2.21.0", "2.21.1+nv", "custom")
  def test_a_tested_or_nameless_version_is_told_nothing(self, version):
    self.assertEmpty(warned_of(version))

  @parameterized.parameters("2.15.1", "2.22.0-dev20270101", "3.0.0", "1.15.5")
  def test_any_other_is_told_once_what_was_tested(self, version):
    (message,) = warned_of(version)
    self.assertIn(f"TensorFlow {version} was not tested, only 2.16 to 2.21 were", message)

  def test_those_tested_are_those_of_the_matrix(self):
    named = [tuple(map(int, name.split("."))) for name in compat.WHEELS]
    self.assertEqual((min(named), max(named)), (versions.OLDEST, versions.NEWEST))

  def test_the_import_warns_and_the_ops_work(self):
    child = testing.run_child(["-c", IMPORTS_UNDER_A_NEW_VERSION])
    self.assertEqual(child.stdout.split(), ["1", "8.0"], child.stderr)


IMPORTS_UNDER_A_NEW_VERSION = """
import warnings
import tensorflow as tf
tf.__version__ = "2.99.0"
with warnings.catch_warnings(record=True) as told:
  warnings.simplefilter("always")
  import tf_conv3d_grad
  import tf_conv3d_grad
print(sum("was not tested" in str(warning.message) for warning in told))
result = tf_conv3d_grad.Conv3D(tf.ones([1, 2, 2, 2, 1]), tf.ones([2, 2, 2, 1, 1]), [1] * 5, "VALID")
print(float(result[0, 0, 0, 0, 0]))
"""


if __name__ == "__main__":
  absltest.main()
