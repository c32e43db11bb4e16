"""The pictures of a run, as PNG files."""

from __future__ import annotations

import functools
import pathlib
import textwrap

from matplotlib import rc_context, ticker
from matplotlib.figure import Figure

from benchmarks import memory, problem, rows, scaling, summary, tables
from benchmarks.networks import NETWORKS
from benchmarks.results import Results
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, Direction

FOLDER = "plots"
# By function, the picture of its ratios.
_SPEED = {
  direction: "speed" if direction == BWD_D else f"speed_{direction.name}"
  for direction in rows.FUNCTIONS
}
CAPTIONS = {
  **{
    _SPEED[direction]: f"How many times faster than each peer, case by case: {function}"
    for direction, function in rows.FUNCTIONS.items()
  },
  "networks": "Whole networks",
  "roofline": "Speed against arithmetic intensity",
  "scaling": "Time per voxel and per FLOP",
  "memory": "Memory that one call adds",
}

# Colours that are told apart with any colour vision (Okabe and Ito), one a contestant.
OURS, OURS_COMPILED = "#0072b2", "#009e73"
RAW, RAW_COMPILED = "#e69f00", "#d55e00"
TORCH, JAX = "#cc79a7", "#999999"
STYLE = {
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlesize": 9,
  "figure.constrained_layout.use": True,
  "font.size": 9,
  "legend.frameon": False,
  "savefig.dpi": 130,
}
_SERIES = {
  "op, compiled": (("tf/op.compiled",), OURS_COMPILED),
  "op, by default": (("tf/op.eager",), OURS),
  "raw, oneDNN": (("tf/raw.eager", "tf/raw.graph"), RAW),
  "raw, compiled": (("tf/raw.compiled",), RAW_COMPILED),
  "PyTorch": (("torch/contiguous", "torch/channels_last_3d"), TORCH),
  "JAX": (("jax/jit",), JAX),
}


def draw(found: Results, folder: pathlib.Path) -> None:
  """Writes a PNG for everything that was measured."""
  folder.mkdir(parents=True, exist_ok=True)
  painters = {
    **{name: functools.partial(_speed, direction=function) for function, name in _SPEED.items()},
    "networks": _networks,
    "roofline": _roofline,
    "scaling": _scaling,
    "memory": _memory,
  }
  with rc_context(STYLE):
    for name, paint in painters.items():
      figure = paint(found)
      path = folder / f"{name}.png"
      if figure is None:
        path.unlink(missing_ok=True)  # of an earlier run, which measured more
      else:
        figure.savefig(path)


def _speed(found: Results, direction: Direction) -> Figure | None:
  """A panel for each row of the function's table: every case's ratio, sorted, and their mean."""
  lines = summary.lines(found.cases, direction)
  if not lines:
    return None
  columns = min(3, len(lines))
  figure = Figure(figsize=(4 * columns, 2.7 * -(-len(lines) // columns)))
  panels = figure.subplots(-(-len(lines) // columns), columns, squeeze=False).flat
  for panel in panels[len(lines) :]:
    panel.set_visible(False)
  for panel, line in zip(panels, lines):
    ratios = list(line.ratios.values())
    colours = [RAW_COMPILED if ratio < 1 else OURS for ratio in ratios]
    panel.scatter(range(len(ratios)), ratios, c=colours, s=12, zorder=3)
    panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
    panel.axhline(line.geomean, color=OURS, linewidth=0.8)
    panel.set(yscale="log", xticks=[], xlabel=f"{len(ratios)} cases, sorted")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(ticker.NullFormatter())
    measured = f"mean {tables.number(line.geomean)}, {line.slower} below 1"
    panel.set_title(f"{textwrap.fill(line.row.title, 54)}\n{measured}", loc="left")
  figure.suptitle(
    f"Times faster, {rows.FUNCTIONS[direction]}: "
    "each dot a case, the line their geometric mean, dotted 1",
    fontsize="medium",
  )
  return figure


def _networks(found: Results) -> Figure | None:
  """Dots: for each network the time of all layers, for everybody who takes all of them."""
  totals = summary.network_totals(found.cases)
  if not totals:
    return None
  figure = Figure(figsize=(8, 1.2 + 0.5 * len(totals)))
  axes = figure.subplots()
  for label, (contestants, colour) in _SERIES.items():
    points = []
    for position, network in enumerate(totals):
      seconds = [
        totals[network][who]["seconds"]
        for who in contestants
        if who in totals[network] and not totals[network][who]["missing"]
      ]
      points += [(1e3 * min(seconds), position)] if seconds else []
    if points:
      axes.scatter(*zip(*points), color=colour, label=label, s=60, zorder=3)
  axes.set_yticks(
    range(len(totals)), [NETWORKS[network].title.split(" (")[0] for network in totals]
  )
  axes.grid(linewidth=0.4)
  axes.set(
    xscale="log",
    ylim=(len(totals) - 0.5, -0.5),
    xlabel="milliseconds for the input gradients of all layers; who refuses a layer is left out",
  )
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter("{x:g}")
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure


def _roofline(found: Results) -> Figure | None:
  """Speed of the f32 cases against FLOPs per byte that has to move, under the two limits."""
  points: dict[str, list[tuple[float, float]]] = {name: [] for name in _SERIES}
  products = []
  for name, outcomes in found.cases.items():
    case = Case.parse(name)
    seconds = summary.medians(case, outcomes)
    products += [rows.MATMUL_FLOPS / seconds[rows.MATMUL]] if rows.MATMUL in seconds else []
    if case.dtype == "float32" and not rows.is_small(case):
      intensity = case.flops / problem.tensor_bytes(case)
      for label, (contestants, _) in _SERIES.items():
        ran = [seconds[who] for who in contestants if who in seconds]
        points[label] += [(intensity, case.flops / min(ran) / 1e9)] if ran else []
  if not any(points.values()):
    return None
  figure = Figure(figsize=(8, 5))
  axes = figure.subplots()
  for label, found_points in points.items():
    if found_points:
      axes.scatter(*zip(*found_points), s=14, color=_SERIES[label][1], label=label, alpha=0.8)
  bandwidth = found.about["machine"]["copy_gb_per_s"]
  intensities = [intensity for pairs in points.values() for intensity, _ in pairs]
  left, right = 0.7 * min(intensities), 1.4 * max(intensities)
  peak = sorted(products)[len(products) // 2] / 1e9 if products else None
  ridge = min(right, peak / bandwidth) if peak else right
  axes.plot([left, ridge], [bandwidth * left, bandwidth * ridge], color="black", linewidth=0.8)
  axes.annotate(f"memory, {bandwidth:.0f} GB/s", (left, bandwidth * left), fontsize="small",
                xytext=(4, 12), textcoords="offset points")  # fmt: skip
  if peak:
    axes.plot([ridge, right], [peak, peak], color="black", linewidth=0.8)
    axes.annotate(f"2048³ matrix product, {peak:.0f} GF/s", (right, peak), ha="right",
                  fontsize="small", xytext=(0, 4), textcoords="offset points")  # fmt: skip
  axes.set(xscale="log", yscale="log", xlabel="FLOP per byte of the three tensors",
           ylabel="GF/s, f32")  # fmt: skip
  axes.legend(loc="lower right")
  return figure


def _scaling(found: Results) -> Figure | None:
  """Time per voxel against the volume, time per FLOP against the filter."""
  study = found.studies.get("scaling")
  if not study:
    return None
  figure = Figure(figsize=(9, 3.6))
  panels = figure.subplots(1, 2)
  labels = dict(zip(scaling.CONTESTANTS, ("op, by default", "op, compiled", "raw, oneDNN")))
  for panel, (name, unit, along) in zip(
    panels,
    (("per voxel", "nanoseconds", "volume's edge"), ("per FLOP", "picoseconds", "filter's edge")),
  ):
    for contestant, label in labels.items():
      values = scaling.curve(study, name, contestant)
      panel.plot(values.keys(), values.values(), "o-", color=_SERIES[label][1], label=label)
      panel.set_xticks(list(values))
    panel.set(xlabel=along, ylabel=f"{unit} {name}", ylim=(0, None))
  panels[0].legend()
  return figure


def _memory(found: Results) -> Figure | None:
  """Bars: what a call adds, and the size of the call's three tensors."""
  study = found.studies.get("memory")
  if not study:
    return None
  figure = Figure(figsize=(8, 1 + 1.1 * len(study)))
  axes = figure.subplots()
  labels = dict(zip(memory.CONTESTANTS, ("op, by default", "op, compiled", "raw, oneDNN")))
  height = 0.25
  for position, (name, contestants) in enumerate(study.items()):
    for offset, (contestant, label) in enumerate(labels.items()):
      peak = contestants[contestant]
      if "failed" not in peak:
        added = peak["added"] / 1e6
        axes.barh(position + (offset - 1) * height, added, height * 0.9, color=_SERIES[label][1],
                  label=label if position == 0 else None)  # fmt: skip
    tensors = problem.tensor_bytes(Case.parse(name)) / 1e6
    axes.plot([tensors, tensors], [position - 0.45, position + 0.45], color="black", linewidth=1.2,
              label="the three tensors" if position == 0 else None)  # fmt: skip
  axes.set_yticks(range(len(study)), list(study), fontsize="small")
  axes.invert_yaxis()
  axes.set(xlabel="MB added at the peak of a call")
  axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
  return figure
