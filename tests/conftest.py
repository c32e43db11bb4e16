"""Lets absl's test cases run under pytest as they do under absltest.main(), all or a sample."""

import collections
import hashlib

from absl import flags

# Of the parameters of one test a sample runs so many, unless `testing.sample` says how many, or all
# where a file says that its tests `ARE_QUICK`.
_SAMPLE = 2


def pytest_addoption(parser):
  parser.addoption(
    "--parameters",
    choices=("sample", "all", "rest"),
    help=f"run every test with some {_SAMPLE} of its parameters, with all, or with the others; "
    "with all if tests are named, with a sample if not",
  )


def pytest_configure():
  # absltest reads its flags, for temporary folders among others, and only absltest.main() parses
  # the command line: under pytest it is not absl's to parse, so the defaults hold.
  flags.FLAGS.mark_as_parsed()


def pytest_collection_modifyitems(config, items):
  named = config.option.keyword or any("::" in argument for argument in config.args)
  which = config.getoption("--parameters") or ("all" if named else "sample")
  if which == "all":
    return
  by_test = collections.defaultdict(list)
  for item in items:
    by_test[item.parent.nodeid, _function(item)].append(item)
  kept = set()
  for same in by_test.values():
    count = getattr(same[0].function, "sample", None)
    if getattr(same[0].module, "ARE_QUICK", False):
      count = len(same)
    elif count is not None:
      same.sort(key=_place)
    else:
      count = _SAMPLE
      # By their names' hashes: the same in every run, and no pattern of the parameters.
      same.sort(key=lambda item: hashlib.sha256(item.name.encode()).digest())
    kept.update(same[:count] if which == "sample" else same[count:])
  config.hook.pytest_deselected(items=[item for item in items if item not in kept])
  items[:] = [item for item in items if item in kept]


def _place(item):
  """Returns where the test is among its class's: pytest has them by name."""
  return [*vars(item.cls)].index(item.name)


def _function(item):
  """Returns which function a test is made of: absl makes a method for each of its parameters."""
  return item.function.__qualname__
