"""Draws the pictures of how_it_works.md: `python docs/pictures.py`.

Which cell reaches which is asked of the package's own geometry: the pictures show what it does.
"""

from __future__ import annotations

import pathlib

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from tf_conv3d_grad.problem import geometry

_FOLDER = pathlib.Path(__file__).resolve().parent / "images"
_STYLE = {
  "axes.titlesize": 10,
  "axes.titlelocation": "left",
  "figure.constrained_layout.use": True,
  "font.size": 9,
  "savefig.bbox": "tight",
  "savefig.dpi": 140,
}
# One colour a tap or a phase, told apart with any colour vision (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
_INK, _PALE, _ZERO = "#333333", "#f2f2f2", "#d9d9d9"


def main() -> None:
  """Writes every picture."""
  _FOLDER.mkdir(exist_ok=True)
  painters = (readings, overlap_add, phases, product, tiles, choice)
  with rc_context(_STYLE):
    for paint in painters:
      paint().savefig(_FOLDER / f"{paint.__name__}.png")


def readings() -> Figure:
  """The same sum read from either end: out_backprop's cells scatter, the result's cells gather."""
  figure = Figure(figsize=(9, 2.1))
  panels = figure.subplots(1, 2)
  cells, taps, pad = 6, 3, 1
  for panel, title, picked in (
    (panels[0], "Scatter: a cell of out_backprop adds to 3 cells of the result", ("above", 2)),
    (panels[1], "Gather: a cell of the result reads 3 cells of out_backprop", ("below", 3)),
  ):
    side, index = picked
    for o in range(cells):
      for tap in range(taps):
        i = o + tap - pad
        if 0 <= i < cells:
          mine = o == index if side == "above" else i == index
          _arrow(panel, (o, 1.5), (i, 0.5), _COLOURS[tap] if mine else _ZERO, mine)
    _row(panel, 1.5, cells, "out_backprop", [index] if side == "above" else range(2, 5))
    _row(panel, 0, cells, "result", range(1, 4) if side == "above" else [index])
    panel.set_title(title)
    _frame(panel, (-2.1, cells - 0.4), (-0.3, 2.2))
  _taps_legend(figure, taps)
  return figure


def overlap_add() -> Figure:
  """Columns put in place by shifts; stride and dilation change the shifts and nothing else."""
  figure = Figure(figsize=(9, 2.6))
  panels = figure.subplots(1, 3)
  taps = 3
  for panel, title, (stride, dilation, pad, length) in zip(
    panels,
    ("stride 1", "dilation 2: shifts twice as large", "stride 2: every other cell"),
    ((1, 1, 1, 6), (1, 2, 2, 6), (2, 1, 0, 8)),
  ):
    output = geometry.same_output(length, stride)
    for tap in range(taps):
      y = 1.3 * (taps - tap)
      for o in range(output):
        i = o * stride + tap * dilation - pad
        inside = 0 <= i < length
        _cell(panel, i, y, _COLOURS[tap] if inside else "white", f"{o}", inside)
      panel.text(-4.6, y + 0.42, f"tap {tap}", va="center", color=_COLOURS[tap])
    for i in range(length):
      _cell(panel, i, 0, _PALE, "", True)
    panel.text(-4.6, 0.42, "sum", va="center")
    panel.axhline(1.12, color=_INK, linewidth=0.8, xmin=0.02, xmax=0.98)
    panel.set_title(title)
    _frame(panel, (-4.8, 9.2), (-0.3, 5.2))
  return figure


def phases() -> Figure:
  """A stride splits the taps among the phases of the result; the textbook inserts zeros instead."""
  figure = Figure(figsize=(9, 3.9))
  textbook, split = figure.subplots(1, 2, width_ratios=(1, 1))
  output, taps, stride, dilation, pad = 4, 3, 2, 1, 0
  length = output * stride
  for o in range(output):
    _cell(textbook, stride * o, 3.6, _COLOURS[0], f"{o}", True)
    if o < output - 1:
      _cell(textbook, stride * o + 1, 3.6, _ZERO, "0", True)
  picked = 3
  for tap in range(taps):
    i = picked - tap
    real = i % stride == 0
    _arrow(textbook, (i + 0.45, 3.55), (picked + 0.45, 1.35), _INK if real else "#aaaaaa", real)
    textbook.text(
      0.85 * i + 0.15 * picked + 0.45, 3.2, f"tap {tap}", color=_INK if real else "#aaaaaa",
      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, fontsize=7,
      ha="center", va="center",
    )  # fmt: skip
  for i in range(length):
    _cell(textbook, i, 0.4, _PALE if i != picked else _COLOURS[1], f"{i}", True)
  textbook.text(-0.2, 4.85, "out_backprop with zeros put in", va="center")
  textbook.text(-0.2, 0.1, "result", va="top")
  textbook.set_title("The textbook: zeros between cells, most products wasted")
  _frame(textbook, (-0.4, 8.2), (-0.7, 5.3))

  found = geometry.phases(taps, stride, dilation, pad)
  for phase in found:
    colour = _COLOURS[1 + phase.residue]
    y = 3.6 - 1.7 * phase.residue
    for m in range(length // stride):
      _cell(split, m, y, colour, f"{stride * m + phase.residue}", True)
    reads = " + ".join(
      f"tap {tap} × cell m" + (f"−{shift}" if shift else "")
      for tap, shift in zip(phase.taps, phase.shifts)
    )
    split.text(4.4, y + 0.45, f"{reads}", va="center", color=colour)
    split.text(-0.2, y + 1.12, f"phase {phase.residue}: cells 2m{'+1' if phase.residue else ''}",
               va="center")  # fmt: skip
  for i in range(length):
    _cell(split, i, 0, _COLOURS[1 + i % stride], f"{i}", True)
  split.text(-0.2, -0.2, "result: the phases interleaved", va="top")
  split.set_title("Here: two phases, each with the taps that reach it")
  _frame(split, (-0.4, 8.8), (-0.9, 5.2))
  return figure


def product() -> Figure:
  """One matrix product gives every tap's products for every cell."""
  figure = Figure(figsize=(9, 3.0))
  axes = figure.subplots()

  def block(x: float, y: float, width: float, height: float, colour: str, text: str) -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=_INK))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center")

  block(0, 0, 1.5, 4, _PALE, "out_\nbackprop,\na row\na cell")
  axes.text(0.75, 4.15, "out channels", ha="center")
  axes.text(1.85, 2, "×", ha="center", va="center", fontsize=14)
  for tap in range(3):
    block(2.2 + 1.6 * tap, 1.3, 1.6, 1.5, _COLOURS[tap] + "55", f"filter\ntap {tap}")
    axes.text(3.0 + 1.6 * tap, 2.95, "in channels", ha="center")
  axes.text(7.35, 2, "=", ha="center", va="center", fontsize=14)
  for tap in range(3):
    block(7.7 + 1.6 * tap, 0, 1.6, 4, _COLOURS[tap] + "55", f"columns\nof tap {tap}")
  axes.text(10.1, 4.15, "in channels, once a tap", ha="center")
  axes.annotate("", (14.2, 2), (12.6, 2), arrowprops={"arrowstyle": "->", "color": _INK})
  axes.text(13.4, 2.15, "overlap-add", ha="center")
  block(14.3, 0, 1.5, 4, _PALE, "result")
  axes.text(15.05, 4.15, "in channels", ha="center")
  _frame(axes, (-0.2, 16), (-0.2, 4.7))
  axes.set_aspect("auto")
  return figure


def tiles() -> Figure:
  """The result computed slab by slab; neighbouring slabs read some planes of out_backprop twice."""
  figure = Figure(figsize=(9, 3.2))
  axes = figure.subplots()
  slabs, planes = 4, 3
  length = slabs * planes
  read = 2
  for z in range(length):
    seen = read * planes - 1 <= z <= (read + 1) * planes
    axes.add_patch(Rectangle((0.62 * z, 0), 0.5, 3, facecolor=_COLOURS[0] if seen else _PALE,
                             edgecolor=_INK, alpha=0.75))  # fmt: skip
  axes.text(0, 3.15, "out_backprop: the depth planes that a slab reads")
  axes.annotate("", (9.2, 1.5), (7.7, 1.5), arrowprops={"arrowstyle": "->", "color": _INK})
  axes.add_patch(Rectangle((9.4, 0.6), 2.8, 1.8, facecolor=_COLOURS[1] + "88",
                           edgecolor=_INK))  # fmt: skip
  axes.text(10.8, 1.5, "columns of\none slab:\nfit the cache", ha="center", va="center")
  axes.annotate("", (13.9, 1.5), (12.4, 1.5), arrowprops={"arrowstyle": "->", "color": _INK})
  for z in range(length):
    mine = z // planes == read
    gap = 0.25 * (z // planes)
    axes.add_patch(Rectangle((14.1 + 0.62 * z + gap, 0), 0.5, 3, edgecolor=_INK, alpha=0.75,
                             facecolor=_COLOURS[2] if mine else _PALE))  # fmt: skip
  axes.text(14.1, 3.15, "result: one slab after another")
  _frame(axes, (-0.2, 22.6), (-0.3, 3.6))
  return figure


def choice() -> Figure:
  """What "auto" asks, in order."""
  figure = Figure(figsize=(9, 4.6))
  axes = figure.subplots()

  def box(x: float, y: float, text: str, colour: str, width: float = 3.3) -> None:
    shape = FancyBboxPatch((x, y), width, 1.0, boxstyle="round,pad=0.08", facecolor=colour,
                           edgecolor=_INK, linewidth=0.8)  # fmt: skip
    axes.add_patch(shape)
    axes.text(x + width / 2, y + 0.5, text, ha="center", va="center", fontsize=8.5)

  def arrow(start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": _INK})
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    axes.text(middle[0] + 0.08, middle[1] + 0.12, text, fontsize=8.5, color=_INK)

  question, answer = _PALE, _COLOURS[0] + "33"
  box(0, 6, "on a GPU?", question)
  box(0, 4, "inside somebody's\njit_compile=True?", question)
  box(0, 2, "does TensorFlow's kernel\ntake the case, and well?", question)
  box(0, 0, "would a compilation pay?", question)
  box(6, 6, "kernel, compiled: cuDNN", answer, 5.2)
  box(6, 4, "overlap-add with the parameters\nof the least predicted time", answer, 5.2)
  box(6, 2, "kernel: oneDNN or Eigen, after a cast\nor transpose where it needs one", answer, 5.2)
  box(6, 0, "overlap-add in a compiled function\nof its own, kept for the next call", answer, 5.2)
  box(6, -2, "overlap-add, operation by operation", answer, 5.2)
  for y in (6, 4, 2):
    arrow((1.65, y - 0.1), (1.65, y - 0.92), "no")
  for y in (6, 4, 2, 0):
    arrow((3.4, y + 0.5), (5.9, y + 0.5), "yes")
  arrow((3.4, 0.1), (5.9, -1.5), "no")
  _frame(axes, (-0.3, 11.6), (-2.3, 7.3))
  axes.set_aspect("auto")
  return figure


def _row(axes: Axes, y: float, cells: int, name: str, picked) -> None:
  for index in range(cells):
    _cell(axes, index - 0.45, y, "#ffe9b8" if index in picked else _PALE, f"{index}", True, 0.5)
  axes.text(-0.7, y + 0.25, name, ha="right", va="center")


def _cell(
  axes: Axes, x: float, y: float, colour: str, text: str, inside: bool, height: float = 0.9
) -> None:
  axes.add_patch(
    Rectangle((x, y), 0.9, height, facecolor=colour, edgecolor=_INK if inside else "#bbbbbb",
              linewidth=0.8, alpha=0.85 if inside else 1)  # fmt: skip
  )
  axes.text(x + 0.45, y + height / 2, text, ha="center", va="center", fontsize=8,
            color=_INK if inside else "#bbbbbb")  # fmt: skip


def _arrow(
  axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, mine: bool
) -> None:
  style = {"arrowstyle": "->", "color": colour, "linewidth": 1.6 if mine else 0.7}
  axes.annotate("", end, start, arrowprops=style, zorder=2 if mine else 1)


def _taps_legend(figure: Figure, taps: int) -> None:
  handles = [Rectangle((0, 0), 1, 1, facecolor=_COLOURS[tap]) for tap in range(taps)]
  labels = [f"tap {tap}" for tap in range(taps)]
  figure.legend(handles, labels, loc="outside lower center", ncols=taps, frameon=False)


def _frame(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
  axes.set(xlim=x, ylim=y, aspect="equal")
  axes.set_axis_off()


if __name__ == "__main__":
  main()
