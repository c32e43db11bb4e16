"""The two orders of dimensions that lowerings work in, and the data formats on either side.

Channels last: `[batch, depth, height, width, channels]`, as in NDHWC. Channels first:
`[channels, batch, depth, height, width]`, so that a matrix product over all cells is one whatever
the batch.
"""
from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.problem import NCDHW, NDHWC

_TO_LAYOUT = {
  (NDHWC, False): None,
  (NDHWC, True): [4, 0, 1, 2, 3],
  (NCDHW, False): [0, 2, 3, 4, 1],
  (NCDHW, True): [1, 0, 2, 3, 4],
}
_TO_FORMAT = {
  (NDHWC, False): None,
  (NDHWC, True): [1, 2, 3, 4, 0],
  (NCDHW, False): [0, 4, 1, 2, 3],
  (NCDHW, True): [1, 0, 2, 3, 4],
}


def to_layout(tensor: tf.Tensor, data_format: str, channels_first: bool) -> tf.Tensor:
  """Returns a tensor of a data format with its dimensions in the order of a layout."""
  return _permuted(tensor, _TO_LAYOUT[data_format, channels_first])


def to_format(tensor: tf.Tensor, data_format: str, channels_first: bool) -> tf.Tensor:
  """Returns a tensor of a layout with its dimensions in the order of a data format."""
  return _permuted(tensor, _TO_FORMAT[data_format, channels_first])


def batch_dimension(channels_first: bool) -> int:
  """Returns which dimension is the batch."""
  return 1 if channels_first else 0


def channel_dimension(channels_first: bool) -> int:
  """Returns which dimension is the channels."""
  return 0 if channels_first else 4


def spatial_dimension(axis: int, channels_first: bool) -> int:
  """Returns which dimension is depth (axis 0), height (1) or width (2)."""
  return axis + (2 if channels_first else 1)


def _permuted(tensor: tf.Tensor, order: list[int] | None) -> tf.Tensor:
  if order is None:
    return tensor
  shape = tensor.shape.as_list()
  if None not in shape:
    moved = [d for d in order if shape[d] != 1]
    if moved == sorted(moved):  # only dimensions of one cell move: no cell does
      return tf.reshape(tensor, [shape[d] for d in order])
  return tf.transpose(tensor, order)
