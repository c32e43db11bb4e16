"""The three functions of a convolution as benchdnn names them, by the direction data flows in.

The names and arguments of their ops are written down here once more. They are not taken from the
package, because they judge it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_ENDING_OF_SIZES = "_sizes"


class Direction(NamedTuple):
  """One of the three functions, and the public op that computes it.

  Attributes:
    name: As a case's notation has it.
    op: The op's name, in this package and in `tf.raw_ops`.
    tensors: The op's arguments that may be tensors, in the signature's order; the others are
      attributes.
    result: Which tensor of the convolution it returns, by its name as an argument: "input",
      "filter" or "out_backprop".
  """

  name: str
  op: str
  tensors: tuple[str, ...]
  result: str

  @property
  def operands(self) -> tuple[str, ...]:
    """The two tensors of floating-point numbers, which are differentiated."""
    return operands(self.tensors)

  @property
  def sizes(self) -> str | None:
    """The argument that says how large the result is; None where the operands do."""
    return next((name for name in self.tensors if name.endswith(_ENDING_OF_SIZES)), None)


FWD = Direction("fwd", "Conv3D", ("input", "filter"), "out_backprop")
BWD_D = Direction(
  "bwd_d", "Conv3DBackpropInputV2", ("input_sizes", "filter", "out_backprop"), "input"
)
BWD_W = Direction(
  "bwd_w", "Conv3DBackpropFilterV2", ("input", "filter_sizes", "out_backprop"), "filter"
)

DIRECTIONS = {direction.name: direction for direction in (FWD, BWD_D, BWD_W)}

_ATTRIBUTES = ("strides", "padding", "data_format", "dilations")


def of_arguments(arguments: Iterable[str]) -> Direction:
  """Returns the direction whose op takes arguments of these names."""
  tensors = {name for name in arguments if name not in _ATTRIBUTES}
  return next(each for each in DIRECTIONS.values() if set(each.tensors) == tensors)


def operands(tensors: Iterable[str]) -> tuple[str, ...]:
  """Returns those of an op's tensors that are not sizes."""
  return tuple(name for name in tensors if not name.endswith(_ENDING_OF_SIZES))
