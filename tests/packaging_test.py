"""What is said about the package outside of it: version, licence, Pythons."""

import re

from absl.testing import absltest

import tf_conv3d_grad
from tests import testing


def text_of(name):
  return (testing.ROOT / name).read_text(encoding="utf-8")


class PackagingTest(absltest.TestCase):
  def test_the_version_is_the_same_everywhere(self):
    version = tf_conv3d_grad.__version__
    self.assertIn(f"\nversion: {version}\n", text_of("CITATION.cff"))
    self.assertIn(f'version = "{version}"', text_of("MODULE.bazel"))

  def test_the_pythons_are_those_of_the_makefile(self):
    (pythons,) = re.findall(r"^PYTHON_VERSIONS \?= (.*)$", text_of("Makefile"), re.MULTILINE)
    self.assertEqual(
      re.findall(r"Programming Language :: Python :: (3\.\d+)", text_of("setup.py")),
      pythons.split(),
    )

  def test_the_licence_is_the_same_everywhere(self):
    self.assertIn("\nlicense: Apache-2.0\n", text_of("CITATION.cff"))
    self.assertIn('license_expression="Apache-2.0"', text_of("setup.py"))
    self.assertIn("Apache License", text_of("LICENSE"))


if __name__ == "__main__":
  absltest.main()
