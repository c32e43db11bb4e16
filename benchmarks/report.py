"""RESULTS.md: the results of a run, for reading."""

from __future__ import annotations

import pathlib
from typing import Any

from benchmarks import plots, results, sampling, tables
from benchmarks.steps import plot as steps_plot
from benchmarks.steps import results as steps_results
from benchmarks.steps import tables as steps_tables

_INTRODUCTION = """\
## The three functions, call by call

Written by `python -m benchmarks`. Only useful arithmetic counts, not the zeros that a stride or a
dilation would insert. Times are medians, and on each case the contestants took turns. Every result
was compared to the float64 oracle or, for large cases, to TensorFlow's own kernel. The data is
random, without zeros.

The functions are those of `Conv3D`, `Conv3DBackpropInputV2` and `Conv3DBackpropFilterV2`: the
convolution, its gradient in the input and its gradient in the filter. Each has tables of its own.
What is said of first calls, memory and scaling is about the gradient in the input. A ratio above 1
means that the op is faster.

- "Compiled" is inside a function with `jit_compile=True`, "default" is eager or in a graph without
  it.
- "The better raw" is TensorFlow's own op, called eagerly or in a graph, whichever is faster. "The
  better of eager and graph" is the same of this op.
- "Refused" are cases that none of the others takes there. They are not counted.
- A contestant whose first call took over {hopeless_s:g} s was timed once.
- Before each sample of short calls, the contestant runs for {warm_up_ms:g} ms that are not timed:
  threads that have slept are slower for some ten calls.
"""

_CASES = """\
## Every case

In GF/s, small volumes in microseconds; `-` is a call that is refused. `raw` is the better of eager
and graph, PyTorch the better of its two layouts. The op without oneDNN is called eagerly.
`mb1_id32_ic32oc64_k3s1d1_ndhwc_f32` reads: batch 1, an input of 32x32x32 cells with 32 channels, an
output with 64 channels, 3x3x3 taps, stride 1, dilation 1. `_fwd` at the end is the convolution,
`_bwd_w` its gradient in the filter, neither its gradient in the input.
"""


def write(folder: pathlib.Path) -> None:
  """Writes the report on the results in a folder; the pictures that it shows are there already."""
  parts = ["# Results\n"]
  steps = steps_results.Results.load(folder)
  if steps is not None:
    parts += _steps(steps)
  if (folder / results.NAME).exists():
    parts += _cases(results.Results.load(folder))
  (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")


def _steps(found: steps_results.Results) -> list[str]:
  """Returns the paragraphs about whole training steps."""
  parts = [steps_tables.explained(), _environment(found.about)]
  parts += [f"![{steps_plot.CAPTION}]({plots.FOLDER}/{steps_plot.NAME}.png)\n"]
  parts += [_markdown(table, level=3) for table in steps_tables.overview(found)]
  return parts + _list(steps_tables.remarks(found))


def _cases(found: results.Results) -> list[str]:
  """Returns the paragraphs about single calls of the op."""
  warm_up_ms = 1e3 * sampling.WARM_UP_S
  introduction = _INTRODUCTION.format(warm_up_ms=warm_up_ms, **found.about)
  parts = [introduction, _environment(found.about)]
  parts += [_markdown(table) for table in tables.overview(found)]
  parts += _list(tables.remarks(found))
  folder = found.folder / plots.FOLDER
  parts += [
    f"![{caption}]({plots.FOLDER}/{name}.png)\n"
    for name, caption in plots.CAPTIONS.items()
    if (folder / f"{name}.png").exists()
  ]
  by_theme = tables.by_theme(found)
  return parts + ([_CASES, *(_markdown(table, level=3) for table in by_theme)] if by_theme else [])


def _list(remarks: list[str]) -> list[str]:
  return ["\n".join(f"- {remark}" for remark in remarks) + "\n"] if remarks else []


def _environment(about: dict[str, Any]) -> str:
  machine, ran = about["machine"], about["workers"]
  versions = {
    name: value
    for about in ran.values()
    for name, value in about.items()
    if name in ("tensorflow", "keras", "torch", "jax", "tf_conv3d_grad")
  }
  load = "unknown" if machine["load"] is None else f"{machine['load']:.2f}"
  lines = {
    "date": machine["date"],
    "processor": f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB",
    "memory bandwidth (copy)": f"{machine['copy_gb_per_s']:.0f} GB/s",
    "system": f"{machine['system']}, Python {machine['python']}",
    "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    "load a core before the run": load,
    "duration": f"{about.get('minutes', 0):.0f} minutes",
  }
  return "\n".join(["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in lines.items()), ""])


def _markdown(table: tables.Table, level: int = 2) -> str:
  head = f"| {' | '.join(table.headings)} |"
  rule = "|" + "---|" * len(table.headings)
  body = [f"| {' | '.join(cells)} |" for cells in table.rows]
  return "\n".join([f"{'#' * level} {table.title}", "", head, rule, *body, ""])
