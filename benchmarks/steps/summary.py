"""What is made of the times: ratios of trainings, and their geometric means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from benchmarks.steps.networks import GROUPED, NETWORKS, PLAIN
from benchmarks.summary import geomean

TORCH = ("torch-steps/contiguous", "torch-steps/channels_last_3d")
# The ways of training a Keras model, and what they are called.
NAMED = {
  "last": "channels last",
  "first": "channels first",
  "last-compiled": "channels last, compiled",
  "first-compiled": "channels first, compiled",
}
CONTESTANTS = (*(f"{who}/{way}" for way in NAMED for who in ("as-it-is", "patched")), *TORCH)
FLOAT32 = "float32"
# By how much losses may differ, relative to the first: more is not rounding. A training in bfloat16
# differs from itself by that much when a sum is taken in another order.
TOLERANCE = {FLOAT32: 1e-4, "mixed_bfloat16": 3e-2}

Races = dict[str, dict[str, dict[str, Any]]]


class Ratio(NamedTuple):
  """A line of the summary: some trainings' times over those of others.

  Attributes:
    title: What it says.
    numerator: The contestants whose fastest time is divided by
    denominator: the fastest of these, and
    kinds: the networks that count.
    key: Which of their times.
  """

  title: str
  numerator: tuple[str, ...]
  denominator: tuple[str, ...]
  kinds: tuple[str, ...] = (PLAIN, GROUPED)
  key: str = "median_s"


def _as_it_is(*ways: str) -> tuple[str, ...]:
  return tuple(f"as-it-is/{way}" for way in ways)


def _patched(*ways: str) -> tuple[str, ...]:
  return tuple(f"patched/{way}" for way in ways)


RATIOS = (
  Ratio("a step, channels first patched over channels last as it is",
        _patched("first"), _as_it_is("last")),
  Ratio("the same, networks without groups",
        _patched("first"), _as_it_is("last"), (PLAIN,)),
  Ratio("a step, channels last patched over as it is, without groups",
        _patched("last"), _as_it_is("last"), (PLAIN,)),
  Ratio("a step, channels first as it is over patched, without groups",
        _as_it_is("first"), _patched("first"), (PLAIN,)),
  Ratio("a step, channels last as it is over patched, grouped and depthwise",
        _as_it_is("last"), _patched("last"), (GROUPED,)),
  Ratio("a step, channels first as it is over patched, grouped and depthwise",
        _as_it_is("first"), _patched("first"), (GROUPED,)),
  Ratio("a compiled step, channels last as it is over patched",
        _as_it_is("last-compiled"), _patched("last-compiled")),
  Ratio("a compiled step, channels first as it is over patched",
        _as_it_is("first-compiled"), _patched("first-compiled")),
  Ratio("a step, PyTorch's better memory format over channels last patched",
        TORCH, _patched("last")),
  *(Ratio(f"the first step, {named} patched over as it is",
          _patched(way), _as_it_is(way), key="first_s")
    for way, named in NAMED.items()),
)  # fmt: skip


class Line(NamedTuple):
  """A ratio, and its figure in each race where both sides ran, by the race's name."""

  ratio: Ratio
  figures: dict[str, float]

  @property
  def mean(self) -> float:
    """The geometric mean."""
    return geomean(self.figures.values())


def lines(races: Races, dtype: str = FLOAT32) -> list[Line]:
  """Returns the lines that have figures; races of other dtypes do not count."""
  found = []
  for ratio in RATIOS:
    figures = {}
    for name, outcomes in races.items():
      network, of = name.split()
      both = [fastest(outcomes, who, ratio.key) for who in (ratio.numerator, ratio.denominator)]
      if of == dtype and NETWORKS[network].kind in ratio.kinds and None not in both:
        figures[name] = both[0] / both[1]
    if figures:
      found.append(Line(ratio, figures))
  return found


def fastest(
  outcomes: dict[str, dict[str, Any]], contestants: Iterable[str], key: str = "median_s"
) -> float | None:
  """Returns the least of the contestants' times, or None if none of them ran."""
  times = [outcomes[who][key] for who in contestants if key in outcomes.get(who, {})]
  return min(times, default=None)


def different(races: Races) -> Iterator[tuple[str, str, float]]:
  """Yields race, contestant and difference where losses differ by more than rounding explains."""
  for name, outcomes in races.items():
    tolerance = TOLERANCE[name.split()[1]]
    for who, outcome in outcomes.items():
      if outcome.get("differs", 0) > tolerance:
        yield name, who, outcome["differs"]


def failed(races: Races) -> Iterator[tuple[str, str, str]]:
  """Yields race, contestant and why, for each training that failed."""
  for name, outcomes in races.items():
    for who, outcome in outcomes.items():
      if "failed" in outcome:
        yield name, who, outcome["failed"]
