"""One case, several contestants, in turns: every round asks each of them for one sample."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import expected, problem, sampling
from benchmarks.workers import Worker, WorkerError, Workers
from tf_conv3d_grad.conformance.case import Case

# Who takes this many times as long as each is given is ten times slower than the rest: fewer do.
_LONG = 3


@dataclasses.dataclass(frozen=True)
class Pace:
  """How long a race may take.

  Attributes:
    seconds: How long each contestant is sampled on each case.
    least: The fewest samples, unless they take `_LONG` times as long, and
    most: the most.
    hopeless_s: From here on one call is enough: the first, with what compilation it includes.
    patience_s: When to give up on a call.
  """

  seconds: float = 0.2
  least: int = 3
  most: int = 15
  hopeless_s: float = 6
  patience_s: float = 60


QUICK = Pace(seconds=0.1, most=5, hopeless_s=3, patience_s=15)


def race(
  case: Case, contestants: Sequence[str], workers: Workers, pace: Pace
) -> dict[str, dict[str, Any]]:
  """Returns what came of each contestant, as JSON can hold it.

  Args:
    case: The case.
    contestants: Names as worker/what.
    workers: Where the contestants run.
    pace: How long it may take.

  Returns:
    By contestant: why it `failed` (refused, crashed, is absent); or `median_s`, the median seconds
    of a call, with `first_s`, the first call's, and `error`, the relative error of its result.
  """
  with tempfile.TemporaryDirectory(prefix="conv3d_bench_") as name:
    folder = pathlib.Path(name)
    expected.save(case, problem.save_tensors(case, folder), folder)
    runners = [_Runner(name, case, folder, workers, pace) for name in contestants]
    for runner in runners:
      runner.prepare()
    order = random.Random(str(case))  # one order for all would favour the same ones in each
    while any(runner.wants_more for runner in runners):
      # Whoever comes after another program's turn has it harder: not always the same one.
      order.shuffle(runners)
      for runner in runners:
        if runner.wants_more:
          runner.sample()
    workers.forget_tensors()
  by_name = {runner.name: runner.outcome() for runner in runners}
  return {name: by_name[name] for name in contestants}


class _Runner:
  """One contestant in one race."""

  def __init__(
    self, name: str, case: Case, folder: pathlib.Path, workers: Workers, pace: Pace
  ) -> None:
    self.name = name
    self._worker_name, self._contestant = name.split("/")
    self._case, self._folder, self._workers, self._pace = case, folder, workers, pace
    self._worker: Worker | None = None
    self._first: dict[str, float] = {}
    self._samples: list[float] = []
    self._failed: str | None = None

  @property
  def wants_more(self) -> bool:
    """Whether it is to be sampled again."""
    if self._failed or self._is_hopeless or len(self._samples) >= self._pace.most:
      return False
    total_s = sum(max(sample, sampling.SAMPLE_S) for sample in self._samples)
    enough_s = self._pace.seconds * (1 if len(self._samples) >= self._pace.least else _LONG)
    return total_s < enough_s

  @property
  def _is_hopeless(self) -> bool:
    return self._first.get("first_s", 0) >= self._pace.hopeless_s

  def prepare(self) -> None:
    """Makes the first call, whose result is checked."""
    worker = self._workers.get(self._worker_name)
    if worker is None:
      self._failed = f"absent: {self._workers.absent[self._worker_name]}"
      return
    self._worker = worker
    if worker.folder != self._folder:
      self._ask("load", folder=str(self._folder), problem=problem.describe(self._case))
      worker.folder = self._folder
    answer = self._ask("prepare", contestant=self._contestant)
    self._first = self._first or answer

  def sample(self) -> None:
    """Takes one sample."""
    if self._workers.get(self._worker_name) is not self._worker:
      self.prepare()  # a rival in the same program has brought it down
      if self._failed:
        return
    expected_s = min(self._samples, default=self._first["first_s"])
    calls = sampling.calls_of(expected_s) if self._samples else 1
    answer = self._ask(
      "sample",
      contestant=self._contestant,
      calls=calls,
      expected_s=expected_s,
    )
    if answer:
      self._samples.append(answer["seconds"])

  def outcome(self) -> dict[str, Any]:
    """Returns what came of it, as JSON can hold it."""
    if self._failed:
      return {"failed": self._failed}
    samples = [self._first["first_s"]] if self._is_hopeless else self._samples
    return {"median_s": statistics.median(samples), **self._first}

  def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
    """Returns the answer; a failure is remembered, and the answer then empty."""
    try:
      answer = self._worker.ask(do, self._pace.patience_s, **arguments)
    except WorkerError as error:
      self._workers.drop(self._worker_name)
      answer = {"failed": str(error)}
    self._failed = self._failed or answer.pop("failed", None)
    return {} if self._failed else answer
