"""The convolution, with the signature and the behaviour of `tf.raw_ops.Conv3D`."""

from __future__ import annotations

from tf_conv3d_grad.ops.call import call
from tf_conv3d_grad.problem.functions import CONV3D


def conv3d(  # type: ignore[no-untyped-def]  # the raw op's signature has no types
  input,  # noqa: A002 - the raw op's name for it
  filter,  # noqa: A002
  strides,
  padding,
  data_format="NDHWC",
  dilations=[1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name=None,
):
  """Computes a 3-D convolution (a cross-correlation, as machine learning calls it).

  A drop-in for `tf.raw_ops.Conv3D`. Per spatial axis, every cell `o` of the result is the sum, over
  the taps `q` of `filter`, of the tap's product with the input's cell
  `o * stride + q * dilation - padding in front`; cells outside of the input count as zeros. With
  "SAME" the padding in front is half of what
  https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2 says, rounded down, and never
  less than none: also where a stride is larger than the filter, where TensorFlow's own kernels
  disagree.

  Args:
    input: `[batch, depth, height, width, in_channels]` in "NDHWC",
      `[batch, in_channels, depth, height, width]` in "NCDHW"; of dtype half, bfloat16, float32 or
      float64. Its channels are a multiple of the filter's in channels; that multiple is the number
      of groups.
    filter: `[depth, height, width, in_channels / groups, out_channels]`, of the input's dtype.
    strides: 5 integers in the order of `data_format`; 1 for batch and channels.
    padding: "SAME" or "VALID".
    data_format: "NDHWC" or "NCDHW".
    dilations: 5 integers in the order of `data_format`; 1 for batch and channels.
    name: A name for the result's operation in a graph.

  Returns:
    A tensor of the input's dtype, `[batch, depth, height, width, out_channels]` in the order of
    `data_format`, differentiable in `input` and `filter` to every order. Products are added up in
    float32 or better and rounded once.

  Raises:
    tf.errors.InvalidArgumentError: For a malformed argument, when executing eagerly or when the
      graph that contains the call runs.
    ValueError: For an argument that is known to be malformed while building a graph, and for one
      that cannot be converted to a tensor.
    TypeError: For a dtype that is not supported while building a graph, and for an attribute of the
      wrong Python type.
  """
  return call(CONV3D, None, filter, input, strides, padding, data_format, dilations, name)


Conv3D = conv3d
