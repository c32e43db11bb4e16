"""Which TensorFlows the package is tested with."""

from __future__ import annotations

import re
import warnings

import tensorflow as tf

# The oldest and the newest that `make compat` runs the whole suite on.
OLDEST, NEWEST = (2, 16), (2, 21)


def warn_if_untested() -> None:
  """Warns once where this TensorFlow is older or newer than those that are tested."""
  match = re.match(r"(\d+)\.(\d+)", tf.__version__)
  if match is None or OLDEST <= (int(match[1]), int(match[2])) <= NEWEST:
    return
  warnings.warn(
    f"tf_conv3d_grad: TensorFlow {tf.__version__} was not tested, only {_text(OLDEST)} to "
    f"{_text(NEWEST)} were. To compare the ops with an oracle here, run: "
    "python -m tf_conv3d_grad check",
    stacklevel=2,
  )


def _text(version: tuple[int, int]) -> str:
  return ".".join(map(str, version))
