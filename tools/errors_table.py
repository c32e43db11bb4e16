"""Writes docs/errors.md: what every malformed call of the tests ends in, here and in TensorFlow.

  python tools/errors_table.py                     all ops
  python tools/errors_table.py Conv3D              its section alone, the others stay

Run it with an interpreter that has TensorFlow. Takes ten minutes an op and more, most of it waiting
for processes that TensorFlow's own op has taken down to start anew.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tensorflow as tf  # noqa: E402

from tests import malformed_calls  # noqa: E402
from tf_conv3d_grad.tensorflow import private  # noqa: E402

# TensorFlow's ops are called in these ways, this package's in all.
_WAYS = ("eager", "traced", "compiled", "nothing known")

_FILE = ROOT / "docs" / "errors.md"
_HEADER = """\
# Malformed calls, and what they end in

`make errors-table` writes this page from the calls of `tests/malformed_calls.py`. Each call is made
in a child process, which may die of it, with TensorFlow {version} and oneDNN {onednn}. Where oneDNN
is {other}, or on another processor, TensorFlow's ops may end in something else. This package's ops
do not.

The first column says how the call differs from a well-formed one. This package's ops are called in
{own_ways} ways:
{own_names}.
TensorFlow's are called in {their_ways} of them.

An entry is the name of the exception, or "result" where there is none. Where the ways differ, each
outcome is followed by its ways. A result may be right: TensorFlow takes some empty tensors, and so
does this package. When an op is called eagerly, `ResourceExhaustedError` says how much is asked for
and how much there is. In graphs that exception is TensorFlow's.
"""
_SECTION = """
## {op}

| | TensorFlow's op | this op |
|---|---|---|
{counts}

| call | TensorFlow's op | this op |
|---|---|---|
{rows}
"""

_DEATHS = {"abort": "**abort**", "SIGSEGV": "**segfault**", "SIGFPE": "**SIGFPE**"}
_CLEAR = ("InvalidArgumentError", "ResourceExhaustedError", "ValueError", "TypeError")


def main() -> int:
  """Makes the calls and writes the tables. Returns the exit status."""
  parser = argparse.ArgumentParser(description="Writes docs/errors.md.")
  parser.add_argument("ops", nargs="*", metavar="OP", help="whose sections; all unless given")
  ops = parser.parse_args().ops or list(malformed_calls.CALLS)
  for op in ops:
    if op not in malformed_calls.CALLS:
      parser.error(f"OP must be among {', '.join(malformed_calls.CALLS)}, got {op}")
  for op in ops:
    section = _section(op)
    sections = {**_sections(), op: section}
    header = _HEADER.format(
      version=tf.__version__,
      onednn="on" if private.onednn_enabled() else "off",
      other="off" if private.onednn_enabled() else "on",
      own_ways=len(malformed_calls.WAYS),
      their_ways=len(_WAYS),
      own_names=", ".join(map(_in_table, malformed_calls.WAYS)),
    )
    written = [sections[each] for each in malformed_calls.CALLS if each in sections]
    _FILE.write_text(header + "".join(written), encoding="utf-8")
    print(f"wrote {op} in docs/errors.md", flush=True)
  return 0


def _sections() -> dict[str, str]:
  """Returns the sections that the file has, by the ops' names."""
  _, *parts = re.split(r"(?m)^\n## ", _FILE.read_text(encoding="utf-8"))
  return {part.partition("\n")[0]: f"\n## {part}" for part in parts}


def _section(op: str) -> str:
  """Makes the calls of an op and returns its section."""
  theirs = {way: _outcomes(malformed_calls.THEIRS, way, op) for way in _WAYS}
  ours = {way: _outcomes(malformed_calls.OURS, way, op) for way in malformed_calls.WAYS}
  both = [
    [outcome for outcomes in by_way.values() for outcome in outcomes.values()]
    for by_way in (theirs, ours)
  ]
  bad = (*_DEATHS.values(), "hang")
  counts = [_row("calls", map(len, both))]
  counts += [_row(text, (outcomes.count(text) for outcomes in both)) for text in bad]
  counts.append(_row("result", (outcomes.count("result") for outcomes in both)))
  counts += [_row(f"`{name}`", (outcomes.count(name) for outcomes in both)) for name in _CLEAR]
  known = (*bad, "result", *_CLEAR)
  counts.append(
    _row("another exception", (sum(o not in known for o in outcomes) for outcomes in both))
  )
  rows = [
    f"| {malformed_calls.in_table(name)} | {_cell(theirs, name)} | {_cell(ours, name)} |"
    for name in malformed_calls.CALLS[op]
  ]
  return _SECTION.format(op=op, counts="\n".join(counts), rows="\n".join(rows))


def _outcomes(whose: str, way: str, op: str) -> dict[str, str]:
  """Returns what each call of an op that can be made in this way ends in, by name."""
  made = malformed_calls.is_made
  calls = [name for name, call in malformed_calls.CALLS[op].items() if made(way, call)]
  with malformed_calls.Maker() as maker:
    outcomes = {name: _in_words(maker.outcome(whose, way, op, name)) for name in calls}
  print(f"{op}, {whose}, {way}: {len(outcomes)} calls", flush=True)
  return outcomes


def _in_words(outcome: dict[str, Any]) -> str:
  if "died" in outcome:
    return _DEATHS.get(outcome["died"], outcome["died"])
  return outcome["exceptions"][0] if outcome["exceptions"] else "result"


def _row(title: str, numbers: Iterable[int]) -> str:
  return f"| {title} | {' | '.join(map(str, numbers))} |"


def _cell(by_way: dict[str, dict[str, str]], name: str) -> str:
  ways: dict[str, list[str]] = {}
  for way, outcomes in by_way.items():
    if name in outcomes:
      ways.setdefault(outcomes[name], []).append(way)
  if len(ways) == 1:
    return next(iter(ways))
  return "; ".join(
    f"{outcome} ({', '.join(map(_in_table, names))})" for outcome, names in ways.items()
  )


def _in_table(way: str) -> str:
  return way.replace(", ", " with ")


if __name__ == "__main__":
  sys.exit(main())
