"""What the example found, as tables in the terminal."""

import numpy as np
import stock_comparison
from rich import box, table

# Times faster that make a winner: less is noise on a busy machine.
CLEARLY = 1.5
READING_AID = (
  "up1, up2: transposed convolutions; _gradient: input gradients of convolutions.\n"
  "filter: taps k, stride s and dilation d of each axis.\n"
  "XLA: inside tf.function(jit_compile=True).\n"
  "TF_ENABLE_ONEDNN_OPTS=0 in the environment shows builds without oneDNN, such as\n"
  "those for Arm, Windows and macOS."
)


def of_results(results: dict) -> table.Table:
  """Times, losses and Dice of each training; `results` are `training.Result`s by name."""
  losses = [result.run.losses for result in results.values()]
  grid = table.Table(
    box=box.SIMPLE_HEAD,
    caption=f"The two losses of a step differ by {np.ptp(losses, axis=0).max():.0e} at most.",
  )
  grid.add_column("\ntraining", no_wrap=True)
  headings = "first step", "later steps", "first loss", "last loss"
  for heading in (*headings, "Dice other", "Dice grey", "Dice white"):
    grid.add_column(heading.replace(" ", "\n"), justify="right")
  for name, result in results.items():
    run = result.run
    grid.add_row(
      name,
      f"{run.first_step_s:.1f} s",
      f"{run.step_ms:.0f} ms",
      f"{run.losses[0]:.4f}",
      f"{run.losses[-1]:.4f}",
      *(f"[bold]{score:.3f}" for score in result.dice),
    )
  return grid


def of_races(dtype: str, races) -> table.Table:
  """One row a call, two columns a mode; `races` yields calls with a `Race` for each mode."""
  grid = table.Table(
    box=box.SIMPLE_HEAD,
    title=f"{dtype}: milliseconds, stock TensorFlow | this op",
    caption_justify="left",
  )
  grid.add_column("\ncall")
  grid.add_column("\nfilter")
  for mode in stock_comparison.MODES:
    grid.add_column(f"{mode}\nstock", justify="right")
    grid.add_column("\nop", justify="right")
  errors = set()
  for call, modes in races:
    grid.add_row(call.name, call.kernel, *(text for race in modes for text in _pair(race)))
    errors |= {race.stock for race in modes if isinstance(race.stock, str)}
  grid.caption = "\n".join(f"[red]error[/]: {error}" for error in sorted(errors)) or None
  return grid


def _pair(race: stock_comparison.Race) -> tuple[str, str]:
  """Both results, an error in red and a clear winner in green."""
  ours = _number(race.ours)
  if isinstance(race.stock, str):
    return "[red]error", f"[bold green]{ours}"
  stock = _number(race.stock)
  if race.stock > CLEARLY * race.ours:
    ours = f"[bold green]{ours}"
  elif race.ours > CLEARLY * race.stock:
    stock = f"[bold green]{stock}"
  return stock, ours


def _number(milliseconds: float) -> str:
  return f"{milliseconds:,.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"
