"""What there is to choose where oneDNN computes inside of XLA."""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a function is computed.

  Attributes:
    dtype: The dtype that oneDNN is given.
    depth: For the gradient in the filter, how many depth cells of the output are summed over at a
      time; None for all.
    samples: For that, how many samples, a divisor of the batch; None for all.
    slab: For that, how many of these depth cells are in one channel; None for all of a sample's.
  """

  dtype: tf.DType
  depth: int | None = None
  samples: int | None = None
  slab: int | None = None

  def fields(self) -> dict:
    """Returns what names this plan in files, in JSON's types; not to be worded anew."""
    return {**dataclasses.asdict(self), "dtype": self.dtype.name}

  def __str__(self) -> str:
    parts = [
      self.dtype.name,
      "" if self.depth is None else f"tiles of {self.depth}",
      "" if self.samples is None else f"samples by {self.samples}",
      "" if self.slab is None else f"slabs of {self.slab}",
    ]
    return ", ".join(part for part in parts if part)
