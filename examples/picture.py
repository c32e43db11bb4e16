"""The picture: held-out slices as scanned, as they are, and as the network sees them."""

import pathlib

import matplotlib
import numpy as np
from brain_volume import CLASSES, Brain
from matplotlib import colors, patches
from matplotlib import figure as mpl_figure

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


def draw(path: pathlib.Path, brain: Brain, results: dict) -> None:
  """Writes a PNG.

  Args:
    path: Where to.
    brain: The volume and its truth.
    results: `training.Result`s by name.
  """
  with matplotlib.rc_context(THEME):
    # Without pyplot there is no backend to choose: this draws into a file wherever it runs.
    figure = mpl_figure.Figure(figsize=(12, 14.5))
    brains, curve = figure.subfigures(2, 1, height_ratios=[5, 1.15])
    _draw_slices(brains, brain, results)
    _draw_losses(curve, results)
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
    volumes[f"prediction, {name}\nDice grey {grey:.3f}, white {white:.3f}"] = result.predicted
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
  ax = figure.subplots(gridspec_kw=dict(left=0.08, right=0.97, bottom=0.24, top=0.84))
  for (name, result), colour, style in zip(results.items(), RUN_COLOURS, ("-", "--")):
    losses = result.run.losses
    ax.plot(np.arange(1, len(losses) + 1), losses, style, color=colour, label=name, linewidth=1.8)
  ax.set(xlabel="step", ylabel="cross-entropy", ylim=(0, 2), xlim=(1, max(2, len(losses))))
  ax.set_title("loss: both runs see the same cubes from the same weights", fontsize=12.5)
  ax.spines[["top", "right"]].set_visible(False)
  ax.legend(frameon=False)
