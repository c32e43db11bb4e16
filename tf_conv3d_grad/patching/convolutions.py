"""Makes a dilated 3-D `tf.nn.convolution` one operation.

TensorFlow makes three of it: `SpaceToBatchND`, `Conv3D` and `BatchToSpaceND`. Block shapes and
paddings become tensors. In a function that XLA compiles, weights may then be taken for constants,
and each training step is compiled anew. One `Conv3D` with dilations is compiled once, has one
gradient, and copies nothing.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments.validation import DTYPES
from tf_conv3d_grad.tensorflow import private

_INT32_MAX = 2**31 - 1


def replacement(original: Any) -> Any:
  """Returns what takes the place of TensorFlow's `convolution_internal`.

  Every form of `tf.nn.convolution` ends there. It computes what it plainly is: valid arguments, an
  input and a filter of rank 5, a dilation and no stride. All else is TensorFlow's `original` to
  compute or to refuse.
  """

  @functools.wraps(original)
  def convolution_internal(input: Any, filters: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
    # TensorFlow gives everything but the tensors by name. Without dilations it calls Conv3D itself.
    if not args and kwargs.get("dilations") is not None and not private.calling_tensorflow():
      result = _dilated(input, filters, **kwargs)
      if result is not None:
        return result
    return original(input, filters, *args, **kwargs)

  return convolution_internal


def _dilated(
  input: Any,  # noqa: A002
  filters: Any,
  *,
  dilations: Any,
  strides: Any = None,
  padding: Any = "VALID",
  data_format: Any = None,
  name: str | None = None,
  **others: Any,
) -> tf.Tensor | None:
  """Returns the convolution as one operation, or None if it is not plainly dilated and 3-D."""
  if data_format is None:
    data_format = "NDHWC"
  if others or data_format not in ("NDHWC", "NCDHW") or padding not in ("SAME", "VALID"):
    return None
  channels = 1 if data_format == "NCDHW" else 4
  dilations = _of_axes(dilations, channels)
  if dilations is None or max(dilations) == 1 or _of_axes(strides, channels) != [1] * 5:
    return None
  # In this order TensorFlow converts them, so it is the same of two errors.
  filters = _tensor(filters, "filters")
  input = _tensor(input, "input")  # noqa: A001
  if input is None or filters is None or input.dtype != filters.dtype or input.dtype not in DTYPES:
    return None
  if input.shape.rank != 5 or filters.shape.rank != 5:
    return None
  depth, filter_depth = input.shape[channels], filters.shape[3]
  if depth is not None and filter_depth is not None:
    if not filter_depth or depth % filter_depth:
      return None
  arguments = dict(
    strides=[1] * 5, padding=padding, data_format=data_format, dilations=dilations
  )
  if tf.executing_eagerly():
    return private.conv3d(input, filters, **arguments)
  with tf.compat.v1.name_scope(name, "convolution", [input, filters]) as scope:
    return private.conv3d(input, filters, name=scope, **arguments)


def _of_axes(values: Any, channels: int) -> list[int] | None:
  """Returns strides or dilations for all five axes, or None if they are not plainly that.

  Args:
    values: As `tf.nn.convolution` takes them: None, a number, or one, three or five of them.
    channels: Which axis is that of the channels.
  """
  if values is None:
    return [1] * 5
  try:
    numbers = [operator.index(value) for value in values]
  except TypeError:
    try:
      numbers = [operator.index(values)]
    except TypeError:
      return None
  if len(numbers) == 5:
    if numbers[0] != 1 or numbers.pop(channels) != 1:
      return None
    del numbers[0]
  elif len(numbers) == 1:
    numbers *= 3
  if len(numbers) != 3 or not all(1 <= number <= _INT32_MAX for number in numbers):
    return None
  return [1, 1, *numbers] if channels == 1 else [1, *numbers, 1]


def _tensor(value: Any, name: str) -> tf.Tensor | None:
  """Returns a value as a tensor, or None if it is of several tensors."""
  if isinstance(value, (tf.SparseTensor, tf.RaggedTensor, tf.IndexedSlices)):
    return None
  return tf.convert_to_tensor(value, name=name)
