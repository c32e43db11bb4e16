"""What the networks learn from: one random batch, the same for everybody."""

from __future__ import annotations

import numpy as np

from benchmarks.steps.networks import Network

# Of stochastic gradient descent with momentum. Adam would turn a rounding error in a gradient near
# zero into a whole step the other way, and losses could not be compared.
LEARNING_RATE = 0.001
MOMENTUM = 0.9


def batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
  """Returns a volume, `[1, depth, height, width, channels]`, and the classes of its voxels.

  Where the volume as a whole is of a class, that is `[1, 1, 1, 1]`, as the network's result is.
  """
  rng = np.random.default_rng(0)
  volume = rng.normal(size=(1, *network.size, network.channels)).astype(np.float32)
  if not network.per_voxel:
    return volume, np.ones([1, 1, 1, 1], np.int32)
  # Classes that follow from the volume can be learnt, so that losses move.
  edges = np.linspace(-1, 1, network.classes + 1)[1:-1]
  return volume, np.digitize(volume[..., 0], edges).astype(np.int32)
