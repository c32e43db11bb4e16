"""RESULTS.md: the results of a run, for reading."""

from __future__ import annotations

import pathlib

from benchmarks import plots, tables
from benchmarks.results import Results

_INTRODUCTION = """\
# Results

Written by `python -m benchmarks`. Useful arithmetic only: zeros that a stride or a dilation would
insert do not count. Times are medians; on each case the contestants took turns. Every result was
compared to the float64 oracle or, for large cases, to TensorFlow's own kernel; data is random and
free of zeros.

A ratio above 1 means that the op is faster. "Compiled" is inside a function with
`jit_compile=True`, "default" is eager or in a graph without it, "the better raw" the faster of
TensorFlow's own op called eagerly and in a graph. "Refused" are cases that none of the others takes
there: they are not counted. Who took over {hopeless_s:g} s for its first call was timed once.
"""

_CASES = """\
## Every case

In GF/s, small volumes in microseconds; `-` where the call is refused. `raw` is the better of eager
and graph, PyTorch the better of its two layouts, and the op without oneDNN is called eagerly.
`mb1_id32_ic32oc64_k3s1d1_ndhwc_f32` reads: batch 1, result of 32x32x32 cells with 32 channels, 64
channels of `out_backprop`, 3x3x3 taps, stride 1, dilation 1.
"""


def write(found: Results, path: pathlib.Path) -> None:
  """Writes the report; the pictures that it shows are in place already."""
  parts = [_INTRODUCTION.format(**found.about), _environment(found)]
  parts += [_markdown(table) for table in tables.overview(found)]
  parts += ["\n".join(f"- {remark}" for remark in tables.remarks(found)) + "\n"]
  folder = path.parent / plots.FOLDER
  parts += [
    f"![{caption}]({plots.FOLDER}/{name}.png)\n"
    for name, caption in plots.CAPTIONS.items()
    if (folder / f"{name}.png").exists()
  ]
  by_theme = tables.by_theme(found)
  parts += [_CASES, *(_markdown(table, level=3) for table in by_theme)] if by_theme else []
  path.write_text("\n".join(parts), encoding="utf-8")


def _environment(found: Results) -> str:
  machine, ran = found.about["machine"], found.about["workers"]
  versions = {
    name: value
    for about in ran.values()
    for name, value in about.items()
    if name in ("tensorflow", "torch", "jax", "tf_conv3d_grad")
  }
  load = "unknown" if machine["load"] is None else f"{machine['load']:.2f}"
  lines = {
    "date": machine["date"],
    "processor": f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB",
    "memory bandwidth (copy)": f"{machine['copy_gb_per_s']:.0f} GB/s",
    "system": f"{machine['system']}, Python {machine['python']}",
    "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    "load a core before the run": load,
    "duration": f"{found.about.get('minutes', 0):.0f} minutes",
  }
  return "\n".join(["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in lines.items()), ""])


def _markdown(table: tables.Table, level: int = 2) -> str:
  head = f"| {' | '.join(table.headings)} |"
  rule = "|" + "---|" * len(table.headings)
  body = [f"| {' | '.join(cells)} |" for cells in table.rows]
  return "\n".join([f"{'#' * level} {table.title}", "", head, rule, *body, ""])
