"""What a run has found, as tables of text, for the terminal and for RESULTS.md alike."""

from __future__ import annotations

from typing import Any

from benchmarks.steps import race, summary
from benchmarks.steps.networks import NETWORKS
from benchmarks.steps.results import Results
from benchmarks.tables import Table, number

_WHY = 100


def overview(found: Results) -> list[Table]:
  """Returns the table of all trainings, and that of the geometric means."""
  rows = [
    row for name, outcomes in found.races.items() for row in _rows(*name.split(), outcomes)
  ]  # fmt: skip
  means = [
    (
      line.ratio.title,
      str(len(line.figures)),
      number(line.mean),
      number(min(line.figures.values())),
      number(max(line.figures.values())),
    )
    for line in summary.lines(found.races)
  ]
  tables = [
    Table(
      "Milliseconds a training step",
      (
        "network", "dtype", "trained", "as it is", "patched", "times as fast", "PyTorch",
        "first step, s, as it is", "patched", "losses differ by",
      ),
      tuple(rows),
    ),
    Table(
      "Geometric means, float32",
      ("ratio", "networks", "mean", "least", "most"),
      tuple(means),
    ),
  ]  # fmt: skip
  return [table for table in tables if table.rows]


def remarks(found: Results) -> list[str]:
  """Returns a sentence for everything that failed, or whose losses differ."""
  texts = [
    f"{name}, {who} failed: {why[:_WHY]}." for name, who, why in summary.failed(found.races)
  ]
  for name, who, difference in summary.different(found.races):
    texts.append(f"{name}, {who}: the losses differ by {difference:.1e} of the first.")
  return list(dict.fromkeys(texts))


def one_line(name: str, outcomes: dict[str, dict[str, Any]]) -> str:
  """Returns a race and the milliseconds of a step of each training."""
  steps = [
    f"{who} {'failed' if 'failed' in outcome else number(1e3 * outcome['median_s'])}"
    for who, outcome in outcomes.items()
  ]
  return f"{name}: {', '.join(steps)}"


def _rows(network: str, dtype: str, outcomes: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
  """Returns a row for each way that was raced; PyTorch's time is the same in all of them."""
  rows = []
  torch = summary.fastest(outcomes, summary.TORCH)
  for way, named in summary.NAMED.items():
    both = [outcomes.get(f"{who}/{way}") for who in ("as-it-is", "patched")]
    if both != [None, None]:
      theirs, ours = (_seconds(outcome, "median_s") for outcome in both)
      rows.append((
        NETWORKS[network].title.split(" (")[0] if not rows else "",
        dtype if not rows else "",
        named,
        *(_cell(outcome, "median_s", 1e3) for outcome in both),
        number(theirs / ours) if theirs and ours else "-",
        number(1e3 * torch) if torch and not rows else "",
        *(_cell(outcome, "first_s", 1) for outcome in both),
        f"{both[1]['differs']:.0e}" if both[1] and "differs" in both[1] else "-",
      ))  # fmt: skip
  if not rows and torch:
    rows = [(NETWORKS[network].title.split(" (")[0], dtype, "", "", "", "", number(1e3 * torch),
             "", "", "")]  # fmt: skip
  return rows


def _seconds(outcome: dict[str, Any] | None, key: str) -> float | None:
  return (outcome or {}).get(key)


def _cell(outcome: dict[str, Any] | None, key: str, scale: float) -> str:
  if outcome is None:
    return "-"
  if "failed" in outcome:
    kind = outcome["failed"].partition(":")[0]
    return "error" if kind.endswith("Error") else kind[:24]
  return number(scale * outcome[key])


def explained() -> str:
  """Returns what the tables mean, for RESULTS.md."""
  networks = "; ".join(network.title for network in NETWORKS.values())
  return f"""\
## Whole training steps

Written by `python -m benchmarks.steps`. Keras models: {networks}; narrowed or cut short, so that a
step takes some tens of milliseconds.

- A step is the forward pass, the gradients and an update by momentum, on one volume. Times are
  medians. Slow trainings took fewer steps.
- "As it is" is TensorFlow without `patch_tensorflow()`, "patched" is TensorFlow with it, each in a
  process of its own. PyTorch trains the same networks, in the faster of its two memory formats. All
  took turns.
- "Compiled" is the whole step with `jit_compile=True`. The first step traces and compiles.
- Losses are compared over the first {race.COMPARED} steps, relative to the first loss.
"""
