"""A network as a list of layers, which Keras and PyTorch both build the same model of."""

from __future__ import annotations

from typing import Any, NamedTuple


class Layer(NamedTuple):
  """One layer.

  Attributes:
    kind: What it does: the name of the method of `Graph` that adds it, or "input".
    inputs: The positions of the layers that it reads.
    channels: How many channels it yields.
    settings: What else a builder has to know.
  """

  kind: str
  inputs: tuple[int, ...]
  channels: int
  settings: dict[str, Any]


class Graph:
  """Layers in the order in which they run; each method adds one and returns its position.

  Attributes:
    layers: The layers; the last one's result is the network's.
  """

  def __init__(self, channels: int) -> None:
    """Begins with the input."""
    self.layers = [Layer("input", (), channels, {})]

  def conv(
    self,
    x: int,
    channels: int,
    taps: int | tuple[int, int, int] = 3,
    stride: int | tuple[int, int, int] = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
  ) -> int:
    """A convolution with SAME padding."""
    settings = {
      "taps": _three(taps),
      "strides": _three(stride),
      "dilation": dilation,
      "groups": groups,
      "bias": bias,
    }
    return self._add("conv", (x,), channels, **settings)

  def depthwise(self, x: int, taps: Any = 3, stride: Any = 1) -> int:
    """A convolution of each channel by itself."""
    channels = self.layers[x].channels
    return self.conv(x, channels, taps, stride, groups=channels)

  def up(self, x: int, channels: int) -> int:
    """A transposed convolution to twice the size."""
    return self._add("up", (x,), channels)

  def norm(self, x: int) -> int:
    """Batch normalization."""
    return self._add("norm", (x,))

  def relu(self, x: int) -> int:
    """The rectifier."""
    return self._add("relu", (x,))

  def swish(self, x: int) -> int:
    """`x * sigmoid(x)`."""
    return self._add("swish", (x,))

  def sigmoid(self, x: int) -> int:
    """The logistic function."""
    return self._add("sigmoid", (x,))

  def halve(self, x: int) -> int:
    """The largest of 2x2x2."""
    return self._add("halve", (x,))

  def mean(self, x: int) -> int:
    """The mean of each channel, as a volume of one cell."""
    return self._add("mean", (x,))

  def add(self, x: int, y: int) -> int:
    """The sum."""
    return self._add("add", (x, y))

  def multiply(self, x: int, y: int) -> int:
    """The product; `y` may be a volume of one cell."""
    return self._add("multiply", (x, y))

  def concat(self, x: int, y: int) -> int:
    """The channels of both."""
    channels = self.layers[x].channels + self.layers[y].channels
    return self._add("concat", (x, y), channels)

  def _add(
    self, kind: str, inputs: tuple[int, ...], channels: int | None = None, **settings: Any
  ) -> int:
    channels = self.layers[inputs[0]].channels if channels is None else channels
    self.layers.append(Layer(kind, inputs, channels, settings))
    return len(self.layers) - 1


def _three(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
  return (value,) * 3 if isinstance(value, int) else value
