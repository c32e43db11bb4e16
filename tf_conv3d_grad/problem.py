"""What is to be computed: one validated call, free of the data format's order of dimensions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_conv3d_grad import geometry, sizes
from tf_conv3d_grad.sizes import Size

NDHWC = "NDHWC"
NCDHW = "NCDHW"

# Phases of an axis up to which each is taken on its own; see `Axis.simplified`.
_MAX_PHASES = 4
# Out channels of a group up to which that is multiplied channel by channel.
_MAX_DEPTHWISE_OUT = 4


@dataclasses.dataclass(frozen=True)
class Axis:
  """One spatial axis; output cell `o` reaches input cell `o * stride + q * dilation - lead`.

  Attributes:
    input: The length of the result, the convolution's input.
    output: The length of `out_backprop`, the convolution's output.
    taps: The length of the filter.
    stride: At least 1.
    dilation: At least 1.
    lead: The padding in front, less any cells that were cut off there; may be negative.
  """

  input: Size
  output: Size
  taps: Size
  stride: int
  dilation: int
  lead: Size

  @classmethod
  def of(
    cls, input: Size, output: Size, taps: Size, stride: int, dilation: int, padding: str  # noqa: A002
  ) -> Axis:
    """Returns an axis with the padding in front that "SAME" or "VALID" gives it."""
    if padding == "VALID":
      return cls(input, output, taps, stride, dilation, 0)
    # With stride 1 the output is as long as the input, whatever that is.
    n, o = (1, 1) if stride == 1 else (input, output)
    # An integer wherever the sizes on which it hangs are known.
    lead = sizes.maximum(geometry.same_padding(n, o, taps, stride, dilation), 0) // 2
    return cls(input, output, taps, stride, dilation, lead)

  @property
  def is_shuffled(self) -> bool:
    """Whether the taps reach each cell of the result at most once, in the order of the cells."""
    return self.stride > 1 and self.dilation == 1 and self.taps == self.stride

  @property
  def reaches_own_cells(self) -> bool:
    """Whether no cell of the result is reached by two cells of `out_backprop`."""
    return self.is_shuffled or (sizes.is_known(self.taps) and self.taps == 1)

  def simplified(self) -> tuple[Axis, slice]:
    """Returns an axis of the same result without idle taps and idle strides.

    Returns:
      The axis, and which of this axis's taps it has, less the zeros that it adds behind them.
    """
    if not sizes.is_known(self.input, self.output, self.lead):
      return self, slice(0, self.taps)
    last = (self.output - 1) * self.stride - self.lead
    live = [
      tap
      for tap in range(self.taps)
      if tap * self.dilation - self.lead < self.input and last + tap * self.dilation >= 0
    ] or [0]
    first, taps = live[0], len(live)
    dilation = self.dilation if taps > 1 else 1
    stride = self.stride
    if self.output == 1 and taps > 1:  # nothing strides, so each tap can be a phase of its own
      stride = taps if dilation == 1 else 1
    lead = self.lead - first * self.dilation
    whole = taps
    if _MAX_PHASES < taps < stride <= 2 * taps and dilation == 1:
      # Columns of zeros besides, but not many; each phase on its own would be as many operations.
      whole = stride
    axis = Axis(self.input, self.output, whole, stride, dilation, lead)
    return axis, slice(first, first + taps)


class Attributes(NamedTuple):
  """What a call says besides its tensors, free of the data format's order of dimensions.

  Attributes:
    data_format: "NDHWC" or "NCDHW".
    padding: "SAME" or "VALID".
    strides: Those of depth, height and width.
    dilations: Those of depth, height and width.
  """

  data_format: str
  padding: str
  strides: tuple[int, int, int]
  dilations: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
  """One validated call of the op; hashable, and a key for caches, where no size is a tensor.

  Attributes:
    dtype: The floating-point type of all three tensors.
    data_format: "NDHWC" or "NCDHW".
    padding: "SAME" or "VALID"; what follows from it is in the axes.
    batch: The batch size.
    axes: Depth, height and width.
    in_channels: The channels of the result.
    filter_in_channels: The filter's in channels, those of one group.
    out_channels: The channels of `out_backprop`.
  """

  dtype: tf.DType
  data_format: str
  padding: str
  batch: Size
  axes: tuple[Axis, Axis, Axis]
  in_channels: Size
  filter_in_channels: Size
  out_channels: Size

  @classmethod
  def of_shapes(
    cls,
    dtype: tf.DType,
    attributes: Attributes,
    filter_shape: list[Size],
    input_shape: list[Size],
    out_shape: list[Size],
  ) -> Problem:
    """Returns the problem of three tensors that fit each other.

    What is known of one shape settles what is unknown of another.

    Args:
      dtype: The floating-point type of all three.
      attributes: The attributes.
      filter_shape: `[depth, height, width, in_channels / groups, out_channels]`.
      input_shape: The shape of the convolution's input, in the data format's order.
      out_shape: The shape of its output, in the data format's order.
    """
    data_format, padding, strides, dilations = attributes
    *taps, filter_in_channels, filter_out_channels = filter_shape
    batch, *input_lengths, in_channels = in_order(input_shape, data_format)
    out_batch, *output_lengths, out_channels = in_order(out_shape, data_format)
    axes = []
    for n, o, k, stride, dilation in zip(input_lengths, output_lengths, taps, strides, dilations):
      if not sizes.is_known(o):
        needed = output_length(n, k, stride, dilation, padding)
        o = needed if sizes.is_known(needed) else o
      axes.append(Axis.of(n, o, k, stride, dilation, padding))
    return cls(
      dtype=dtype,
      data_format=data_format,
      padding=padding,
      batch=batch if sizes.is_known(batch) else out_batch,
      axes=(axes[0], axes[1], axes[2]),
      in_channels=in_channels,
      filter_in_channels=filter_in_channels,
      out_channels=filter_out_channels if sizes.is_known(filter_out_channels) else out_channels,
    )

  @property
  def attributes(self) -> Attributes:
    """What the call says besides its tensors."""
    return Attributes(self.data_format, self.padding, self.strides, self.dilations)

  @property
  def is_static(self) -> bool:
    """Whether every size is a Python integer."""
    return sizes.is_known(
      self.batch,
      self.in_channels,
      self.filter_in_channels,
      self.out_channels,
      *(length for axis in self.axes for length in (axis.input, axis.output, axis.taps, axis.lead)),
    )

  @property
  def groups(self) -> Size:
    """How many groups the channels are split into."""
    # A result of no channels is one group, whatever the filter.
    return sizes.maximum(self.in_channels // sizes.maximum(self.filter_in_channels, 1), 1)

  @property
  def is_depthwise(self) -> bool:
    """Whether a group is so small that its products are better taken cell by cell."""
    return bool(
      self.groups > 1
      and self.filter_in_channels == 1
      and self.out_channels // self.groups <= _MAX_DEPTHWISE_OUT
    )

  @property
  def is_cellwise(self) -> bool:
    """Whether every cell of `out_backprop` has cells of the result of its own: nothing overlaps."""
    return all(axis.simplified()[0].reaches_own_cells for axis in self.axes)

  @property
  def taps(self) -> tuple[Size, Size, Size]:
    """The three spatial lengths of the filter."""
    depth, height, width = self.axes
    return depth.taps, height.taps, width.taps

  @property
  def strides(self) -> tuple[int, int, int]:
    """The three strides."""
    depth, height, width = self.axes
    return depth.stride, height.stride, width.stride

  @property
  def dilations(self) -> tuple[int, int, int]:
    """The three dilations."""
    depth, height, width = self.axes
    return depth.dilation, height.dilation, width.dilation

  @property
  def input_shape(self) -> list:
    """The shape of the result in this data format."""
    return self.in_format(self.batch, [axis.input for axis in self.axes], self.in_channels)

  @property
  def filter_shape(self) -> list:
    """The shape of `filter`."""
    return [*self.taps, self.filter_in_channels, self.out_channels]

  @property
  def out_backprop_shape(self) -> list:
    """The shape of `out_backprop` in this data format."""
    return self.in_format(self.batch, [axis.output for axis in self.axes], self.out_channels)

  def in_format(self, batch: Any, spatial: Sequence, channels: Any) -> list:
    """Returns the five values in this data format's order."""
    if self.data_format == NDHWC:
      return [batch, *spatial, channels]
    return [batch, channels, *spatial]

  def replace(self, **changes: Any) -> Problem:
    """Returns a copy with some fields changed."""
    return dataclasses.replace(self, **changes)


def output_length(n: Size, taps: Size, stride: int, dilation: int, padding: str) -> Size:
  """Returns the length of a convolution's output along an axis, whose input has `n` cells."""
  if padding == "SAME":
    return geometry.same_output(n, stride)  # type: ignore[arg-type]  # sizes add like integers
  return sizes.maximum(geometry.valid_output(n, taps, stride, dilation), 0)  # type: ignore[arg-type]


def in_order(shape: list, data_format: str) -> list:
  """Returns batch, depth, height, width and channels of a shape in a data format."""
  return shape if data_format == NDHWC else [shape[i] for i in (0, 2, 3, 4, 1)]


def channels_last(tensor: tf.Tensor, data_format: str) -> tf.Tensor:
  """Returns `tensor` with its channels moved to the end, if they are not there."""
  return tensor if data_format == NDHWC else tf.transpose(tensor, [0, 2, 3, 4, 1])


def from_channels_last(tensor: tf.Tensor, data_format: str) -> tf.Tensor:
  """Undoes `channels_last`."""
  return tensor if data_format == NDHWC else tf.transpose(tensor, [0, 4, 1, 2, 3])
