"""How a problem is to be computed: what the policy decides and the lowerings obey."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.problem import NDHWC

KERNEL = "kernel"
OVERLAP_ADD = "overlap_add"
TAP_LOOP = "tap_loop"


@dataclasses.dataclass(frozen=True)
class Plan:
  """A lowering and its parameters; hashable, and part of the key of compiled functions.

  Attributes:
    lowering: The name of a file in `lowering/`.
    device: Where it runs, "CPU" or "GPU".
    compiled: Whether XLA compiles it, as a function of its own.
    kernel_dtype: For the kernel, the dtype in which it takes the call.
    kernel_format: For the kernel, the data format in which it takes the call.
    by_sample: For the kernel, whether it takes the batch one sample at a time.
    by_group: For the kernel, whether it takes the groups one by one.
    gathered: For overlap-add, on which of depth, height and width the taps are gathered into the
      matrix product's inner dimension; on the others they are scattered after it.
    rows_first: For overlap-add, whether the rows of the product, cells of `out_backprop`, are held
      channels first.
    columns_first: For overlap-add, the same of its columns, which become the result.
    tile: For overlap-add, how many depth and height cells are computed at a time; None for all.
    samples: For overlap-add, how many samples are computed at a time, a divisor of the batch; None
      for all. Where depth or height is cut it is one.
  """

  lowering: str
  device: str = "CPU"
  compiled: bool = False
  kernel_dtype: tf.DType = tf.float32
  kernel_format: str = NDHWC
  by_sample: bool = False
  by_group: bool = False
  gathered: tuple[bool, bool, bool] = (False, False, False)
  rows_first: bool = False
  columns_first: bool = False
  tile: tuple[int | None, int | None] = (None, None)
  samples: int | None = None

  def in_one_piece(self) -> Plan:
    """Returns the same plan, computing everything at a time."""
    return dataclasses.replace(self, tile=(None, None), samples=None)

  def fields(self) -> dict[str, Any]:
    """Returns the fields that are not their defaults, as JSON has them: names a plan in files.

    What people read of a plan may be worded anew, these are to stay.
    """
    values = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
    return {field.name: _as_json(value) for field, value in values if value != field.default}

  @property
  def parameters(self) -> str:
    """The parameters of the lowering, as people read them."""
    if self.lowering == OVERLAP_ADD:
      gathered = "".join(name for name, is_gathered in zip("DHW", self.gathered) if is_gathered)
      parts = [f"gather {gathered}" if gathered else "scatter all"]
      if self.tile != (None, None):
        parts.append("tiles of " + "x".join("all" if t is None else str(t) for t in self.tile))
      if self.samples is not None:
        parts.append(f"samples by {self.samples}")
      first = [
        name
        for name, is_first in (("rows", self.rows_first), ("columns", self.columns_first))
        if is_first
      ]
      if first:
        parts.append(f"{' and '.join(first)} channels first")
      return ", ".join(parts)
    if self.lowering == KERNEL:
      by_group = ", group by group" if self.by_group else ""
      by_sample = ", sample by sample" if self.by_sample else ""
      return f"{self.kernel_dtype.name} {self.kernel_format}{by_group}{by_sample}"
    return ""

  def __str__(self) -> str:
    words = [self.lowering, "compiled" if self.compiled else "", self.parameters]
    return " ".join(word for word in words if word)


def _as_json(value: Any) -> Any:
  """Returns the value of a field as it comes out of a JSON file."""
  if isinstance(value, tf.DType):
    return value.name
  return list(value) if isinstance(value, tuple) else value
