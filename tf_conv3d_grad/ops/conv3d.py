"""The convolution, with the signature and the behaviour of `tf.raw_ops.Conv3D`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import CONV3D


def conv3d(
  input: Any,  # noqa: A002 - the raw op's name for it
  filter: Any,  # noqa: A002
  strides: Sequence[int],
  padding: str,
  data_format: str = "NDHWC",
  dilations: Sequence[int] = [1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name: str | None = None,
) -> tf.Tensor:
  """Computes a 3-D convolution (strictly speaking, a cross-correlation).

  It has the signature of `tf.raw_ops.Conv3D` and takes its place. On each spatial axis, a cell `o`
  of the result is a sum over the taps `q` of `filter`: each tap times the input's cell
  `o * stride + q * dilation - padding_in_front`. Cells outside of the input count as zeros.

  With "SAME", the padding in front is half of TensorFlow's
  [documented padding](https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2), rounded
  down, and never negative. Where a stride is larger than the filter, TensorFlow's own kernels
  disagree on that.

  Args:
    input: `[batch, depth, height, width, in_channels]` in "NDHWC",
      `[batch, in_channels, depth, height, width]` in "NCDHW". Its dtype is float16 (half),
      bfloat16, float32 or float64. Its channels are `groups` times the filter's in channels.
    filter: `[depth, height, width, in_channels / groups, out_channels]`, of the input's dtype.
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID".
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the input's dtype, `[batch, depth, height, width, out_channels]` in the order of
    `data_format`. It is differentiable in `input` and `filter` to every order. Products are added
    up in float32 or wider and rounded once.

  Raises:
    tf.errors.InvalidArgumentError: An argument is malformed. Eager calls raise it at once. A graph
      raises it when it runs, for values that are known only then.
    tf.errors.ResourceExhaustedError: The result is larger than all memory.
    ValueError: An argument is malformed, and known to be so while a graph is built; or it cannot be
      converted to a tensor.
    TypeError: A dtype is not supported, while a graph is built; or an attribute has the wrong
      Python type.

  Example:
    A filter of 2 groups, channels first, dilated, in half precision:

    >>> volume = tf.ones([1, 4, 8, 8, 8], tf.float16)
    >>> filter = tf.ones([3, 3, 3, 2, 6], tf.float16)
    >>> result = tf_conv3d_grad.Conv3D(
    ...   volume, filter, [1] * 5, "SAME", data_format="NCDHW", dilations=[1, 1, 2, 2, 2]
    ... )
    >>> result.shape
    TensorShape([1, 6, 8, 8, 8])
    >>> float(result[0, 0, 4, 4, 4])  # 27 taps of 2 channels
    54.0
  """
  return call(CONV3D, None, filter, input, strides, padding, data_format, dilations, name)


Conv3D = conv3d
