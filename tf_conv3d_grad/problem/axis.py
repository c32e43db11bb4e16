"""One spatial axis of a convolution, and its canonical form."""

from __future__ import annotations

import dataclasses

from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.sizes import Size

# With up to so many phases of an axis, each is taken on its own; see `Axis.canonical`.
_MAX_PHASES = 4


@dataclasses.dataclass(frozen=True)
class Axis:
  """One spatial axis; output cell `o` reaches input cell `o * stride + q * dilation - pad`.

  Attributes:
    input: The length of the convolution's input; of the result of its gradient in the input.
    output: The length of the convolution's output, and of `out_backprop`.
    taps: The length of the filter.
    stride: At least 1.
    dilation: At least 1.
    pad: The padding in front, minus the cells that were cut off there; may be negative.
  """

  input: Size
  output: Size
  taps: Size
  stride: int
  dilation: int
  pad: Size

  @classmethod
  def of(
    cls, input: Size, output: Size, taps: Size, stride: int, dilation: int, padding: str  # noqa: A002
  ) -> Axis:
    """Returns an axis with the padding in front that "SAME" or "VALID" gives it."""
    if padding == "VALID":
      return cls(input, output, taps, stride, dilation, 0)
    # With stride 1 the output is as long as the input, whatever that is.
    n, o = (1, 1) if stride == 1 else (input, output)
    # An integer wherever the sizes that it depends on are known.
    pad = sizes.maximum(geometry.same_padding(n, o, taps, stride, dilation), 0) // 2
    return cls(input, output, taps, stride, dilation, pad)

  @property
  def padded(self) -> Size:
    """How many cells the output reaches beyond the input; negative if it skips cells."""
    if sizes.is_known(self.taps) and self.taps == 1 and not sizes.is_known(self.input):
      return 0  # at most
    return (self.output - 1) * self.stride + geometry.extent(self.taps, self.dilation) - self.input

  @property
  def reach(self) -> Size:
    """How many cells of the padded input the output reaches."""
    last = sizes.maximum(self.output - 1, 0) * self.stride
    return last + geometry.extent(self.taps, self.dilation)

  @property
  def is_shuffled(self) -> bool:
    """Whether the taps reach each input cell at most once, in the order of the cells."""
    return self.stride > 1 and self.dilation == 1 and self.taps == self.stride

  @property
  def is_non_overlapping(self) -> bool:
    """Whether no input cell is reached by two output cells."""
    return self.is_shuffled or (sizes.is_known(self.taps) and self.taps == 1)

  def canonical(self) -> tuple[Axis, slice]:
    """Returns an axis of the same result without idle taps and idle strides.

    Returns:
      The axis, and which taps of this axis it has, without the zeros that it adds behind them.
    """
    if not sizes.is_known(self.input, self.output, self.pad):
      return self, slice(0, self.taps)
    last = (self.output - 1) * self.stride - self.pad
    live = [
      tap
      for tap in range(self.taps)
      if tap * self.dilation - self.pad < self.input and last + tap * self.dilation >= 0
    ] or [0]
    first, taps = live[0], len(live)
    dilation = self.dilation if taps > 1 else 1
    stride = self.stride
    if self.output == 1 and taps > 1:  # nothing strides, so each tap can be a phase of its own
      stride = taps if dilation == 1 else 1
    pad = self.pad - first * self.dilation
    whole = taps
    if _MAX_PHASES < taps < stride <= 2 * taps and dilation == 1:
      # Columns of zeros besides, but not many; each phase on its own would be as many operations.
      whole = stride
    axis = Axis(self.input, self.output, whole, stride, dilation, pad)
    return axis, slice(first, first + taps)


def output_length(n: Size, taps: Size, stride: int, dilation: int, padding: str) -> Size:
  """Returns the length of a convolution's output along an axis whose input has `n` cells."""
  if padding == "SAME":
    return geometry.same_output(n, stride)
  return sizes.maximum(geometry.valid_output(n, taps, stride, dilation), 0)
