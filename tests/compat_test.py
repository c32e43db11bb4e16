"""What `make compat` does with the results of its runs; the runs themselves take an hour."""

import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from tools import compat

ROW = ("2.18.1", "3.11.7", "1.26.4", "3.15.1", "2400", "2", "0")


class MatrixTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.page = pathlib.Path(folder.name, "compatibility.md")
    self.page.write_text(f"before\n{compat._START}{compat._END}\nafter\n")
    patch = mock.patch.object(compat, "PAGE", self.page)
    patch.start()
    self.addCleanup(patch.stop)

  def write(self, *rows):
    for row in rows:
      compat._write(row)
    return [line for line in self.page.read_text().splitlines() if line.startswith("| 2")]

  def test_lines_are_sorted_by_version(self):
    lines = self.write(("2.21.0", "3.13.0", *ROW[2:]), ROW, ("2.18.1", "3.9.18", *ROW[2:]))
    self.assertEqual(
      [line.split()[1:4:2] for line in lines],
      [["2.18.1", "3.9.18"], ["2.18.1", "3.11.7"], ["2.21.0", "3.13.0"]],
    )
    self.assertEqual(lines[1], f"| {' | '.join(ROW)} |")

  def test_a_line_takes_the_place_of_the_one_of_the_same_versions(self):
    later = ("2.18.2", "3.11.9", "2.0.1", "3.16.0", "2500", "1", "3")
    self.assertEqual(self.write(ROW, later), [f"| {' | '.join(later)} |"])

  def test_the_rest_of_the_file_stays(self):
    self.write(ROW)
    self.assertRegex(self.page.read_text(), r"(?s)^before\n<!--.*-->\n\| TensorF.*-->\nafter\n$")


class CountsTest(absltest.TestCase):
  def test_errors_are_failures_and_what_is_left_passed(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "results.xml")
      path.write_text(
        '<testsuites><testsuite tests="10" skipped="2" failures="1" errors="3"/></testsuites>'
      )
      self.assertEqual(compat._counts(path), (4, 2, 4))


class PythonsTest(parameterized.TestCase):
  @parameterized.parameters(
    ((9, 10, 11, 12, 13), ("3.9", "3.10", "3.12", "3.13")),
    ((11,), ("3.11",) * 4),
    ((10, 12), ("3.10", "3.10", "3.12", "3.12")),
  )
  def test_the_older_tensorflow_runs_on_the_older_python(self, minors, expected):
    at_hand = {f"3.{minor}": "python" for minor in minors}
    with mock.patch.object(compat, "_pythons", lambda: at_hand):
      runs = compat._runs(compat.WHEELS)
    self.assertEqual(tuple(run.python for run in runs), expected)
    self.assertEqual(runs[0].folder, f".venv-tf2.16-py{expected[0]}")

  def test_one_without_wheels_is_refused(self):
    with mock.patch.object(compat, "_pythons", lambda: {"3.13": "python"}):
      with self.assertRaisesRegex(SystemExit, "2.16 has wheels for Python 3.9 to 3.12, at hand"):
        compat._runs(["2.16"])
      with self.assertRaisesRegex(SystemExit, "no Python 3.10 at hand, only 3.13"):
        compat._runs(["2.21:3.10"])

  def test_one_of_those_at_hand_runs_this(self):
    self.assertIn(compat._version_of(compat.sys.executable), compat._pythons())


if __name__ == "__main__":
  absltest.main()
