"""The study of scaling: time per voxel against the volume, time per FLOP against the filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import cases, race
from benchmarks.workers import Workers
from tf_conv3d_grad.conformance.case import Case

CONTESTANTS = ("tf/op.eager", "tf/op.compiled", "tf/raw.eager")

Unit = Callable[[Case], float]
# By name: the cases along the horizontal axis, and what a time is divided by.
AXES: dict[str, tuple[dict[int, str], Unit]] = {
  "per voxel": (cases.VOLUMES, lambda case: case.input_size[0] ** 3),
  "per FLOP": (cases.FILTERS, lambda case: case.flops),
}


def run(
  workers: Workers, quick: bool, tick: Callable[[str], None], pace: race.Pace
) -> dict[str, Any]:
  """Returns by name of `AXES`, by position and by contestant what `race.race` does."""
  found: dict[str, Any] = {name: {} for name in AXES}
  for name, position, case in _points(quick):
    tick(f"scaling, {case}")
    found[name][str(position)] = race.race(Case.parse(case), CONTESTANTS, workers, pace)
  return found


def steps(quick: bool) -> int:
  """Returns how often `run` will tick."""
  return len(_points(quick))


def curve(study: dict[str, Any], name: str, contestant: str) -> dict[int, float]:
  """Returns nanoseconds per voxel or picoseconds per FLOP, by position, where it ran."""
  points, unit = AXES[name]
  scale = 1e9 if name == "per voxel" else 1e12
  return {
    position: scale * outcomes[contestant]["median_s"] / unit(Case.parse(points[position]))
    for position, outcomes in ((int(text), outcomes) for text, outcomes in study[name].items())
    if "median_s" in outcomes[contestant]
  }


def spread(values: dict[int, float]) -> float:
  """Returns how many times the least of the values the largest is."""
  return max(values.values()) / min(values.values())


def _points(quick: bool) -> list[tuple[str, int, str]]:
  points = [(name, x, case) for name, (along, _) in AXES.items() for x, case in along.items()]
  return [point for point in points if not quick or point[1] in (3, 5, 32, 64)]
