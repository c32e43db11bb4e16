"""Writes the BUILD files from the sources: one target a file, its imports as dependencies.

  python tools/build_files.py           writes them
  python tools/build_files.py --check   shows what is out of step, and fails if anything is

Needs Python 3.10 or newer and nothing else. What imports do not tell (a test's size, files read
at run time) stands in `ATTRIBUTES`.
"""

from __future__ import annotations

import ast
import difflib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Every folder below these that has Python files gets a BUILD file.
TREES = ("tf_conv3d_grad", "tests", "benchmarks", "examples", "tools")

# Attributes by file, as they stand in the BUILD file. A test is "medium" (five minutes) unless
# said otherwise.
ATTRIBUTES: dict[str, dict[str, str]] = {
  # Minutes each, and `make test` has just run them: under Bazel they are run by name.
  "tests/accuracy_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/calling_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/cli_test.py": {"data": '["//tf_conv3d_grad:__main__"]'},
  "tests/derivatives_test.py": {"size": '"enormous"', "tags": '["manual"]'},
  "tests/differential_test.py": {"size": '"enormous"', "tags": '["manual"]'},
  "tests/distribute_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/determinism_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/docs_test.py": {"tags": '["manual"]'},  # reads README and docs
  "tests/errors_test.py": {
    "size": '"large"',
    "tags": '["manual"]',
    "data": '["//:docs/errors.md"]',
  },
  "tests/extremes_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/fuzz_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/interrupts_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/keras_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/memory_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tests/patch_test.py": {"size": '"large"', "tags": '["manual"]'},
  "tools/errors_table.py": {"testonly": "True"},
  "tf_conv3d_grad/__init__.py": {"visibility": '["//visibility:public"]'},
}

# Packages of the registry that are imported under another name.
PIP_NAMES = {"absl": "absl-py", "PIL": "pillow"}

_HEADER = """\
# Written by tools/build_files.py from the sources. Targets mirror the files one to one; packages
# to be had from pip are named in comments.

load("@rules_python//python:defs.bzl", {rules})

package(default_visibility = ["//:__subpackages__"])
"""


def main(arguments: list[str]) -> int:
  """Writes the BUILD files or, with --check, compares them. Returns the exit status."""
  if arguments not in ([], ["--check"]):
    print(__doc__, file=sys.stderr)
    return 2
  out_of_step = 0
  for path, expected in _build_files().items():
    actual = path.read_text(encoding="utf-8") if path.exists() else ""
    if actual == expected:
      continue
    if not arguments:
      path.write_text(expected, encoding="utf-8")
      print(f"wrote {path.relative_to(ROOT)}")
      continue
    out_of_step += 1
    name = str(path.relative_to(ROOT))
    sys.stdout.writelines(
      difflib.unified_diff(
        actual.splitlines(keepends=True),
        expected.splitlines(keepends=True),
        f"{name} (as it is)",
        f"{name} (by the sources)",
      )
    )
  if out_of_step:
    print(f"{out_of_step} BUILD files are out of step with the sources: make build-files")
  return int(out_of_step > 0)


def _build_files() -> dict[pathlib.Path, str]:
  """Returns the text of every BUILD file by its path."""
  folders = sorted({source.parent for tree in TREES for source in (ROOT / tree).rglob("*.py")})
  return {folder / "BUILD": _build_file(folder) for folder in folders}


def _build_file(folder: pathlib.Path) -> str:
  sources = sorted(folder.glob("*.py"))
  rules = sorted({_rule(source) for source in sources})
  header = _HEADER.format(rules=", ".join(f'"{rule}"' for rule in rules))
  return "\n".join([header, *map(_target, sources)])


def _rule(source: pathlib.Path) -> str:
  if source.name.endswith("_test.py"):
    return "py_test"
  return "py_binary" if _is_script(source) else "py_library"


def _is_script(source: pathlib.Path) -> bool:
  return '\nif __name__ == "__main__":' in source.read_text(encoding="utf-8")


def _target(source: pathlib.Path) -> str:
  rule = _rule(source)
  if rule == "py_test" and "absltest.main()" not in source.read_text(encoding="utf-8"):
    raise SystemExit(f"{source}: without absltest.main() Bazel passes it with no test run")
  attributes = {"name": f'"{_name(source)}"', "srcs": f'["{source.name}"]'}
  if rule != "py_test" and source.is_relative_to(ROOT / "tests"):
    attributes["testonly"] = "True"
  attributes.update(ATTRIBUTES.get(source.relative_to(ROOT).as_posix(), {}))
  lines = [f"    {key} = {value}," for key, value in attributes.items()]
  return "\n".join([f"{rule}(", *lines, *_deps(source), ")", ""])


def _name(source: pathlib.Path) -> str:
  return source.parent.name if source.stem == "__init__" else source.stem


def _label(source: pathlib.Path, seen_from: pathlib.Path) -> str:
  if source.parent == seen_from.parent:
    return f":{_name(source)}"
  folder = source.parent.relative_to(ROOT).as_posix()
  return f"//{folder}" if _name(source) == source.parent.name else f"//{folder}:{_name(source)}"


def _deps(source: pathlib.Path) -> list[str]:
  """Returns the lines of the deps attribute: labels, then packages from pip as comments."""
  labels, packages = set(), set()
  for module in _imports(source):
    dependency = _find(module, source)
    top = module.split(".")[0]
    if dependency is not None:
      labels.add(_label(dependency, source))
    elif top not in sys.stdlib_module_names:
      packages.add(PIP_NAMES.get(top, top))
  labels.discard(_label(source, source))
  if not labels and not packages:
    return []
  by_place = sorted(labels, key=lambda label: (label.startswith("//"), label))
  lines = [f'        "{label}",' for label in by_place]
  lines += [f"        # pip: {package}" for package in sorted(packages, key=str.lower)]
  return ["    deps = [", *lines, "    ],"]


def _imports(source: pathlib.Path) -> list[str]:
  """Returns the dotted names of the modules that a file imports."""
  tree = ast.parse(source.read_text(encoding="utf-8"))
  modules = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      modules += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        package = source.relative_to(ROOT).parts[: -node.level]
        base = ".".join([*package, *filter(None, [base])])
      for alias in node.names:
        name = f"{base}.{alias.name}"
        modules.append(name if _find(name, source) else base)
  return modules


def _find(module: str, seen_from: pathlib.Path) -> pathlib.Path | None:
  """Returns the project's file that a dotted name stands for, if it is the project's."""
  parts = module.split(".")
  # A script finds its neighbours under their bare names.
  for base in (ROOT, seen_from.parent):
    for path in (base.joinpath(*parts).with_suffix(".py"), base.joinpath(*parts, "__init__.py")):
      if path.exists():
        return path
  return None


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
