"""The gradient in the filter: signature and behaviour of `tf.raw_ops.Conv3DBackpropFilterV2`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER


def conv3d_backprop_filter_v2(
  input: Any,  # noqa: A002 - the raw op's name for it
  filter_sizes: Any,
  out_backprop: Any,
  strides: Sequence[int],
  padding: str,
  data_format: str = "NDHWC",
  dilations: Sequence[int] = [1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name: str | None = None,
) -> tf.Tensor:
  """Computes the gradient of a 3-D convolution in its filter.

  It has the signature of `tf.raw_ops.Conv3DBackpropFilterV2` and takes its place. On each spatial
  axis, a tap `q` of the result is a sum over the cells `o` of `out_backprop`: each cell times the
  input's cell `o * stride + q * dilation - padding_in_front`. Cells outside of the input count as
  zeros.

  Args:
    input: The convolution's input: `[batch, depth, height, width, in_channels]` in "NDHWC",
      `[batch, in_channels, depth, height, width]` in "NCDHW". Its dtype is float16 (half),
      bfloat16, float32 or float64.
    filter_sizes: The shape of the result,
      `[depth, height, width, in_channels / groups, out_channels]`. It is a list, a
      `tf.TensorShape`, an array, or a tensor of dtype int32 or int64, whose values may be known
      only at run time.
    out_backprop: The gradient in the convolution's output, of the input's dtype:
      `[batch, depth, height, width, out_channels]` in the order of `data_format`.
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID". If the filter does not fit into the input with "VALID", by however
      much, `out_backprop` has length 0 on that axis, and the result is zeros.
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the shape `filter_sizes` and the dtype of `input`. It is differentiable in `input`
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
    >>> volume = tf.ones([1, 8, 8, 8, 4], tf.float64)
    >>> out_backprop = tf.ones([1, 4, 4, 4, 6], tf.float64)
    >>> result = tf_conv3d_grad.Conv3DBackpropFilterV2(
    ...   volume, [3, 3, 3, 4, 6], out_backprop, strides=[1, 2, 2, 2, 1], padding="SAME"
    ... )
    >>> result.shape
    TensorShape([3, 3, 3, 4, 6])
    >>> float(result[0, 0, 0, 0, 0])  # 4^3 cells see the first tap
    64.0
  """
  return call(
    BACKPROP_FILTER,
    filter_sizes,
    input,
    out_backprop,
    strides,
    padding,
    data_format,
    dilations,
    name,
  )


Conv3DBackpropFilterV2 = conv3d_backprop_filter_v2
