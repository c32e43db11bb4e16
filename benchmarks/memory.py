"""The study of memory: what one call adds to a process at its peak."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import cases, expected, problem
from benchmarks.workers import Workers
from tf_conv3d_grad.conformance.case import Case

CONTESTANTS = ("op.eager", "op.compiled", "raw.eager")
_PATIENCE_S = 300
# Run before, so that what the libraries set up once is not counted as a call's.
_WARM_UP = "mb1_id8_ic8oc8_k3s1d1_ndhwc_f32"


def run(workers: Workers, quick: bool, tick: Callable[[str], None]) -> dict[str, Any]:
  """Returns the study's figures: by case and contestant the bytes `added` at the first call's peak.

  Over what the process held before, and the result included. Each contestant has a fresh process:
  TensorFlow's allocator keeps what was freed, so that a second call would seem to need nothing.
  """
  found: dict[str, Any] = {}
  for name in _cases(quick):
    case = Case.parse(name)
    found[name] = {}
    with tempfile.TemporaryDirectory(prefix="conv3d_bench_") as folder:
      expected.save(case, problem.save_tensors(case, pathlib.Path(folder)), pathlib.Path(folder))
      for contestant in CONTESTANTS:
        tick(f"memory, {contestant} {name}")
        found[name][contestant] = _peak(workers, case, contestant, folder)
  return found


def steps(quick: bool) -> int:
  """Returns how often `run` will tick."""
  return len(_cases(quick)) * len(CONTESTANTS)


def _peak(workers: Workers, case: Case, contestant: str, folder: str) -> dict[str, Any]:
  worker = workers.fresh("tf")
  try:
    with tempfile.TemporaryDirectory(prefix="conv3d_bench_") as small:
      warm_up = Case.parse(_WARM_UP)
      problem.save_tensors(warm_up, pathlib.Path(small))
      worker.ask("load", folder=small, problem=problem.describe(warm_up))
      worker.ask("prepare", contestant=contestant)
    worker.ask("load", folder=folder, problem=problem.describe(case))
    return worker.ask("peak", _PATIENCE_S, contestant=contestant)
  finally:
    worker.close()


def _cases(quick: bool) -> tuple[str, ...]:
  return cases.MEMORY[-1:] if quick else cases.MEMORY
