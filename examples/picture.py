"""The picture: held-out slices as scanned, as they are, as the network sees them; and the times."""

import pathlib

import matplotlib
import numpy as np
from brain_volume import CLASSES, Brain
from matplotlib import colors, patches
from matplotlib import figure as mpl_figure
from training import Run

INK, PAPER, QUIET = "#e8e6e3", "#14161a", "#8b9099"
CLASS_COLOURS = ("#14161a", "#3fa7d6", "#f6c453")
RUN_COLOURS = ("#ee6352", "#59cd90")
SLICES_SHOWN = 3
THEME = {
  "text.color": INK,
  "axes.labelcolor": QUIET,
  "xtick.color": QUIET,
  "ytick.color": QUIET,
  "axes.edgecolor": QUIET,
  "figure.facecolor": PAPER,
  "axes.facecolor": PAPER,
  "font.size": 11,
}


def draw(path: pathlib.Path, brain: Brain, results: dict, runs: dict) -> None:
  """Writes a PNG.

  Args:
    path: Where to.
    brain: The volume and its truth.
    results: `training.Result`s by name.
    runs: `training.Run`s or errors, by side, by `training.Setting`.
  """
  with matplotlib.rc_context(THEME):
    # Without pyplot there is no backend to choose: this draws into a file wherever it runs.
    figure = mpl_figure.Figure(figsize=(12, 14.5))
    brains, below = figure.subfigures(2, 1, height_ratios=[5, 1.45])
    curve, times = below.subfigures(1, 2, width_ratios=[1, 1.15])
    _draw_slices(brains, brain, results)
    _draw_losses(curve, results)
    _draw_times(times, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_slices(figure, brain, results):
  axes = figure.subplots(
    SLICES_SHOWN,
    2 + len(results),
    squeeze=False,
    gridspec_kw=dict(left=0.05, right=0.99, bottom=0.06, top=0.88, wspace=0.03, hspace=0.03),
  )
  figure.suptitle("MNI152, axial slices that training never saw", fontsize=17, y=0.975)
  classes = colors.ListedColormap(CLASS_COLOURS)
  shown = np.linspace(0, brain.held_out.stop - brain.held_out.start - 1, SLICES_SHOWN + 2)[1:-1]
  inside = np.argwhere(brain.labels[brain.held_out] > 0)[:, 1:]
  (top, left), (bottom, right) = inside.min(axis=0) - 3, inside.max(axis=0) + 4
  volumes = {"input: T1": brain.t1[brain.held_out], "truth": brain.labels[brain.held_out]}
  for name, result in results.items():
    _, grey, white = result.dice
    volumes[f"{name}\nDice grey {grey:.3f}, white {white:.3f}"] = result.predicted
  for column, (title, volume) in enumerate(volumes.items()):
    axes[0, column].set_title(title, fontsize=12.5, pad=9)
    style = (
      dict(cmap="gray", vmin=-3, vmax=2)
      if column == 0
      else dict(cmap=classes, vmin=0, vmax=len(CLASSES) - 1, interpolation="nearest")
    )
    for row, offset in enumerate(shown[::-1].astype(int)):
      ax = axes[row, column]
      ax.imshow(volume[offset, top:bottom, left:right], origin="lower", **style)
      ax.set(xticks=[], yticks=[])
      ax.spines[:].set_visible(False)
      if column == 0:
        ax.set_ylabel(f"z = {brain.slice_mm[brain.held_out][offset]:+.0f} mm")
  figure.legend(
    handles=[
      patches.Patch(facecolor=colour, edgecolor=QUIET, label=name)
      for colour, name in zip(CLASS_COLOURS, CLASSES)
    ],
    loc="lower center",
    ncols=len(CLASSES),
    frameon=False,
    fontsize=12,
  )


def _draw_losses(figure, results):
  ax = figure.subplots(gridspec_kw=dict(left=0.13, right=0.97, bottom=0.2, top=0.86))
  for (name, result), colour, style in zip(results.items(), RUN_COLOURS, ("-", "--")):
    losses = result.run.losses
    ax.plot(np.arange(1, len(losses) + 1), losses, style, color=colour, label=name, linewidth=1.8)
  ax.set(xlabel="step", ylabel="cross-entropy", ylim=(0, 2), xlim=(1, max(2, len(losses))))
  ax.set_title("loss: the same cubes, from the same weights", fontsize=12.5)
  ax.spines[["top", "right"]].set_visible(False)
  ax.legend(frameon=False)


def _draw_times(figure, runs):
  """Two dots a setting, joined by a line; who refuses it says so."""
  ax = figure.subplots(gridspec_kw=dict(left=0.4, right=0.97, bottom=0.2, top=0.86))
  for position, sides in enumerate(runs.values()):
    times = {side: run.step_ms for side, run in sides.items() if isinstance(run, Run)}
    ax.plot(list(times.values()), [position] * len(times), color=QUIET, linewidth=1.5, zorder=1)
    for (side, run), colour in zip(sides.items(), RUN_COLOURS):
      if isinstance(run, Run):
        label = side if position == 0 else None
        ax.scatter(run.step_ms, position, s=45, color=colour, label=label, zorder=2)
      else:
        place = dict(xycoords=("axes fraction", "data"), va="center", ha="right", fontsize=10)
        ax.annotate("refused", (0.99, position), color=colour, **place)
  ax.set_yticks(range(len(runs)), [str(setting).replace("channels ", "") for setting in runs])
  ax.set(xscale="log", ylim=(len(runs) - 0.5, -0.5), xlabel="milliseconds a training step")
  ax.xaxis.set_major_formatter("{x:g}")
  ax.set_title("time, as it is and patched", fontsize=12.5)
  ax.spines[["top", "right"]].set_visible(False)
  ax.legend(frameon=False, fontsize=10)
