"""From times to the table: ratios and geometric means."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from benchmarks.expected import TOLERANCE
from benchmarks.networks import NETWORKS
from benchmarks.rows import ROWS, Row
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import Direction

_Outcomes = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Line:
  """A row of the table with what came of it.

  Attributes:
    row: The row.
    ratios: How many times faster the op is, by case, the worst first.
    refused: The cases that none of the others took: not counted.
    failed: The cases that the op did not compute in one of the row's ways, which is always a fault.
  """

  row: Row
  ratios: dict[str, float]
  refused: tuple[str, ...]
  failed: tuple[str, ...]

  @property
  def geomean(self) -> float:
    """The geometric mean of the ratios."""
    return geomean(self.ratios.values())

  @property
  def worst(self) -> tuple[str, float]:
    """The case with the least ratio, and that."""
    return next(iter(self.ratios.items()))

  @property
  def slower(self) -> int:
    """On how many cases the op is slower."""
    return sum(ratio < 1 for ratio in self.ratios.values())


def lines(cases: dict[str, _Outcomes], direction: Direction | None = None) -> list[Line]:
  """Returns the rows, of one function if it is given, for which anything was measured."""
  found = []
  parsed = {name: Case.parse(name) for name in cases}
  for row in ROWS:
    if direction not in (None, row.direction):
      continue
    ratios, refused, failed = {}, [], []
    for name, outcomes in cases.items():
      case = parsed[name]
      if not row.takes(case) or not outcomes.keys() >= set(row.ours):
        continue
      seconds = medians(case, outcomes)
      ratio = row.ratio(case, seconds)
      if not seconds.keys() >= set(row.ours):
        failed.append(name)
      elif ratio is None:
        refused += [name] if any(other in outcomes for other in row.theirs) else []
      else:
        ratios[name] = ratio
    if ratios:
      ratios = dict(sorted(ratios.items(), key=lambda item: item[1]))
      found.append(Line(row, ratios, tuple(refused), tuple(failed)))
  return found


def medians(case: Case, outcomes: _Outcomes) -> dict[str, float]:
  """Returns the seconds of each contestant that ran and was right."""
  return {
    name: outcome["median_s"]
    for name, outcome in outcomes.items()
    if "median_s" in outcome and not is_wrong(case, name, outcome)
  }


def is_wrong(case: Case, contestant: str, outcome: dict[str, Any]) -> bool:
  """Returns whether a contestant's result is not the case's."""
  if contestant.endswith("/matmul"):
    return False
  return outcome.get("error", 0) > TOLERANCE[case.dtype]


def wrong(cases: dict[str, _Outcomes]) -> list[tuple[str, str, float]]:
  """Returns case, contestant and error of every wrong result."""
  return [
    (name, contestant, outcome["error"])
    for name, outcomes in cases.items()
    for contestant, outcome in outcomes.items()
    if is_wrong(Case.parse(name), contestant, outcome)
  ]


def network_totals(cases: dict[str, _Outcomes]) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns by network and contestant the `seconds` of all layers that it took, and `missing`.

  Networks of which a layer was not raced are left out.
  """
  totals: dict[str, dict[str, dict[str, Any]]] = {}
  for name, network in NETWORKS.items():
    if not all(layer in cases for layer in network.layers):
      continue
    seconds = {layer: medians(Case.parse(layer), cases[layer]) for layer in network.layers}
    raced = {contestant for layer in network.layers for contestant in cases[layer]}
    totals[name] = {
      contestant: {
        "seconds": sum(
          count * seconds[layer].get(contestant, 0) for layer, count in network.layers.items()
        ),
        "missing": [layer for layer in network.layers if contestant not in seconds[layer]],
      }
      for contestant in sorted(raced)
    }
  return totals


def network_ratio(row: Row, cases: dict[str, _Outcomes], network: str) -> tuple[float, int] | None:
  """Returns the ratio of a network's totals over the layers that both sides took, and how many.

  Each side's total is that of one and the same contestant, the one that takes most layers and of
  those the fastest: a network is not run by two frameworks in turns.
  """
  layers = NETWORKS[network].layers
  seconds = {layer: medians(Case.parse(layer), cases[layer]) for layer in layers}
  best = None
  for other, our in itertools.product(row.theirs, row.ours):
    both = [layer for layer in layers if {our, other} <= seconds[layer].keys()]
    if both:
      theirs, ours = (
        sum(layers[layer] * seconds[layer][who] for layer in both) for who in (other, our)
      )
      found = (len(both), -theirs, theirs / ours)
      best = max(best, found) if best else found
  return (best[2], best[0]) if best else None


def geomean(values: Any) -> float:
  """Returns the geometric mean."""
  logarithms = [math.log(value) for value in values]
  return math.exp(sum(logarithms) / len(logarithms))
