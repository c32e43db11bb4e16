"""What is shown on the terminal."""

from __future__ import annotations

from rich import progress, table
from rich.console import Console

from benchmarks import tables
from benchmarks.results import Results


def show(found: Results, console: Console) -> None:
  """Prints the tables, and everything worth a remark."""
  for content in tables.overview(found):
    shown = table.Table(title=content.title, title_justify="left")
    for heading in content.headings:
      shown.add_column(heading, no_wrap="case" in heading.split())
    for cells in content.rows:
      shown.add_row(*cells)
    console.print(shown)
  for remark in tables.remarks(found):
    console.print(remark, highlight=False, markup=False)


def progress_bar(console: Console) -> progress.Progress:
  """Returns a bar that says how far a run is and what it is at."""
  return progress.Progress(
    progress.BarColumn(20),
    progress.MofNCompleteColumn(),
    progress.TimeElapsedColumn(),
    progress.TextColumn("{task.description}"),
    console=console,
  )
