"""What a run has found, as tables of text, for the terminal and for RESULTS.md alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks import cases, first_call, memory, problem, rows, scaling, summary
from benchmarks.networks import NETWORKS
from benchmarks.results import Results
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, Direction

# Columns of the tables of cases; of several contestants the fastest.
_COLUMNS: dict[str, tuple[str, ...]] = {
  "op, compiled": ("tf/op.compiled",),
  "raw, compiled": ("tf/raw.compiled",),
  "JAX": ("jax/jit",),
  "op, eager": ("tf/op.eager",),
  "op, graph": ("tf/op.graph",),
  "raw": ("tf/raw.eager", "tf/raw.graph"),
  "PyTorch": ("torch/contiguous", "torch/channels_last_3d"),
  "op, no oneDNN": ("eigen/op.eager",),
  "raw, no oneDNN": ("eigen/raw.eager", "eigen/raw.graph"),
}


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text."""

  title: str
  headings: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]


def overview(found: Results) -> list[Table]:
  """Returns the tables but those of single cases, if they have rows."""
  tables = [
    *(_rows(found, direction) for direction in rows.FUNCTIONS),
    *(_themes(found, direction) for direction in rows.FUNCTIONS),
    _networks(found),
    Table(
      "First call in a fresh process, seconds",
      ("case", "default", "compiled"),
      tuple(_fresh(found)),
    ),
    Table(
      "First calls of many shapes in a row, seconds in total",
      ("shapes", "how many", "op", "raw", "op over raw"),
      tuple(_series(found)),
    ),
    Table(
      "Memory that one call adds at its peak, MB",
      ("case", "the three tensors", *memory.CONTESTANTS),
      tuple(_memory(found)),
    ),
    Table(
      "Scaling: nanoseconds per voxel, picoseconds per FLOP",
      ("time", "contestant", "figures", "largest over least"),
      tuple(_scaling(found)),
    ),
  ]
  return [table for table in tables if table.rows]


def by_theme(found: Results) -> list[Table]:
  """Returns for each function and theme the speed of everybody on each of its cases."""
  tables = []
  titles = {_title(theme): suite for theme, suite in cases.SUITES.items()}
  for direction, function in rows.FUNCTIONS.items():
    members = [case for case in found.cases if Case.parse(case).direction == direction]
    other = [case for case in members if not cases.themes(case)]
    for title, suite in {**titles, "other": other}.items():
      listed = [case for case in members if case in suite]
      if listed:
        tables.append(_speeds(f"{title}: {function}", listed, found))
  return tables


def remarks(found: Results) -> list[str]:
  """Returns a sentence for everything that failed, was wrong, or took no part."""
  texts = [
    f"{name} took no part: `make bench-peers` installs it." for name in found.about["absent"]
  ]
  for line in summary.lines(found.cases):
    for case in line.failed:
      right = summary.medians(Case.parse(case), found.cases[case])
      for ours in (ours for ours in line.row.ours if ours not in right):
        why = found.cases[case][ours].get("failed", "a wrong result")
        texts.append(f"The op ({ours}) failed on `{case}`: {why}.")
  for case, contestant, error in summary.wrong(found.cases):
    texts.append(f"{contestant} is wrong on `{case}`: relative error {error:.1e}.")
  slowest = _slowest_first_call(found)
  if slowest:
    seconds, contestant, case = slowest
    texts.append(
      f"The longest first call of the op in the races took {seconds:.2f} s "
      f"({contestant}, `{case}`)."
    )
  return list(dict.fromkeys(texts))


def one_line(case: Case, outcomes: dict[str, dict[str, Any]]) -> str:
  """Returns a case and its ratio for each row that it counts in."""
  seconds = summary.medians(case, outcomes)
  parts = []
  for row in rows.ROWS:
    ratio = row.ratio(case, seconds) if row.takes(case) else None
    if ratio is not None:
      parts.append(f"{row.where} {number(ratio)}")
  return f"{case!s:<44} times faster: {', '.join(parts)}"


def number(value: float) -> str:
  """Returns a number with the digits that mean something."""
  return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rows(found: Results, direction: Direction) -> Table:
  """Returns what came of each row of one function."""
  content = []
  for line in summary.lines(found.cases, direction):
    case, least = line.worst
    refused = f" + {len(line.refused)} refused" if line.refused else ""
    content.append((
      line.row.title, f"{len(line.ratios)}{refused}",
      number(line.geomean), str(line.slower), number(least), case,
    ))  # fmt: skip
  return Table(
    f"Times faster than the others: {rows.FUNCTIONS[direction]}",
    ("where", "cases", "geometric mean", "below 1", "least", "case of the least"),
    tuple(content),
  )


def _themes(found: Results, direction: Direction) -> Table:
  """Returns the geometric means by theme, which say where a row is won or lost."""
  lines = [line for line in summary.lines(found.cases, direction) if line.row.where != "small"]
  content = []
  for theme in cases.SUITES:
    means = []
    for line in lines:
      ratios = [ratio for case, ratio in line.ratios.items() if theme in cases.themes(case)]
      means.append(number(summary.geomean(ratios)) if ratios else "-")
    if any(mean != "-" for mean in means):
      content.append((theme, *means))
  headings = ("geometric mean of the cases on", *(_short(line.row) for line in lines))
  title = f"Times faster by theme: {rows.FUNCTIONS[direction]}"
  return Table(title, headings, tuple(content) if len(content) > 1 else ())


def _networks(found: Results) -> Table:
  totals = summary.network_totals(found.cases)
  lines = [
    line.row for line in summary.lines(found.cases, BWD_D)
    if line.row.where != "small" and line.row.theirs != (rows.MATMUL,)
  ]  # fmt: skip
  headings = ["network, all layers", *map(_short, lines)]
  content = []
  for network in totals:
    cells = [NETWORKS[network].title]
    layers = len(NETWORKS[network].layers)
    for row in lines:
      ratio = summary.network_ratio(row, found.cases, network)
      some = f" ({ratio[1]} of {layers} layers)" if ratio and ratio[1] < layers else ""
      cells.append(f"{number(ratio[0])}{some}" if ratio else "refused")
    content.append(tuple(cells))
  title = f"Times faster on whole networks: {rows.FUNCTIONS[BWD_D]}"
  return Table(title, tuple(headings), tuple(content))


def _fresh(found: Results) -> Iterator[tuple[str, ...]]:
  for case, seconds in found.studies.get("first-call", {}).get("fresh", {}).items():
    both = [seconds[way]["first_s"] for way in ("op.eager", "op.compiled")]
    yield (case, *(f"{s:.2f}" for s in both))


def _series(found: Results) -> Iterator[tuple[str, ...]]:
  for kind, series in found.studies.get("first-call", {}).get("series", {}).items():
    raw = first_call.SERIES[kind]
    ours, theirs = (series["seconds"][who] for who in ("op.eager", raw))
    yield (
      f"that the raw op {kind}; the op by default, {raw}", str(series["count"]),
      f"{ours:.2f}", f"{theirs:.2f}", number(ours / theirs),
    )  # fmt: skip


def _memory(found: Results) -> Iterator[tuple[str, ...]]:
  for case, by_contestant in found.studies.get("memory", {}).items():
    peaks = (by_contestant[contestant] for contestant in memory.CONTESTANTS)
    yield (
      case, f"{problem.tensor_bytes(Case.parse(case)) / 1e6:.0f}",
      *(f"{p['added'] / 1e6:.0f}" if "added" in p else p["failed"][:80] for p in peaks),
    )  # fmt: skip


def _scaling(found: Results) -> Iterator[tuple[str, ...]]:
  for name in found.studies.get("scaling", {}):
    for contestant in scaling.CONTESTANTS:
      values = scaling.curve(found.studies["scaling"], name, contestant)
      if values:
        figures = ", ".join(f"{x}: {number(value)}" for x, value in values.items())
        yield (name, contestant, figures, number(scaling.spread(values)))


def _speeds(title: str, members: list[str], found: Results) -> Table:
  content = []
  for name in members:
    case = Case.parse(name)
    seconds = summary.medians(case, found.cases[name])
    cells = [_speed(case, seconds, who) for who in _COLUMNS.values()]
    content.append((f"`{name}`", number(case.flops / 1e9), *cells))
  return Table(title, ("case", "GFLOP", *_COLUMNS), tuple(content))


def _speed(case: Case, seconds: dict[str, float], contestants: tuple[str, ...]) -> str:
  """Returns the speed of the fastest; of small cases the time, which says more there."""
  ran = [seconds[contestant] for contestant in contestants if contestant in seconds]
  if not ran:
    return "-"
  if str(case) in cases.SMALL:
    return f"{min(ran) * 1e6:.0f} µs"
  return number(case.flops / min(ran) / 1e9)


def _slowest_first_call(found: Results) -> tuple[float, str, str] | None:
  """Returns seconds, contestant and case, less the time of the call itself."""
  calls = [
    (outcome["first_s"] - outcome["median_s"], contestant, case)
    for case, outcomes in found.cases.items()
    for contestant, outcome in outcomes.items()
    if "/op." in contestant and "median_s" in outcome
  ]
  return max(calls, default=None)


def _short(row: rows.Row) -> str:
  way = row.ours[0].split(".")[1] if len(row.ours) == 1 else "better"
  return f"{row.where}, {way}"


def _title(theme: str) -> str:
  return NETWORKS[theme].title if theme in NETWORKS else theme
