"""Cases run one after the other, in this process or in children.

`python -m tf_conv3d_grad.cli.check_runs` is the child.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from tf_conv3d_grad.cli import children
from tf_conv3d_grad.cli.check_results import Result
from tf_conv3d_grad.conformance import differential
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.differential import Report

_Problems = Sequence[tuple[Case, int]]


def run_here(problems: _Problems, ways: Sequence[str]) -> Iterator[Result]:
  """Runs cases in this process; yields their results in order.

  Args:
    problems: Cases with the seeds of their tensors.
    ways: The ways of calling.
  """
  for case, seed in problems:
    start = time.perf_counter()
    report = differential.run(case, seed, ways=ways)
    yield Result(report, time.perf_counter() - start)


def run_in_children(
  problems: _Problems, ways: Sequence[str], per_process: int
) -> Iterator[Result]:
  """Runs cases in child processes; one that ends its process has failed.

  Args:
    problems: Cases with the seeds of their tensors.
    ways: The ways of calling.
    per_process: How many cases a process runs at most.
  """
  requests = [{"case": str(case), "seed": seed, "ways": ways} for case, seed in problems]
  answers = children.ask(requests, ("-m", "tf_conv3d_grad.cli.check_runs"), most=per_process)
  for (case, seed), answer in zip(problems, answers):
    if isinstance(answer, children.Ended):
      yield Result(_report_of_death(case, seed, ways, str(answer)), 0.0, died=True)
    else:
      yield Result(_from_json(answer["report"]), answer["seconds"])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
  problem = Case.parse(request["case"]), request["seed"]
  (result,) = run_here([problem], request["ways"])
  return {
    "report": {**vars(result.report), "case": str(result.report.case)},
    "seconds": result.seconds,
  }


def _from_json(fields: dict[str, Any]) -> Report:
  fields["case"] = Case.parse(fields["case"])
  for name in ("failures", "failed_ways"):
    fields[name] = tuple(fields[name])
  return Report(**fields)


def _report_of_death(case: Case, seed: int, ways: Sequence[str], reason: str) -> Report:
  return Report(
    case=case,
    seed=seed,
    errors=dict.fromkeys(ways, float("inf")),
    tolerance=differential.TOLERANCE["float32"],
    raw_route="absent",
    raw_error=None,
    failures=(f"the process ended: {reason}",),
    failed_ways=tuple(ways),
  )


if __name__ == "__main__":
  children.serve(_answer)
