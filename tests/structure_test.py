"""What CONTRIBUTING.md says of the folders holds: data flows one way, and every test runs."""

import ast
import pathlib

from absl.testing import absltest

import tf_conv3d_grad
from tests import testing

PACKAGE = pathlib.Path(tf_conv3d_grad.__file__).parent
# Each imports from itself and from those before it only.
FOLDERS = (
  "problem", "tensorflow", "arguments", "lowering", "planning", "execution", "ops", "patching",
  "conversion",
)  # fmt: skip


def imported(path):
  """Returns the package's modules that a file imports, dotted."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tf_conv3d_grad"):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


class FoldersTest(absltest.TestCase):
  def test_there_are_no_others_but_the_support_for_tests_and_commands(self):
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    self.assertEqual(folders, {*FOLDERS, "conformance", "cli"})

  def test_a_folder_imports_from_those_before_it_only(self):
    for place, folder in enumerate(FOLDERS):
      for path in (PACKAGE / folder).rglob("*.py"):
        for module in imported(path):
          _, top, *_ = module.split(".")
          if top not in ("_version", "__version__"):
            self.assertIn(top, FOLDERS[: place + 1], f"{path}: {module}")

  def test_the_policy_and_what_follows_it_know_no_lowering_but_the_exact_one(self):
    for folder in ("planning", "execution", "ops", "patching", "conversion"):
      for path in (PACKAGE / folder).rglob("*.py"):
        for module in imported(path):
          for lowering in ("kernel", "overlap_add", "im2col"):
            self.assertNotIn(f"lowering.{lowering}", module, path)

  def test_each_has_its_row_in_the_map(self):
    text = (testing.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in (*FOLDERS, "conformance", "cli"):
      self.assertIn(f"| `tf_conv3d_grad/{folder}/` |", text)


class TestFilesTest(absltest.TestCase):
  def test_each_runs_something_under_bazel(self):
    for path in (testing.ROOT / "tests").glob("*_test.py"):
      self.assertIn("absltest.main()", path.read_text(encoding="utf-8"), path)


if __name__ == "__main__":
  absltest.main()
