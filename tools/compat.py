"""Runs the test suite against several TensorFlows and writes the table in docs/compatibility.md.

  python tools/compat.py                   2.16, 2.18, 2.20 and 2.21, on Pythons from old to new
  python tools/compat.py 2.16 2.21:3.11    these, the second one on Python 3.11

Each gets an environment of its own, `.venv-tf2.16-py3.9` for one. The Pythons are those at hand:
on the PATH, pyenv's, and the one that runs this. Lines of the table whose TensorFlow and Python
are not run again stay. The exit status is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"

# The Pythons that each has wheels for, the oldest and the newest minor version.
WHEELS = {"2.16": (9, 12), "2.18": (9, 12), "2.20": (9, 13), "2.21": (10, 13)}

_START, _END = "<!-- compat: written by `make compat` -->\n", "<!-- /compat -->"
_COLUMNS = ("TensorFlow", "Python", "NumPy", "Keras", "passed", "skipped", "failed")
_ASK_VERSIONS = """
import os, platform
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy, tensorflow
print(tensorflow.__version__, platform.python_version(), numpy.__version__, keras.__version__)
"""


@dataclasses.dataclass(frozen=True)
class Run:
  """A TensorFlow and the Python to run it on, as `2.16` and `3.9`."""

  tensorflow: str
  python: str

  @property
  def folder(self) -> str:
    """The environment's folder."""
    return f".venv-tf{self.tensorflow}-py{self.python}"


def main(arguments: list[str]) -> int:
  """Runs what the command line names and returns the exit status."""
  options = _parse(arguments)
  failed = 0
  for run in _runs(options.versions):
    row = _perform(run, shlex.split(options.pytest_args))
    _write(row)
    failed += int(row[-1])
    print(f"compat: {', '.join(map(' '.join, zip(_COLUMNS, row)))}", flush=True)
  return int(failed > 0)


def _parse(arguments: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("versions", nargs="*", metavar="TENSORFLOW[:PYTHON]", default=list(WHEELS))
  parser.add_argument("--pytest-args", default="", help="arguments of pytest, as one string")
  options = parser.parse_args(arguments)
  unknown = [each for each in options.versions if each.partition(":")[0] not in WHEELS]
  if unknown:
    parser.error(f"TensorFlow must be one of {', '.join(WHEELS)}, got {', '.join(unknown)}")
  return options


def _runs(versions: Iterable[str]) -> list[Run]:
  """Returns the runs; where no Python is named, the older TensorFlow gets the older Python."""
  runs = []
  for text in versions:
    tensorflow, _, python = text.partition(":")
    if not python:
      python = _python_for(tensorflow)
    elif python not in _pythons():
      raise SystemExit(f"compat: no Python {python} at hand, only {', '.join(_pythons())}")
    runs.append(Run(tensorflow, python))
  return runs


def _python_for(tensorflow: str) -> str:
  oldest, newest = WHEELS[tensorflow]
  usable = [name for name in _pythons() if oldest <= int(name.partition(".")[2]) <= newest]
  if not usable:
    raise SystemExit(
      f"compat: TensorFlow {tensorflow} has wheels for Python 3.{oldest} to 3.{newest}, "
      f"at hand are {', '.join(_pythons())}"
    )
  return usable[round(list(WHEELS).index(tensorflow) / (len(WHEELS) - 1) * (len(usable) - 1))]


@functools.cache
def _pythons() -> dict[str, str]:
  """Returns the interpreters at hand by version, from old to new."""
  minors = range(min(low for low, _ in WHEELS.values()), max(new for _, new in WHEELS.values()) + 1)
  pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
  found = {}
  for minor in minors:
    candidates = [sys.executable, shutil.which(f"python3.{minor}")]
    candidates += map(str, sorted(pyenv.glob(f"3.{minor}.*/bin/python")))
    for candidate in filter(None, candidates):
      if _version_of(candidate) == f"3.{minor}":
        found[f"3.{minor}"] = candidate
        break
  return found


def _version_of(python: str) -> str | None:
  """Returns the version of an interpreter, None if it does not run (as some of pyenv's shims)."""
  program = "import sys; print('%d.%d' % sys.version_info[:2])"
  answer = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
  return answer.stdout.strip() if answer.returncode == 0 else None


def _perform(run: Run, pytest_args: list[str]) -> tuple[str, ...]:
  """Sets up an environment, runs the tests there and returns the line of the table."""
  package = "tensorflow-cpu" if sys.platform == "linux" and os.uname().machine == "x86_64" else (
    "tensorflow"
  )
  subprocess.run(
    ["make", f"{run.folder}/.has-test", f"VENV={run.folder}", f"PYTHON={_pythons()[run.python]}",
     f"TF_PACKAGE={package}=={run.tensorflow}.*"],
    cwd=ROOT,
    check=True,
  )  # fmt: skip
  python = str(ROOT / run.folder / "bin" / "python")
  versions = subprocess.run(
    [python, "-c", _ASK_VERSIONS], capture_output=True, text=True, check=True
  ).stdout.split()
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "results.xml")
    subprocess.run(
      [python, "-m", "pytest", f"--junit-xml={path}", *pytest_args], cwd=ROOT, check=False
    )
    if not path.exists():
      raise SystemExit(f"compat: pytest gave no results in {run.folder}")
    return (*versions, *map(str, _counts(path)))


def _counts(path: pathlib.Path) -> tuple[int, int, int]:
  """Returns how many tests passed, were skipped and failed."""
  totals = {"tests": 0, "skipped": 0, "failures": 0, "errors": 0}
  for suite in ElementTree.parse(path).getroot().iter("testsuite"):
    for name in totals:
      totals[name] += int(suite.get(name, 0))
  failed = totals["failures"] + totals["errors"]
  return totals["tests"] - totals["skipped"] - failed, totals["skipped"], failed


def _write(row: tuple[str, ...]) -> None:
  """Puts a line into the page's table, in the place of the one of the same versions."""
  text = PAGE.read_text(encoding="utf-8")
  before, start, rest = text.partition(_START)
  old, end, after = rest.partition(_END)
  if not (start and end):
    raise SystemExit(f"compat: {PAGE.name} lacks the lines {_START.strip()} and {_END}")
  rows = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in old.splitlines()]
  rows = [each for each in rows if len(each) == len(_COLUMNS) and each[0][:1].isdigit()]
  kept = [each for each in rows if _key(each) != _key(row)]
  lines = [_COLUMNS, ("---",) * len(_COLUMNS), *sorted([*kept, row], key=_key)]
  table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
  PAGE.write_text(before + start + table + end + after, encoding="utf-8")


def _key(row: tuple[str, ...]) -> list[list[int]]:
  """Returns TensorFlow's and Python's version, without the patch level."""
  return [[int(number) for number in re.findall(r"\d+", cell)[:2]] for cell in row[:2]]


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
