"""Mutates modules and runs the tests that could know: which changes does no test notice?

    python tools/mutants.py tf_conv3d_grad/problem/geometry.py
    make mutants MODULES='tf_conv3d_grad/problem/axis.py tf_conv3d_grad/lowering/tiles.py' SAMPLE=20

Cosmic Ray makes the mutants. Each runs in a fork of this process, which has imported TensorFlow but
not the package: so it takes what its tests take, mostly 1 to 30 seconds, and no file is changed.
Processes that tests start have the module as it is. A module has some hundred mutants: `--sample`
runs so many of each, drawn at random, the same each time. Survivors are printed as diffs.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.abc
import importlib.util
import linecache
import os
import pathlib
import random
import re
import signal
import sys
import time
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

import pytest
import tensorflow as tf
from cosmic_ray import mutating, plugins
from cosmic_ray.ast import ast_nodes, get_ast

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The tests that could know, besides those of the module's and its folder's name. A class that is
# named runs with all of its parameters; a file with the sample of them that `make test` runs.
_COSTS = ["cost_test", "offers_test", "policy_test"]
_TESTS = {
  "problem/axis.py": ["geometry_test"],
  "problem/definition.py": ["axis_test"],
  "arguments/validation.py": ["validation_test"],
  "arguments/checks.py": ["validation_test", "known_values_test"],
  "planning/policy.py": ["cost_test", "registration_test"],
  "planning/tuning_file.py": ["autotune_test"],
  "execution/execute.py": ["eager_calls_test", "known_values_test", "compiled_test"],
  "execution/compiled.py": ["eager_calls_test", "threads_test"],
  "execution/nonfinite.py": [
    "nonfinite_test::LooksTest", "nonfinite_test::InXlaTest", "nonfinite_test::OtherFunctionsTest",
    "nonfinite_test::TakenApartTest", "nonfinite_test::PairsOfChannelsTest",
  ],  # fmt: skip
  "lowering/accumulation.py": ["accuracy_test"],
  "lowering/flip.py": ["flipped_test", "xla_onednn_test"],
  "lowering/im2col/__init__.py": ["policy_test", "nonfinite_test"],
  "lowering/im2col/costs.py": _COSTS,
  "lowering/im2col/plan.py": ["policy_test", "memory_test"],
  "lowering/kernel/__init__.py": ["policy_test", "known_values_test", "nonfinite_test"],
  "lowering/kernel/costs.py": _COSTS,
  "lowering/kernel/eager.py": ["kernel_test::EagerTest", "eager_calls_test"],
  "lowering/onednn.py": ["kernel_test", "xla_onednn_test"],
  "lowering/overlap_add/__init__.py": ["overlap_add_test::PlansTest", "policy_test", "cost_test"],
  "lowering/overlap_add/columns.py": ["policy_test", "cost_test"],
  "lowering/overlap_add/costs.py": _COSTS,
  "lowering/overlap_add/offers.py": ["policy_test"],
  "lowering/overlap_add/run.py": ["policy_test", "cost_test"],
  "lowering/overlap_add/sums.py": ["policy_test", "cost_test"],
  "lowering/shifts.py": ["im2col_test", "overlap_add_test"],
  "lowering/tiles.py": ["im2col_test", "overlap_add_test"],
  "lowering/xla_onednn/__init__.py": [
    "xla_onednn_test::OffersTest", "policy_test", "nonfinite_test",
  ],  # fmt: skip
  "lowering/xla_onednn/call.py": ["xla_onednn_test::ResultsTest"],
  "lowering/xla_onednn/filter_gradient.py": [
    "xla_onednn_test::ResultsTest", "xla_onednn_test::FilterGradientTest",
    "xla_onednn_test::PlannedTest",
  ],  # fmt: skip
  "lowering/xla_onednn/forward.py": ["xla_onednn_test::ResultsTest"],
  "lowering/xla_onednn/costs.py": _COSTS,
  "ops/call.py": ["eager_calls_test", "known_values_test"],
  "ops/conv3d.py": ["calling_test::SignatureTest", "eager_calls_test", "known_values_test"],
  "ops/conv3d_backprop_filter.py": [
    "calling_test::SignatureTest", "eager_calls_test", "known_values_test",
  ],  # fmt: skip
  "ops/conv3d_backprop_input.py": [
    "calling_test::SignatureTest", "eager_calls_test", "known_values_test",
  ],  # fmt: skip
  "ops/derivatives.py": ["graphs_test", "mixed_derivatives_test"],
  "patching/convolutions.py": ["patch_test"],
  "patching/patch.py": ["registered_gradients_test"],
  "patching/registered_gradients.py": ["patch_test", "graphs_test"],
}
# What changes nothing: what is in annotations only, and comparisons of what there is once.
_NEVER = re.compile(
  "core/ReplaceBinaryOperator_BitOr_|"
  "core/ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot)$"
)
# A fitted constant, which is as good if it is one more.
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*\b.* = ")


def main() -> int:
  """Parses the command line and goes through the modules."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("modules", nargs="+", type=pathlib.Path, help="files of tf_conv3d_grad/")
  parser.add_argument("--sample", type=int, help="mutants of each module; all unless given")
  parser.add_argument("--seed", type=int, default=0, help="draws other mutants")
  options = parser.parse_args()
  os.chdir(ROOT)
  sys.path.insert(0, str(ROOT))
  _ = tf.nn, tf.raw_ops, tf.autodiff  # imported by being named
  for path in options.modules:
    module = path.resolve().relative_to(ROOT)
    _mutate(module, options.sample, random.Random(f"{options.seed} {module}"))
  return 0


def _mutate(module: pathlib.Path, sample: int | None, generator: random.Random) -> None:
  """Mutates one module, and prints which mutants no test notices, and how many are noticed."""
  source = module.read_text(encoding="utf-8")
  tests = _tests(module)
  begun = time.monotonic()
  if _run(module, source, tests, timeout=900):
    raise SystemExit(f"mutants: without a change fails: pytest {' '.join(tests)}")
  timeout = 30 + 5 * (time.monotonic() - begun)
  made = _mutations(source)
  mutants = made if sample is None else generator.sample(made, min(sample, len(made)))
  killed = 0
  for name, occurrence in mutants:
    mutated = mutating.mutate_code(source, plugins.get_operator(name)(), occurrence)
    if _run(module, mutated, tests, timeout):
      killed += 1
      continue
    lines = difflib.unified_diff(source.split("\n"), mutated.split("\n"), str(module), name, n=1)
    print("\n".join(map(str.rstrip, lines)), flush=True)
  print(f"{module}: {killed} of {len(mutants)} mutants killed, {len(made)} there are", flush=True)


def _tests(module: pathlib.Path) -> list[str]:
  """Returns what pytest is to run for a module."""
  found = _TESTS.get(module.relative_to("tf_conv3d_grad").as_posix(), [])
  for name in (module.parent.name, module.stem):
    if (ROOT / "tests" / f"{name}_test.py").exists():
      found = [f"{name}_test", *found]
  if module.parts[1] in ("problem", "lowering", "execution"):
    found = [*found, "differential_test"]  # the last, as it is slow
  if not found:
    raise SystemExit(f"mutants: no test file for {module}: name some in _TESTS")
  files = (test.partition("::") for test in dict.fromkeys(found))
  return [f"tests/{file}.py{separator}{part}" for file, separator, part in files]


def _mutations(source: str) -> list[tuple[str, int]]:
  """Returns the mutants of a module: an operator's name, and which of its places is changed."""
  nodes = list(ast_nodes(get_ast(source)))
  lines = source.splitlines()
  found = []
  for name in plugins.operator_names():
    kind = plugins.get_operator(name)
    if not kind.arguments() and not _NEVER.match(name):
      places = (place for node in nodes for place in kind().mutation_positions(node))
      found += [
        (name, occurrence)
        for occurrence, ((line, _), _) in enumerate(places)
        if not _CONSTANT.match(lines[line - 1])
      ]
  return found


def _run(module: pathlib.Path, source: str, tests: list[str], timeout: float) -> bool:
  """Returns whether tests fail, or take too long, where a module has another source."""
  child = os.fork()
  if not child:
    _run_here(module, source, tests)
  end = time.monotonic() + timeout
  while time.monotonic() < end:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
      return status != 0
    time.sleep(0.02)
  os.killpg(child, signal.SIGKILL)
  os.waitpid(child, 0)
  return True


def _run_here(module: pathlib.Path, source: str, tests: list[str]) -> None:
  """Runs tests and ends the process with their status."""
  os.setpgid(0, 0)
  status = 1
  try:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.meta_path.insert(0, _Importer(module, source))
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "sugar", "xdist")]
    classes = [test for test in tests if "::" in test]
    files = [test for test in tests if "::" not in test]
    status = any(pytest.main(["-q", "-x", *without, *some]) for some in (classes, files) if some)
  finally:
    os._exit(status)


class _Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Imports one module from another source than its file's."""

  def __init__(self, module: pathlib.Path, source: str) -> None:
    parts = module.with_suffix("").parts
    self._is_package = parts[-1] == "__init__"
    self._name = ".".join(parts[:-1] if self._is_package else parts)
    self._path = ROOT / module
    self._source = source

  def find_spec(
    self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
  ) -> ModuleSpec | None:
    del path, target
    if fullname != self._name:
      return None
    folders = [str(self._path.parent)] if self._is_package else None
    return importlib.util.spec_from_file_location(
      fullname, self._path, loader=self, submodule_search_locations=folders
    )

  def exec_module(self, module: types.ModuleType) -> None:
    # AutoGraph converts what is to be found under this name, which is no file's.
    name = f"{self._path} mutated"
    lines = self._source.splitlines(keepends=True)
    linecache.cache[name] = (len(self._source), None, lines, name)
    exec(compile(self._source, name, "exec"), vars(module))


if __name__ == "__main__":
  sys.exit(main())
