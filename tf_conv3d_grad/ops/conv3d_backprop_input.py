"""The gradient in the input: signature and behaviour of `tf.raw_ops.Conv3DBackpropInputV2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT


def conv3d_backprop_input_v2(
  input_sizes: Any,
  filter: Any,  # noqa: A002 - the raw op's name for it
  out_backprop: Any,
  strides: Sequence[int],
  padding: str,
  data_format: str = "NDHWC",
  dilations: Sequence[int] = [1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name: str | None = None,
) -> tf.Tensor:
  """Computes the gradient of a 3-D convolution in its input: a 3-D transposed convolution.

  It has the signature of `tf.raw_ops.Conv3DBackpropInputV2` and takes its place. On each spatial
  axis, a cell `o` of `out_backprop` times a tap `q` of `filter` is added to the result's cell
  `o * stride + q * dilation - padding_in_front`.

  Args:
    input_sizes: The shape of the result, 5 integers in the order of `data_format`. It is a list, a
      `tf.TensorShape`, an array, or a tensor of dtype int32 or int64, whose values may be known
      only at run time. Its channels are `groups` times the filter's in channels.
    filter: `[depth, height, width, in_channels / groups, out_channels]`. Its dtype is float16
      (half), bfloat16, float32 or float64.
    out_backprop: The gradient in the convolution's output, of the filter's dtype:
      `[batch, depth, height, width, out_channels]` in "NDHWC",
      `[batch, out_channels, depth, height, width]` in "NCDHW".
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID". If the filter does not fit into the result with "VALID", by however
      much, `out_backprop` has length 0 on that axis, and the result is zeros.
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the shape `input_sizes` and the dtype of `filter`. It is differentiable in `filter`
    and `out_backprop` to every order. Products are added up in float32 or wider and rounded once.

  Raises:
    tf.errors.InvalidArgumentError: An argument is malformed. Eager calls raise it at once. A graph
      raises it when it runs, for values that are known only then.
    tf.errors.ResourceExhaustedError: The result is larger than all memory.
    ValueError: An argument is malformed, and known to be so while a graph is built; or it cannot be
      converted to a tensor.
    TypeError: A dtype is not supported, while a graph is built; or an attribute has the wrong
      Python type.

  Example:
    Twice as many cells on each axis, channels first:

    >>> filter = tf.ones([3, 3, 3, 4, 6])
    >>> out_backprop = tf.ones([1, 6, 4, 4, 4])
    >>> result = tf_conv3d_grad.Conv3DBackpropInputV2(
    ...   [1, 4, 8, 8, 8], filter, out_backprop, [1, 1, 2, 2, 2], "SAME", data_format="NCDHW"
    ... )
    >>> result.shape
    TensorShape([1, 4, 8, 8, 8])
  """
  return call(
    BACKPROP_INPUT,
    input_sizes,
    filter,
    out_backprop,
    strides,
    padding,
    data_format,
    dilations,
    name,
  )


Conv3DBackpropInputV2 = conv3d_backprop_input_v2
