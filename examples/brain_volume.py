"""A real brain to learn from: the MNI152 T1 volume with its tissue maps.

nilearn ships the three volumes inside its wheel, so nothing is downloaded.
"""

from __future__ import annotations

import dataclasses

import numpy as np

CLASSES = ("background / CSF", "grey matter", "white matter")
HELD_OUT_SLICES = 24
LARGEST_CUBE = 32  # What fits above and below the held-out slices, in steps of 4 voxels.


@dataclasses.dataclass(frozen=True)
class Brain:
  """A T1 volume, the class of each of its voxels, and the slices kept for the exam.

  Attributes:
    t1: float32 `[depth, height, width]`; depth runs from the feet to the head, so that
      `t1[k]` is an axial slice. Zero mean and unit variance within the brain.
    labels: int32 of the same shape, indices into `CLASSES`.
    held_out: The axial slices that training never sees.
    slice_mm: The height of each axial slice, in millimetres of MNI space.
  """

  t1: np.ndarray
  labels: np.ndarray
  held_out: slice
  slice_mm: np.ndarray


def load(resolution: int = 2, multiple: int = 4) -> Brain:
  """Loads the volume, one voxel `resolution` millimetres wide, padded to a `multiple` per axis."""
  from nilearn import datasets  # Takes seconds: only whoever wants the data pays for it.

  image = datasets.load_mni152_template(resolution=resolution)
  grey = datasets.load_mni152_gm_template(resolution=resolution)
  white = datasets.load_mni152_wm_template(resolution=resolution)
  t1, grey, white = (_axial_first(volume, multiple) for volume in (image, grey, white))
  start = (len(t1) - HELD_OUT_SLICES) // 2
  return Brain(
    t1=_standardize(t1),
    labels=np.argmax([1 - grey - white, grey, white], axis=0).astype(np.int32),
    held_out=slice(start, start + HELD_OUT_SLICES),
    slice_mm=image.affine[2, 3] + resolution * np.arange(len(t1)),
  )


def training_cubes(brain: Brain, size: int, seed: int):
  """Yields random cubes of brain without end, none of which touches a held-out slice.

  Args:
    brain: Where to cut them from.
    size: The edge of a cube, in voxels.
    seed: The same seed yields the same cubes.

  Yields:
    `(images, labels)`: float32 `[1, size, size, size, 1]` and int32 `[1, size, size, size]`,
    batches of one.
  """
  inside = np.argwhere(brain.labels > 0)
  lowest, highest = inside.min(axis=0), inside.max(axis=0) + 1 - size
  depths = [
    start
    for start in range(lowest[0], highest[0] + 1)
    if start + size <= brain.held_out.start or start >= brain.held_out.stop
  ]
  rng = np.random.default_rng(seed)
  while True:
    corner = rng.choice(depths), *rng.integers(lowest[1:], highest[1:] + 1)
    cube = tuple(slice(start, start + size) for start in corner)
    yield brain.t1[cube][np.newaxis, ..., np.newaxis], brain.labels[cube][np.newaxis]


def dice(predicted: np.ndarray, truth: np.ndarray) -> list[float]:
  """The overlap of prediction and truth for each class: 1 is perfect, 0 is none."""
  scores = []
  for label in range(len(CLASSES)):
    a, b = predicted == label, truth == label
    scores.append(float(2 * np.sum(a & b) / (np.sum(a) + np.sum(b))))
  return scores


def _axial_first(image, multiple: int) -> np.ndarray:
  """The voxels `[x, y, z]` of a volume as `[z, y, x]`, padded to a `multiple` per axis."""
  volume = np.transpose(image.get_fdata(dtype=np.float32))
  return np.pad(volume, [(0, -length % multiple) for length in volume.shape])


def _standardize(t1: np.ndarray) -> np.ndarray:
  """Scales by the brain's own statistics; the empty space around it is just 'very dark'."""
  brain = t1[t1 > 0.05 * t1.max()]
  return np.maximum((t1 - brain.mean()) / brain.std(), -3).astype(np.float32)
