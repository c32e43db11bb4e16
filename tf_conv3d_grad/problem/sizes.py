"""Sizes: Python integers where they are known, scalar tensors where not.

Arithmetic (`+ - * // %` and comparisons) is the same for both. This file has the few functions that
are not. Under XLA, shapes are constants when it compiles, so the tensors disappear there.
"""

from __future__ import annotations

import functools
from typing import Union

import numpy as np
import tensorflow as tf

Size = Union[int, tf.Tensor]


def is_known(*sizes: Size | None) -> bool:
  """Returns whether all of `sizes` are Python integers."""
  for size in sizes:  # a new shape asks 80 times: `all` takes three times as long
    if not isinstance(size, int):
      return False
  return True


def maximum(a: Size, b: Size) -> Size:
  """Returns the larger of two sizes."""
  if is_known(a, b):
    return max(a, b)
  return tf.maximum(tf.cast(a, tf.int64), tf.cast(b, tf.int64))


def minimum(a: Size, b: Size) -> Size:
  """Returns the smaller of two sizes."""
  if is_known(a, b):
    return min(a, b)
  return tf.minimum(tf.cast(a, tf.int64), tf.cast(b, tf.int64))


def shape_of(
  tensor: tf.Tensor, is_rank_certain: bool = True, unstacks: bool = True
) -> list[Size]:
  """Returns the lengths of the dimensions of a tensor of known rank.

  Args:
    tensor: The tensor.
    is_rank_certain: Whether the rank is certain to be the static one. If not, a graph may find a
      different rank when it runs, and the lengths must exist until then.
    unstacks: Whether all lengths may be taken at once. To take one by itself takes some five times
      as long to trace, but TensorFlow Lite does not unstack an int64.
  """
  static = tensor.shape.as_list()
  if None not in static:
    return static
  dynamic = tf.shape(tensor, out_type=tf.int64)
  if is_rank_certain and unstacks:
    lengths = tf.unstack(dynamic, len(static))
    return [dynamic if length is None else length for dynamic, length in zip(lengths, static)]
  if not is_rank_certain:
    dynamic = tf.pad(dynamic, [[0, len(static)]])
  return [dynamic[i] if length is None else length for i, length in enumerate(static)]


def static(shape: list[Size]) -> list[int | None]:
  """Returns a shape as TensorFlow has it while tracing: None for what is not known."""
  return [size if is_known(size) else None for size in shape]


def as_tensor(sizes: list[Size] | tuple[Size, ...]) -> tf.Tensor:
  """Returns the sizes as one vector, a constant where all of them are known."""
  if is_known(*sizes):
    if tf.executing_eagerly():
      return _eager_constant(tuple(sizes))
    return tf.constant(np.asarray(sizes, np.int64))
  # NumPy's integers become constants without a cast of each.
  return tf.stack([np.int64(size) if is_known(size) else tf.cast(size, tf.int64) for size in sizes])


def cast(size: Size) -> Size:
  """Returns a size that can be combined with any other: an integer, or an int64 tensor."""
  return size if is_known(size) else tf.cast(size, tf.int64)


@functools.lru_cache(maxsize=4096)
def _eager_constant(sizes: tuple[int, ...]) -> tf.Tensor:
  """Returns a constant that small eager calls need not make anew each time."""
  with tf.device("/CPU:0"):
    return tf.constant(np.asarray(sizes, np.int64))
