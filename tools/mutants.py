"""Mutates modules and runs the tests that could know: which changes does no test notice?

    python tools/mutants.py tf_conv3d_grad/problem/geometry.py
    make mutants MODULES='tf_conv3d_grad/problem/axis.py tf_conv3d_grad/lowering/tiles.py'

Cosmic Ray makes the mutants, one at a time and in place: leave the checkout alone meanwhile. A
mutant takes the time of its tests, some 5 to 60 seconds. Survivors are printed as diffs.
"""

from __future__ import annotations

import argparse
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FOLDER = ROOT / ".build" / "mutants"

# The tests that could know, besides the one of the module's name.
_TESTS = {
  "problem/axis.py": ["geometry_test"],
  "problem/definition.py": ["axis_test"],
  "arguments/validation.py": ["calling_test", "known_values_test"],
  "arguments/checks.py": ["calling_test", "known_values_test"],
  "execution/execute.py": ["known_values_test", "compiled_test"],
  "execution/eager_calls.py": ["calling_test"],
  "lowering/overlap_add/run.py": ["overlap_add_test"],
  "lowering/overlap_add/columns.py": ["overlap_add_test"],
  "lowering/overlap_add/sums.py": ["overlap_add_test"],
  "lowering/overlap_add/offers.py": ["policy_test", "overlap_add_test"],
  "lowering/overlap_add/costs.py": ["policy_test"],
  "lowering/kernel/run.py": ["kernel_test"],
  "lowering/kernel/__init__.py": ["kernel_test", "policy_test", "known_values_test"],
  "ops/derivatives.py": ["graphs_test"],
}

_CONFIG = """\
[cosmic-ray]
module-path = "{module}"
timeout = {timeout}
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
# What follows from annotations and docstrings only.
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""


def main() -> int:
  """Parses the command line and goes through the modules."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("modules", nargs="+", type=pathlib.Path, help="files of tf_conv3d_grad/")
  parser.add_argument("--timeout", type=float, default=120, help="seconds a mutant may take")
  options = parser.parse_args()
  for module in options.modules:
    _mutate(module.resolve().relative_to(ROOT), options.timeout)
  return 0


def _mutate(module: pathlib.Path, timeout: float) -> None:
  """Mutates one module, and prints how many mutants no test notices, and which."""
  name = module.relative_to("tf_conv3d_grad").as_posix()
  tests = [f"tests/{test}.py" for test in (f"{module.stem}_test", *_TESTS.get(name, []))]
  tests = [test for test in dict.fromkeys(tests) if (ROOT / test).exists()]
  if not tests:
    raise SystemExit(f"mutants: no test file for {module}: name some in _TESTS")
  python = shlex.quote(sys.executable)
  command = f"{python} -m pytest -q -x -n 0 -p no:cacheprovider {' '.join(tests)}"
  _FOLDER.mkdir(parents=True, exist_ok=True)
  config = _FOLDER / f"{name.replace('/', '.')}.toml"
  config.write_text(_CONFIG.format(module=module, timeout=timeout, command=command))
  session = config.with_suffix(".sqlite")
  session.unlink(missing_ok=True)
  for step in (
    ["cosmic-ray", "init", config, session],
    ["cr-filter-operators", session, config],
    ["cosmic-ray", "baseline", config],
    ["cosmic-ray", "exec", config, session],
    ["cr-report", "--surviving-only", "--show-diff", session],
  ):
    program, *arguments = map(str, step)
    bin_folder = pathlib.Path(sys.executable).parent
    subprocess.run([str(bin_folder / program), *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
  sys.exit(main())
