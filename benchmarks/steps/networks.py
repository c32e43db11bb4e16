"""The networks that are trained, each as a list of layers.

Filters, strides, dilations, groups and the way layers are joined are the papers'. Volumes are crops
and networks narrower or less deep, so that a step takes some tens of milliseconds on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.steps.graph import Graph

# What a network's convolutions are: decides in which geometric means it counts.
PLAIN, GROUPED = "plain", "grouped"


class Network(NamedTuple):
  """One network and what it is trained on.

  Attributes:
    title: Its name, paper and volume.
    kind: `PLAIN` or `GROUPED`.
    build: Adds the layers to a graph that has the input.
    size: The volume's depth, height and width.
    channels: The volume's channels.
    classes: How many kinds to tell apart.
    per_voxel: Whether each voxel is of a kind, or the volume as a whole.
  """

  title: str
  kind: str
  build: Callable[[Graph, int], None]
  size: tuple[int, int, int]
  channels: int
  classes: int
  per_voxel: bool

  def graph(self) -> Graph:
    """Returns its layers."""
    graph = Graph(self.channels)
    self.build(graph, self.classes)
    return graph


def unet3d(g: Graph, classes: int) -> None:
  """Three levels, pooled and convolved up again, joined by concatenation."""

  def convolve(x: int, channels: int) -> int:
    return g.relu(g.norm(g.conv(x, channels)))

  x, skips = 0, []
  for channels in (8, 16, 32):
    x = convolve(convolve(x, channels), 2 * channels)
    skips.append(x)
    x = g.halve(x)
  x = convolve(convolve(x, 64), 128)
  for skip in reversed(skips):
    x = g.concat(skip, g.up(x, g.layers[x].channels))
    channels = g.layers[skip].channels
    x = convolve(convolve(x, channels), channels)
  g.conv(x, classes, 1, bias=True)


def vnet(g: Graph, classes: int) -> None:
  """Filters of 5x5x5 in residual stages; volumes are halved and doubled by 2x2x2 ones."""

  def stage(x: int, joined: int, convolutions: int) -> int:
    shortcut = x
    for number in range(convolutions):
      x = g.conv(joined if number == 0 else x, g.layers[shortcut].channels, 5)
      x = g.relu(g.norm(x))
    return g.add(x, shortcut)

  x = g.relu(g.norm(g.conv(0, 8, 5)))
  skips = []
  for channels, convolutions in ((16, 2), (32, 3), (64, 3)):
    skips.append(x)
    x = g.relu(g.norm(g.conv(x, channels, 2, stride=2)))
    x = stage(x, x, convolutions)
  for skip, convolutions in zip(reversed(skips), (3, 2, 1)):
    x = g.relu(g.norm(g.up(x, g.layers[skip].channels)))
    x = stage(x, g.concat(x, skip), convolutions)
  g.conv(x, classes, 1, bias=True)


def resnext3d(g: Graph, classes: int) -> None:
  """Bottlenecks whose middle convolution has 32 groups."""

  def block(x: int, width: int, stride: int) -> int:
    y = g.relu(g.norm(g.conv(x, width, 1)))
    y = g.relu(g.norm(g.conv(y, width, 3, stride, groups=32)))
    y = g.norm(g.conv(y, 2 * width, 1))
    if g.layers[x].channels != 2 * width or stride != 1:
      x = g.norm(g.conv(x, 2 * width, 1, stride))
    return g.relu(g.add(x, y))

  x = g.halve(g.relu(g.norm(g.conv(0, 32, 7, stride=(1, 2, 2)))))
  for width, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
    x = block(x, width, stride)
  g.conv(g.mean(x), classes, 1, bias=True)


def x3d(g: Graph, classes: int) -> None:
  """Inverted bottlenecks around depthwise convolutions, every other with squeeze and excitation."""

  def block(x: int, channels: int, stride: int, squeezed: bool) -> int:
    inner = round(2.25 * channels)
    y = g.relu(g.norm(g.conv(x, inner, 1)))
    y = g.norm(g.depthwise(y, 3, (1, stride, stride)))
    if squeezed:
      weights = g.relu(g.conv(g.mean(y), max(8, inner // 16), 1, bias=True))
      y = g.multiply(y, g.sigmoid(g.conv(weights, inner, 1, bias=True)))
    y = g.norm(g.conv(g.swish(y), channels, 1))
    if g.layers[x].channels != channels or stride != 1:
      x = g.norm(g.conv(x, channels, 1, (1, stride, stride)))
    return g.relu(g.add(x, y))

  x = g.conv(0, 24, (1, 3, 3), stride=(1, 2, 2))
  x = g.relu(g.norm(g.depthwise(x, (5, 1, 1))))
  for channels, blocks in ((24, 2), (48, 3), (96, 3)):
    for number in range(blocks):
      x = block(x, channels, 2 if number == 0 else 1, number % 2 == 0)
  x = g.relu(g.norm(g.conv(x, 216, 1)))
  g.conv(g.mean(x), classes, 1, bias=True)


def highres3dnet(g: Graph, classes: int) -> None:
  """Residual blocks at full size, with dilations of 1, 2 and 4."""
  x = g.conv(0, 16, 3)
  for channels, dilation, blocks in ((16, 1, 2), (32, 2, 1), (64, 4, 1)):
    for _ in range(blocks):
      y = g.conv(g.relu(g.norm(x)), channels, 3, dilation=dilation)
      y = g.conv(g.relu(g.norm(y)), channels, 3, dilation=dilation)
      if g.layers[x].channels != channels:
        x = g.conv(x, channels, 1)
      x = g.add(x, y)
  x = g.conv(g.relu(g.norm(x)), 80, 1)
  g.conv(g.relu(g.norm(x)), classes, 1, bias=True)


NETWORKS: dict[str, Network] = {
  "unet3d": Network(
    "3D U-Net (Çiçek et al. 2016), 24x24x24", PLAIN, unet3d, (24, 24, 24), 1, 3, True
  ),
  "vnet": Network("V-Net (Milletari et al. 2016), 24x24x24", PLAIN, vnet, (24, 24, 24), 1, 2, True),
  "highres3dnet": Network(
    "HighRes3DNet (Li et al. 2017), 20x20x20", PLAIN, highres3dnet, (20, 20, 20), 1, 4, True
  ),
  "resnext3d": Network(
    "3-D ResNeXt (Hara et al. 2018), 16x64x64", GROUPED, resnext3d, (16, 64, 64), 3, 10, False
  ),
  "x3d": Network("X3D (Feichtenhofer 2020), 8x48x48", GROUPED, x3d, (8, 48, 48), 3, 10, False),
}
