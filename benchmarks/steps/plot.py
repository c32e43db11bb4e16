"""The picture of a run: milliseconds a step, as it is against patched."""

from __future__ import annotations

import pathlib

from matplotlib import rc_context, ticker
from matplotlib.figure import Figure

from benchmarks import plots
from benchmarks.steps import summary
from benchmarks.steps.networks import NETWORKS
from benchmarks.steps.results import Results

NAME = "steps"
CAPTION = "Milliseconds a training step, TensorFlow as it is and patched"
_COLOURS = {"as it is": plots.RAW, "patched": plots.OURS, "PyTorch": plots.TORCH}


def draw(found: Results, folder: pathlib.Path) -> None:
  """Writes a PNG with a panel for each network and dtype."""
  folder.mkdir(parents=True, exist_ok=True)
  with rc_context(plots.STYLE):
    figure = _panels(found)
    if figure is not None:
      figure.savefig(folder / f"{NAME}.png")


def _panels(found: Results) -> Figure | None:
  if not found.races:
    return None
  columns = min(2, len(found.races))
  rows = -(-len(found.races) // columns)
  figure = Figure(figsize=(4.6 * columns, 0.8 + 1.6 * rows))
  panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
  for panel in panels[len(found.races) :]:
    panel.set_visible(False)
  for panel, (name, outcomes) in zip(panels, found.races.items()):
    _draw_race(panel, name, outcomes)
  for position, panel in enumerate(panels[: len(found.races)]):
    if position + columns >= len(found.races):
      panel.set_xlabel("milliseconds a step")
      panel.tick_params(labelbottom=True)
    if position % columns:
      panel.set_yticklabels([])
  handles = {}
  for panel in panels:
    handles.update({handle.get_label(): handle for handle in panel.collections
                    if handle.get_label() in _COLOURS})  # fmt: skip
  figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
  return figure


def _draw_race(panel, name: str, outcomes) -> None:
  """Dots on four lines, one a way; what failed says so at the left."""
  network, dtype = name.split()
  for position, way in enumerate(summary.NAMED):
    times = {
      label: summary.fastest(outcomes, who)
      for label, who in (
        ("as it is", (f"as-it-is/{way}",)),
        ("patched", (f"patched/{way}",)),
        ("PyTorch", summary.TORCH),
      )
    }
    if times["as it is"] and times["patched"]:
      ends = [1e3 * times["as it is"], 1e3 * times["patched"]]
      panel.plot(ends, [position] * 2, color="#bbbbbb", linewidth=2, zorder=1)
    for label, seconds in times.items():
      if seconds:
        marker, size = ("|", 90) if label == "PyTorch" else ("o", 40)
        panel.scatter(1e3 * seconds, position, s=size, marker=marker, color=_COLOURS[label],
                      label=label, zorder=3)  # fmt: skip
    if "failed" in outcomes.get(f"as-it-is/{way}", {}):
      panel.annotate("refused as it is", (0.01, position), xycoords=("axes fraction", "data"),
                     va="center", fontsize="small", color=_COLOURS["as it is"])  # fmt: skip
  panel.set_yticks(range(len(summary.NAMED)), list(summary.NAMED.values()))
  panel.set(xscale="log", ylim=(len(summary.NAMED) - 0.5, -0.5))
  panel.set_title(f"{NETWORKS[network].title.split(' (')[0]}, {dtype}", loc="left")
  panel.grid(axis="x", linewidth=0.4)
  panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
  panel.xaxis.set_major_formatter("{x:g}")
  panel.xaxis.set_minor_formatter(ticker.NullFormatter())
