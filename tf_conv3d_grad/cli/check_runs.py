"""Cases run one after the other, in this process or in children."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tf_conv3d_grad.cli.check_results import Result
from tf_conv3d_grad.conformance import children, differential
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.differential import Report


def run(
  problems: Sequence[tuple[Case, int]], ways: tuple[str, ...], per_process: int
) -> Iterator[Result]:
  """Runs cases; yields their results in order.

  Args:
    problems: Cases with the seeds of their tensors.
    ways: The ways of calling.
    per_process: How many cases this process runs at most. More are run in children, as many in
      each, and a case that ends its process has failed.
  """
  if len(problems) <= per_process:
    yield from (_run(case, seed, ways) for case, seed in problems)
    return
  with children.Children(_run, most=per_process) as processes:
    for case, seed in problems:
      result = processes.call(case, seed, ways)
      yield _died(case, seed, ways, result) if isinstance(result, children.Ended) else result


def _run(case: Case, seed: int, ways: tuple[str, ...]) -> Result:
  start = time.perf_counter()
  report = differential.run(case, seed, ways=ways)
  return Result(report, time.perf_counter() - start)


def _died(case: Case, seed: int, ways: tuple[str, ...], ended: children.Ended) -> Result:
  report = Report(
    case=case,
    seed=seed,
    errors=dict.fromkeys(ways, float("inf")),
    tolerance=differential.TOLERANCE["float32"],
    raw_route="absent",
    raw_error=None,
    failures=(f"the process ended: {ended}",),
    failed_ways=ways,
  )
  return Result(report, 0.0, died=True)
