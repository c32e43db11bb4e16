"""The op, with the signature and the behaviour of `tf.raw_ops.Conv3DBackpropInputV2`."""

from __future__ import annotations

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT


def conv3d_backprop_input_v2(  # type: ignore[no-untyped-def]  # the raw op's signature has no types
  input_sizes,
  filter,  # noqa: A002 - the raw op's name for it
  out_backprop,
  strides,
  padding,
  data_format="NDHWC",
  dilations=[1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name=None,
):
  """Computes the gradient of a 3-D convolution in its input: a 3-D transposed convolution.

  A drop-in for `tf.raw_ops.Conv3DBackpropInputV2`. Per spatial axis, every cell `o` of
  `out_backprop` adds its product with tap `q` of `filter` to the result's cell
  `o * stride + q * dilation - padding in front`.

  Args:
    input_sizes: The shape of the result, 5 integers in the order of `data_format`: a list, a
      `tf.TensorShape`, an array, or a tensor of dtype int32 or int64, which may be known only at
      run time. Its channels are a multiple of the filter's in channels; that multiple is the number
      of groups.
    filter: `[depth, height, width, in_channels / groups, out_channels]`, of dtype half, bfloat16,
      float32 or float64.
    out_backprop: The gradient in the convolution's output, of the filter's dtype:
      `[batch, depth, height, width, out_channels]` in "NDHWC",
      `[batch, out_channels, depth, height, width]` in "NCDHW".
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID". A filter that does not fit into the result with "VALID", by however
      much, leaves no cell of `out_backprop`: its length is 0 there, and the result is zeros.
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the shape `input_sizes` and the dtype of `filter`, differentiable in `filter` and
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
