"""The choices in computing an overlap-add."""

from __future__ import annotations

import dataclasses

from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST, Layout


@dataclasses.dataclass(frozen=True)
class Plan:
  """How an overlap-add is computed.

  Attributes:
    gathered: On which of depth, height and width the taps are gathered into the matrix product's
      inner dimension; on the others they are scattered after it.
    rows: The layout of the product's rows, cells of `out_backprop`.
    columns: The layout of its columns, which become the result.
    tile: How many depth and height cells are computed at a time; None for all.
    samples: How many samples are computed at a time, a divisor of the batch; None for all. Where
      depth or height is tiled it is one.
    in_xla: Whether it is part of what XLA compiles. Only there is a loop over cells fused, and a
      tile written in its place.
  """

  gathered: tuple[bool, bool, bool] = (False, False, False)
  rows: Layout = CHANNELS_LAST
  columns: Layout = CHANNELS_LAST
  tile: tuple[int | None, int | None] = (None, None)
  samples: int | None = None
  in_xla: bool = False

  def untiled(self) -> Plan:
    """Returns the same plan without tiles."""
    return dataclasses.replace(self, tile=(None, None), samples=None)

  def fields(self) -> dict:
    """Returns what names this plan in files, in JSON's types; not to be worded anew."""
    return {
      "gathered": list(self.gathered),
      "rows_first": self.rows == CHANNELS_FIRST,
      "columns_first": self.columns == CHANNELS_FIRST,
      "tile": list(self.tile),
      "samples": self.samples,
    }

  def __str__(self) -> str:
    gathered = "".join(name for name, is_gathered in zip("DHW", self.gathered) if is_gathered)
    parts = [f"gather {gathered}" if gathered else "scatter all"]
    if self.tile != (None, None):
      parts.append("tiles of " + "x".join("all" if t is None else str(t) for t in self.tile))
    if self.samples is not None:
      parts.append(f"samples by {self.samples}")
    held = (("rows", self.rows), ("columns", self.columns))
    first = [name for name, layout in held if layout == CHANNELS_FIRST]
    if first:
      parts.append(f"{' and '.join(first)} channels first")
    return ", ".join(parts)
