"""One spatial axis of a convolution and of its transpose, in plain integers.

Per axis a convolution reads, for an output cell `o` and a tap `q`, the input cell

    i = o * stride + q * dilation - pad

where `pad` is the padding in front of the axis. Its transpose adds to that same cell. Everything
that this package does with strides, dilations and padding follows from this line.

The rules for lengths and padding are TensorFlow's, see
https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
"""

from __future__ import annotations

from typing import NamedTuple


def extent(taps: int, dilation: int) -> int:
  """Returns how many input cells a dilated filter spans; less than 1 for a filter of no taps."""
  return (taps - 1) * dilation + 1


def same_output(input_length: int, stride: int) -> int:
  """Returns the convolution's output length with SAME padding."""
  return -(-input_length // stride)


def valid_output(input_length: int, taps: int, stride: int, dilation: int) -> int:
  """Returns the output length with VALID padding, 0 or less where the filter does not fit."""
  return -(-(input_length - extent(taps, dilation) + 1) // stride)


def same_padding(
  input_length: int, output_length: int, taps: int, stride: int, dilation: int
) -> int:
  """Returns SAME padding, front and back together; negative where a stride skips cells."""
  return (output_length - 1) * stride + extent(taps, dilation) - input_length


class Phase(NamedTuple):
  """The result cells `i = stride * m + residue`, and the taps that reach them.

  Attributes:
    residue: Which cells, 0 <= residue < stride.
    taps: The taps that reach them, ascending.
    shifts: For each tap, the `m` that output cell 0 reaches through it: cell `m` gathers output
      cell `m - shift`. Negative where that cell lies in the padding.
  """

  residue: int
  taps: tuple[int, ...]
  shifts: tuple[int, ...]

  @property
  def slice(self) -> slice:
    """The taps, which lie evenly, as a slice of the filter."""
    step = self.taps[1] - self.taps[0] if len(self.taps) > 1 else 1
    return slice(self.taps[0], self.taps[-1] + 1, step)


def phases(taps: int, stride: int, dilation: int, pad: int) -> tuple[Phase, ...]:
  """Splits the taps among those of the result's `stride` phases that any tap reaches.

  All cells that tap `q` reaches leave the same remainder by the stride, so each tap belongs to one
  phase, and no product with an inserted zero is ever formed (Shi et al. 2016, "Is the deconvolution
  layer the same as a convolutional layer?").
  """
  members: dict[int, list[int]] = {}
  for tap in range(taps):
    members.setdefault((tap * dilation - pad) % stride, []).append(tap)
  return tuple(
    Phase(residue, tuple(group), tuple((tap * dilation - pad) // stride for tap in group))
    for residue, group in sorted(members.items())
  )
