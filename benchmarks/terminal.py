"""What is shown on the terminal."""

from __future__ import annotations

from typing import Any

from rich import progress, table
from rich.console import Console

from benchmarks import tables
from benchmarks.results import Results
from tf_conv3d_grad.conformance.case import Case

_COLOURS = {tables.REACHED: "green", tables.MISSED: "red"}


def show(found: Results, console: Console) -> None:
  """Prints the tables of what has to be reached, and everything worth a remark."""
  for content in tables.overview(found):
    shown = table.Table(title=content.title, title_justify="left")
    for heading in content.headings:
      shown.add_column(heading, no_wrap=heading in ("case", "worst case", "contestant"))
    for cells in content.rows:
      style = next((_COLOURS[cell] for cell in cells if cell in _COLOURS), None)
      shown.add_row(*cells[:-1], f"[{style}]{cells[-1]}[/]" if style else cells[-1])
    console.print(shown)
  for remark in tables.remarks(found):
    console.print(remark, highlight=False, markup=False)


def show_case(case: Case, outcomes: dict[str, dict[str, Any]], console: Console) -> None:
  """Prints a case's compiled speed and how many times faster than each of the others the op is."""
  speed, parts = tables.one_line(case, outcomes)
  ratios = ", ".join(f"[{colour}]{text}[/]" for text, colour in parts)
  console.print(f"{str(case):<44} {speed:>6} GF/s compiled; {ratios}", highlight=False)


def progress_bar(console: Console) -> progress.Progress:
  """Returns a bar that says how far a run is and what it is at."""
  return progress.Progress(
    progress.BarColumn(20),
    progress.MofNCompleteColumn(),
    progress.TimeElapsedColumn(),
    progress.TextColumn("{task.description}"),
    console=console,
  )
