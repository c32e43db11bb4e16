"""Runs tests of TensorFlow's own, or derived from them, with TensorFlow patched and as it is.

  python tools/foreign_tests.py conv_ops_3d_test.py conv3d_transpose_test.py

The files are given by path, and none is part of this repository: TensorFlow has its own in
`tensorflow/python/kernel_tests/nn_ops`, Microsoft's DirectML plugin has copies in `test/ops`. Each
runs in a process of its own. A line tells of a test that does not pass patched, and how it ends
then. The exit status is 1 if one fails only patched.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
  """Runs the files that the command line names and returns the exit status."""
  options = _parse(arguments)
  if options.child:
    return _run(pathlib.Path(options.child), options.patched)
  worse = 0
  for path in options.files:
    stock = _ask(path, options.timeout, patched=False)
    patched = _ask(path, options.timeout, patched=True)
    passed = sum(outcome == "passed" for outcome in patched.values())
    print(f"{path.name}: {passed} of {len(patched)} pass patched, "
          f"{sum(outcome == 'passed' for outcome in stock.values())} as TensorFlow is")  # fmt: skip
    for test in sorted({*stock, *patched}):
      outcome, before = (ends.get(test, "did not run") for ends in (patched, stock))
      if outcome != "passed" and not outcome.startswith("skipped"):
        only = before == "passed"
        worse += only
        print(f"  {'ONLY PATCHED' if only else 'also as it is'}: {test}: {outcome}")
  return int(bool(worse))


def _parse(arguments: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
  parser.add_argument("files", nargs="*", type=pathlib.Path, help="test files")
  parser.add_argument("--timeout", type=float, default=600, help="seconds for a file, or 600")
  parser.add_argument("--child", help=argparse.SUPPRESS)
  parser.add_argument("--patched", action="store_true", help=argparse.SUPPRESS)
  return parser.parse_args(arguments)


def _ask(path: pathlib.Path, timeout: float, patched: bool) -> dict[str, str]:
  """Returns how each test of a file ends in a process of its own."""
  command = [sys.executable, __file__, "--child", str(path), *(["--patched"] if patched else [])]
  environment = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
  }
  try:
    child = subprocess.run(
      command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    output, end = child.stdout, f"the process ended with {child.returncode}: {child.stderr[-2000:]}"
  except subprocess.TimeoutExpired as expired:
    # Whatever was asked for, it comes as bytes.
    output, end = str(expired.stdout or b"", "utf-8"), f"no end after {timeout:g} s"
  outcomes: dict[str, str] = {}
  for line in output.splitlines():
    if line.startswith("{"):
      outcomes.update(json.loads(line))
  if not outcomes:
    raise SystemExit(f"{path}: no test ran: {end}")
  # A test that began and did not end took the process with it.
  return {test: end if outcome == "began" else outcome for test, outcome in outcomes.items()}


def _run(path: pathlib.Path, patched: bool) -> int:
  """Runs a file's tests in this process and prints a line of JSON as each begins and ends."""
  from absl import flags

  flags.FLAGS.mark_as_parsed()
  specification = importlib.util.spec_from_file_location(path.stem, path)
  if specification is None or specification.loader is None:
    raise SystemExit(f"{path} is no Python file")
  module = importlib.util.module_from_spec(specification)
  sys.modules[path.stem] = module
  specification.loader.exec_module(module)
  with contextlib.ExitStack() as stack:
    if patched:
      import tf_conv3d_grad

      stack.enter_context(tf_conv3d_grad.patch_tensorflow())
    unittest.defaultTestLoader.loadTestsFromModule(module).run(_Outcomes())
  return 0


class _Outcomes(unittest.TestResult):
  """Prints how each test ends."""

  def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
    super().startTest(test)
    self._print(test, "began")

  def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
    self._print(test, "passed")

  def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
    self._print(test, f"skipped: {reason}")

  def addError(self, test: unittest.TestCase, err: tuple) -> None:  # noqa: N802
    self._print(test, f"{err[0].__name__}: {str(err[1])[:300]}")

  addFailure = addError  # noqa: N815

  def _print(self, test: unittest.TestCase, outcome: str) -> None:
    print(json.dumps({test.id(): outcome}), flush=True)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
