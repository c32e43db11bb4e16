"""The study of first calls: tracing and compiling, of one case and of many shapes in a row."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import cases, expected, problem
from benchmarks.workers import Worker, WorkerError, Workers
from tf_conv3d_grad.conformance.case import Case

# By what the raw op does of itself: how it is called.
SERIES = {"takes": "raw.eager", "refuses": "raw.compiled"}
_PATIENCE_S = 120

Tick = Callable[[str], None]


def run(workers: Workers, quick: bool, tick: Tick) -> dict[str, Any]:
  """Returns the study's figures.

  Args:
    workers: Where to start programs.
    quick: Whether to make do with less.
    tick: Told what is being done, once a step.

  Returns:
    `fresh`: seconds of the first call by case and contestant. `series`: for each of `SERIES` the
    seconds of all first calls in a row by contestant, and how many there were.
  """
  fresh: dict[str, dict[str, Any]] = {}
  for name in cases.FRESH[: 1 if quick else None]:
    fresh[name] = {}
    for contestant in ("op.eager", "op.compiled"):
      tick(f"first call, {contestant} {name}")
      worker = workers.fresh("tf")
      fresh[name][contestant] = _first_call(worker, Case.parse(name), contestant)
      worker.close()
  return {"fresh": fresh, "series": {kind: _series(workers, kind, quick, tick) for kind in SERIES}}


def steps(quick: bool) -> int:
  """Returns how often `run` will tick."""
  return 2 * len(cases.FRESH[: 1 if quick else None]) + len(SERIES) * _length(quick)


def _series(workers: Workers, kind: str, quick: bool, tick: Tick) -> dict[str, Any]:
  """Returns the totals of one series; the two contestants take turns, each in its own process."""
  contestants = ("op.eager", SERIES[kind])
  running = {contestant: workers.fresh("tf") for contestant in contestants}
  seconds = dict.fromkeys(contestants, 0.0)
  for case in shapes(_length(quick), kind == "refuses"):
    tick(f"many shapes the raw op {kind}, {case}")
    for contestant, worker in running.items():
      seconds[contestant] += _first_call(worker, case, contestant)["first_s"]
  for worker in running.values():
    worker.close()
  return {"count": _length(quick), "seconds": seconds}


def shapes(count: int, refused: bool) -> Iterator[Case]:
  """Yields different cases that the raw op takes, or refuses, when called eagerly."""
  rng = np.random.default_rng(0)
  seen = set()
  while len(seen) < count:
    size, taps, stride = int(rng.integers(6, 21)), int(rng.integers(1, 5)), int(rng.integers(1, 3))
    inner, outer = (4 * int(channels) for channels in rng.integers(1, 9, 2))
    unusual: dict[str, Any] = {}
    if refused:
      kinds = (
        {"dtype": "float64", "data_format": "NCDHW"},
        {"dtype": "float64", "dilations": (2, 2, 2)},
        {"groups": 4},
      )
      unusual = kinds[len(seen) % len(kinds)]
    case = Case(
      batch=1,
      input_size=(size,) * 3,
      in_channels=inner,
      out_channels=outer,
      taps=(taps,) * 3,
      strides=(stride,) * 3,
      **{"dilations": (1, 1, 1), **unusual},
    )
    if str(case) not in seen:
      seen.add(str(case))
      yield case


def _first_call(worker: Worker, case: Case, contestant: str) -> dict[str, float]:
  with tempfile.TemporaryDirectory(prefix="conv3d_bench_") as name:
    folder = pathlib.Path(name)
    expected.save(case, problem.save_tensors(case, folder), folder)
    worker.ask("load", folder=name, problem=problem.describe(case))
    answer = worker.ask("prepare", _PATIENCE_S, contestant=contestant)
    worker.ask("forget")
  if "failed" in answer:
    raise WorkerError(f"{contestant} {case}: {answer['failed']}")
  if answer["error"] > expected.TOLERANCE[case.dtype]:
    raise WorkerError(f"{contestant} {case}: relative error {answer['error']:.1e}")
  return answer


def _length(quick: bool) -> int:
  return 12 if quick else 100
