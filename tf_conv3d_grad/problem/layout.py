"""Where batch, channels and the three spatial axes are among a tensor's five dimensions.

There are the two data formats of a call and the two layouts that lowerings compute in. Channels
last is the order of NDHWC. Channels first has the batch behind the channels, so that one matrix
product takes all cells of every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

NDHWC = "NDHWC"
NCDHW = "NCDHW"


class Layout(NamedTuple):
  """An order of dimensions.

  Attributes:
    batch: Which dimension the batch is.
    spatial: Which dimensions depth, height and width are.
    channels: Which dimension the channels are.
  """

  batch: int
  spatial: tuple[int, int, int]
  channels: int

  def arranged(self, batch: Any, spatial: Sequence, channels: Any) -> list:
    """Returns five values in this order."""
    values = [batch] * 5
    for place, value in zip((*self.spatial, self.channels), (*spatial, channels)):
      values[place] = value
    return values

  def split(self, values: Sequence) -> tuple[Any, list, Any]:
    """Returns the values of batch, of depth, height and width, and of channels."""
    return values[self.batch], [values[place] for place in self.spatial], values[self.channels]


OF_DATA_FORMAT = {NDHWC: Layout(0, (1, 2, 3), 4), NCDHW: Layout(0, (2, 3, 4), 1)}
CHANNELS_LAST = OF_DATA_FORMAT[NDHWC]
CHANNELS_FIRST = Layout(1, (2, 3, 4), 0)
# A filter's, whose "batch" is its in channels, and whose "channels" are its out channels.
OF_FILTER = Layout(3, (0, 1, 2), 4)


def rearranged(tensor: tf.Tensor, given: Layout, wanted: Layout) -> tf.Tensor:
  """Returns a tensor of one layout in another."""
  if given == wanted:
    return tensor
  order = wanted.arranged(given.batch, given.spatial, given.channels)
  shape = tensor.shape.as_list()
  if None not in shape:
    moved = [d for d in order if shape[d] != 1]
    if moved == sorted(moved):  # only dimensions of length 1 move, so no cell does
      return tf.reshape(tensor, [shape[d] for d in order])
  return tf.transpose(tensor, order)
