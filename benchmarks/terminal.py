"""What is shown on the terminal."""

from __future__ import annotations

from rich import progress, table
from rich.console import Console

from benchmarks.tables import Table

# How wide the output is where it goes to a file.
_FILE_COLUMNS = 150


def console() -> Console:
  """Returns where to print."""
  found = Console()
  return found if found.is_terminal else Console(width=_FILE_COLUMNS)


def show(tables: list[Table], remarks: list[str], console: Console) -> None:
  """Prints the tables, and everything worth a remark."""
  for content in tables:
    shown = table.Table(title=content.title, title_justify="left")
    for heading in content.headings:
      shown.add_column(heading, no_wrap="case" in heading.split())
    for cells in content.rows:
      shown.add_row(*cells)
    console.print(shown)
  for remark in remarks:
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
