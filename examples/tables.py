"""What the example found, as tables in the terminal."""

from __future__ import annotations

import numpy as np
from rich import box, markup, table
from training import Run

# Times faster that make a winner: less is noise on a busy machine.
CLEARLY = 1.5
COMPARED = 10  # Rounding errors grow from step to step; so many are compared.


def of_results(results: dict) -> table.Table:
  """Times, losses and Dice of each training; `results` are `training.Result`s by name."""
  losses = [result.run.losses for result in results.values()]
  grid = table.Table(
    box=box.SIMPLE_HEAD,
    caption=f"The losses of one step differ by {np.ptp(losses, axis=0).max():.0e} at most.",
  )
  grid.add_column("\ntraining", no_wrap=True)
  headings = "first step", "later steps", "last loss"
  for heading in (*headings, "Dice other", "Dice grey", "Dice white"):
    grid.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
  for name, result in results.items():
    run = result.run
    grid.add_row(
      name,
      f"{run.first_step_s:.1f} s",
      f"{run.step_ms:.0f} ms",
      f"{run.losses[-1]:.4f}",
      *(f"[bold]{score:.3f}" for score in result.dice),
    )
  return grid


def of_runs(runs: dict) -> table.Table:
  """One row a setting: `training.Run`s or errors, by side, by `training.Setting`."""
  grid = table.Table(
    box=box.SIMPLE_HEAD,
    title="A training step, milliseconds, and the first one, seconds",
    caption_justify="left",
    collapse_padding=True,
    pad_edge=False,
  )
  for heading in ("\nprecision", "\nchannels", "\nby XLA"):
    grid.add_column(heading, no_wrap=True)
  headings = "as it is\nms", "\nfirst", "patched\nms", "\nfirst", "times\nfaster"
  for heading in (*headings, "losses\ndiffer"):
    grid.add_column(heading, justify="right", no_wrap=True)
  errors = {}
  for setting, sides in runs.items():
    stock, ours = sides["as it is"], sides["patched"]
    if isinstance(stock, Run):
      theirs, last = _times(stock), _compared(stock, ours)
    else:
      number = errors.setdefault(_reason(stock), len(errors) + 1)
      theirs, last = ("[red]refused", f"[red]error {number}"), ("[green]runs", "")
    grid.add_row(
      setting.dtype.replace("mixed_", ""),
      setting.data_format.replace("channels_", ""),
      "yes" if setting.compiled else "no",
      *theirs,
      *_times(ours),
      *last,
    )
  reasons = [f"[red]error {number}[/]: {reason}" for reason, number in errors.items()]
  grid.caption = "\n".join(reasons) or None
  return grid


def _times(run: Run) -> tuple[str, str]:
  return _number(run.step_ms), f"{run.first_step_s:.1f}"


def _compared(stock: Run, ours: Run) -> tuple[str, str]:
  """How many times faster, a clear gain in green; by how much losses differ, over the first."""
  factor = stock.step_ms / ours.step_ms
  compared = min(len(stock.losses), len(ours.losses), COMPARED)
  difference = np.abs(stock.losses[:compared] - ours.losses[:compared]).max()
  ratio = _number(factor)
  return (
    f"[bold green]{ratio}" if factor > CLEARLY else ratio,
    f"{difference / stock.losses[0]:.0e}",
  )


def _reason(error: Exception) -> str:
  """What went wrong, without where: that stands before and after it."""
  text = str(error).partition("\n\t [[{{node")[0].strip().splitlines()[-1]
  return f"{type(error).__name__}: {markup.escape(text)}"


def _number(value: float) -> str:
  return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
