"""The gradient in the filter: signature and behaviour of `tf.raw_ops.Conv3DBackpropFilterV2`."""

from __future__ import annotations

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER


def conv3d_backprop_filter_v2(  # type: ignore[no-untyped-def]  # the raw op's signature has no types
  input,  # noqa: A002 - the raw op's name for it
  filter_sizes,
  out_backprop,
  strides,
  padding,
  data_format="NDHWC",
  dilations=[1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name=None,
):
  """Computes the gradient of a 3-D convolution in its filter.

  A drop-in for `tf.raw_ops.Conv3DBackpropFilterV2`. Per spatial axis, tap `q` of the result is the
  sum, over the cells `o` of `out_backprop`, of the cell's product with the input's cell
  `o * stride + q * dilation - padding in front`; cells outside of the input count as zeros.

  Args:
    input: The convolution's input: `[batch, depth, height, width, in_channels]` in "NDHWC",
      `[batch, in_channels, depth, height, width]` in "NCDHW"; of dtype half, bfloat16, float32 or
      float64.
    filter_sizes: The shape of the result,
      `[depth, height, width, in_channels / groups, out_channels]`: a list, a `tf.TensorShape`, an
      array, or a tensor of dtype int32 or int64, which may be known only at run time. Its in
      channels are a divisor of the input's.
    out_backprop: The gradient in the convolution's output, of the input's dtype:
      `[batch, depth, height, width, out_channels]` in the order of `data_format`.
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID". A filter that does not fit into the input with "VALID", by however
      much, leaves no cell of `out_backprop`: its length is 0 there, and the result is zeros.
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the shape `filter_sizes` and the dtype of `input`, differentiable in `input` and
    `out_backprop` to every order. Products are added up in float32 or better and rounded once.

  Raises:
    tf.errors.InvalidArgumentError: For a malformed argument, when executing eagerly or when the
      graph that contains the call runs.
    ValueError: For an argument that is known to be malformed while building a graph, and for one
      that cannot be converted to a tensor.
    TypeError: For a dtype that is not supported while building a graph, and for an attribute of the
      wrong Python type.
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
