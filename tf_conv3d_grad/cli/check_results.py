"""What a check found: as a table, as JSON and as JUnit's XML."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from rich import box
from rich.table import Table

from tf_conv3d_grad.conformance.case import DTYPES
from tf_conv3d_grad.conformance.differential import Report
from tf_conv3d_grad.conformance.direction import DIRECTIONS, Direction

_SUITE = "tf_conv3d_grad"


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of one case.

  Attributes:
    report: The case's.
    seconds: What it took.
    smallest: The report of the smallest case found that fails alike; None if it passed.
    died: Whether it ended the process that ran it.
  """

  report: Report
  seconds: float
  smallest: Report | None = None
  died: bool = False

  @property
  def error(self) -> float:
    """The worst relative error of any way of calling."""
    return max(self.report.errors.values(), default=0.0)


def table(results: Sequence[Result]) -> Table:
  """Returns a table of the worst errors, measured by what is allowed of the case.

  One row is a direction and a dtype.
  """
  content = Table(title="Worst relative error in the 2-norm", title_justify="left",
                  box=box.SIMPLE_HEAD)  # fmt: skip
  for heading in ("dir", "dtype", "cases", "failed", "error", "allowed", "case"):
    justify: Any = "left" if heading in ("dir", "dtype", "case") else "right"
    content.add_column(heading, justify=justify, overflow="fold")
  for (direction, dtype), of_kind in _by_kind(results).items():
    result = _worst(of_kind)
    failed = sum(not each.report.passed for each in of_kind)
    content.add_row(
      direction.name,
      dtype,
      str(len(of_kind)),
      f"[red]{failed}[/]" if failed else "0",
      f"{result.error:.1e}",
      f"{result.report.tolerance:.1e}",
      f"{result.report.case} --seed {result.report.seed}",
    )
  return content


def summary(results: Sequence[Result]) -> str:
  """Returns the verdict, and how TensorFlow's own op took part, in one line."""
  failed = sum(not result.report.passed for result in results)
  routes = collections.Counter(result.report.raw_route for result in results)
  counts = ", ".join(f"{count} {route}" for route, count in sorted(routes.items()))
  return f"{len(results)} cases, {failed} failed; TensorFlow's own op: {counts or 'not called'}"


def write_json(path: str, facts: dict[str, Any], results: Sequence[Result]) -> None:
  """Writes everything; what is not finite is null."""
  worst: dict[str, Any] = {}
  for (direction, dtype), of_kind in _by_kind(results).items():
    result = _worst(of_kind)
    worst.setdefault(direction.op, {})[dtype] = {
      "error": finite(result.error),
      "tolerance": result.report.tolerance,
      "case": str(result.report.case),
      "seed": result.report.seed,
    }
  content = {
    "machine": facts,
    "cases": len(results),
    "failed": sum(not result.report.passed for result in results),
    "worst": worst,
    "results": [
      {
        **_fields(result.report),
        "seconds": round(result.seconds, 4),
        "smallest": result.smallest and _fields(result.smallest),
      }
      for result in results
    ],
  }
  with open(path, "w", encoding="utf-8") as file:
    json.dump(content, file, indent=2, allow_nan=False)


def write_junit_xml(path: str, facts: dict[str, Any], results: Sequence[Result]) -> None:
  """Writes a test suite with a test case for each case."""
  suite = ElementTree.Element(
    "testsuite",
    name=_SUITE,
    tests=str(len(results)),
    failures=str(sum(not result.report.passed for result in results)),
    errors="0",
    skipped="0",
    time=f"{sum(result.seconds for result in results):.3f}",
  )
  properties = ElementTree.SubElement(suite, "properties")
  for name, value in facts.items():
    ElementTree.SubElement(properties, "property", name=name, value=str(value))
  for result in results:
    report = result.report
    case = ElementTree.SubElement(
      suite,
      "testcase",
      classname=f"{_SUITE}.{report.case.direction.op}.{report.case.dtype}",
      name=f"{report.case} --seed {report.seed}",
      time=f"{result.seconds:.3f}",
    )
    if result.smallest:
      failure = ElementTree.SubElement(case, "failure", message="; ".join(report.failures))
      failure.text = str(result.smallest)
  suites = ElementTree.Element("testsuites")
  suites.append(suite)
  ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _by_kind(results: Sequence[Result]) -> dict[tuple[Direction, str], list[Result]]:
  """Returns the results of each direction and dtype of which there are any."""
  kinds: dict[tuple[Direction, str], list[Result]] = {
    kind: [] for kind in itertools.product(DIRECTIONS.values(), DTYPES.values())
  }
  for result in results:
    kinds[result.report.case.direction, result.report.case.dtype].append(result)
  return {kind: of_kind for kind, of_kind in kinds.items() if of_kind}


def _worst(results: Sequence[Result]) -> Result:
  """Returns the result nearest to its tolerance, or furthest beyond."""
  return max(results, key=_severity)


def _severity(result: Result) -> float:
  # Of all things that can go wrong NaN is the worst, though it compares to nothing.
  error = math.inf if math.isnan(result.error) else result.error
  return error / result.report.tolerance


def _fields(report: Report) -> dict[str, Any]:
  return {
    "case": str(report.case),
    "seed": report.seed,
    "passed": report.passed,
    "errors": {way: finite(error) for way, error in report.errors.items()},
    "tolerance": report.tolerance,
    "tensorflow": report.raw_route,
    "tensorflow_error": finite(report.raw_error),
    "failures": list(report.failures),
    "command": report.command,
  }


def finite(value: float | None) -> float | None:
  """Returns a number that JSON has a form for, None for the others."""
  return value if value is not None and math.isfinite(value) else None
