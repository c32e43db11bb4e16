"""What is to be computed: one validated call, and its canonical form."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import tensorflow as tf

from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis, output_length
from tf_conv3d_grad.problem.layout import OF_DATA_FORMAT, Layout
from tf_conv3d_grad.problem.sizes import Size

# Out channels of a group up to which that is multiplied channel by channel.
_MAX_DEPTHWISE_OUT = 4


class Attributes(NamedTuple):
  """A call's arguments besides its tensors, in the order depth, height, width.

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

  def arguments(self) -> dict[str, Any]:
    """Returns them as the ops take them."""
    layout = OF_DATA_FORMAT[self.data_format]
    return {
      "strides": layout.arranged(1, self.strides, 1),
      "padding": self.padding,
      "data_format": self.data_format,
      "dilations": layout.arranged(1, self.dilations, 1),
    }


@dataclasses.dataclass(frozen=True)
class Problem:
  """One validated call of an op. If no size is a tensor, it is hashable and a key for caches.

  Attributes:
    dtype: The floating-point type of all three tensors.
    data_format: "NDHWC" or "NCDHW".
    padding: "SAME" or "VALID"; what follows from it is in the axes.
    batch: The batch size.
    axes: Depth, height and width.
    in_channels: The channels of the convolution's input.
    filter_in_channels: The filter's in channels, those of one group.
    out_channels: The channels of the convolution's output.
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

    Sizes that are known in one shape settle sizes that are unknown in another.

    Args:
      dtype: The floating-point type of all three.
      attributes: The attributes.
      filter_shape: `[depth, height, width, in_channels / groups, out_channels]`.
      input_shape: The shape of the convolution's input, in the data format's order.
      out_shape: The shape of its output, in the data format's order.
    """
    data_format, padding, strides, dilations = attributes
    *taps, filter_in_channels, filter_out_channels = filter_shape
    layout = OF_DATA_FORMAT[data_format]
    batch, input_lengths, in_channels = layout.split(input_shape)
    out_batch, output_lengths, out_channels = layout.split(out_shape)
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
      *(length for axis in self.axes for length in (axis.input, axis.output, axis.taps, axis.pad)),
    )

  @property
  def is_empty(self) -> bool:
    """Whether one of the three tensors is known to have no cells."""
    shapes = self.input_shape + self.filter_shape + self.out_backprop_shape
    return any(sizes.is_known(size) and size == 0 for size in shapes)

  @property
  def groups(self) -> Size:
    """How many groups the channels are split into."""
    # A result without channels is one group, with any filter.
    return sizes.maximum(self.in_channels // sizes.maximum(self.filter_in_channels, 1), 1)

  @property
  def unambiguous_padding(self) -> str | None:
    """The padding with which all of TensorFlow's kernels compute this convolution.

    They disagree on SAME where a stride skips cells behind the last one that a filter reaches.
    Eigen's and XLA's kernels take a negative padding, and begin later. Without padding, VALID says
    the same as SAME. None where the kernels disagree.
    """
    if self.padding == "VALID" or all(
      sizes.is_known(axis.taps) and axis.stride <= axis.taps for axis in self.axes
    ):
      return self.padding
    padded = [axis.padded for axis in self.axes]
    if not sizes.is_known(*padded):
      return None
    if max(padded) <= 0:
      return "VALID"
    return self.padding if min(padded) >= 0 else None

  @property
  def is_depthwise(self) -> bool:
    """Whether a group is so small that taking its products cell by cell is faster."""
    return bool(
      self.groups > 1
      and self.filter_in_channels == 1
      and self.out_channels // self.groups <= _MAX_DEPTHWISE_OUT
    )

  @property
  def is_pointwise(self) -> bool:
    """Whether the filter is known to have one tap, and there are no strides."""
    return self.has_known_taps and self.taps == self.strides == (1, 1, 1)

  @property
  def is_non_overlapping(self) -> bool:
    """Whether every output cell has input cells of its own."""
    return all(axis.is_non_overlapping for axis in self.axes)

  @functools.cached_property
  def _canonical_axes(self) -> list[tuple[Axis, slice]]:
    return [axis.canonical() for axis in self.axes]

  @functools.cached_property
  def canonical(self) -> Problem:
    """A problem of the same results whose axes have no idle taps and no idle strides."""
    (depth, _), (height, _), (width, _) = self._canonical_axes
    return self.replace(axes=(depth, height, width))

  def live_taps(self, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
    """Returns a filter of this problem without idle taps.

    A shuffled axis of the canonical problem may have more taps; those behind are zero.
    """
    live = [taps for _, taps in self._canonical_axes]
    if all(taps == slice(0, axis.taps) for axis, taps in zip(self.axes, live)):
      return filter
    return filter[tuple(live)]

  @property
  def has_known_taps(self) -> bool:
    """Whether all is known that code which is unrolled over the taps depends on."""
    return sizes.is_known(*self.taps, *self.channels, *(axis.pad for axis in self.axes))

  @property
  def one_group(self) -> Problem:
    """The problem of one group by itself."""
    return self.replace(
      in_channels=self.filter_in_channels, out_channels=self.out_channels // self.groups
    )

  @property
  def channels(self) -> tuple[Size, Size, Size]:
    """The input's, the filter's in channels, and the output's."""
    return self.in_channels, self.filter_in_channels, self.out_channels

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
  def layout(self) -> Layout:
    """Where the dimensions are in this data format."""
    return OF_DATA_FORMAT[self.data_format]

  @property
  def input_shape(self) -> list:
    """The shape of the convolution's input in this data format."""
    return self.layout.arranged(self.batch, [axis.input for axis in self.axes], self.in_channels)

  @property
  def filter_shape(self) -> list:
    """The shape of `filter`."""
    return [*self.taps, self.filter_in_channels, self.out_channels]

  @property
  def out_backprop_shape(self) -> list:
    """The shape of the convolution's output in this data format."""
    return self.layout.arranged(self.batch, [axis.output for axis in self.axes], self.out_channels)

  def replace(self, **changes: Any) -> Problem:
    """Returns a copy with some fields changed."""
    return dataclasses.replace(self, **changes)
