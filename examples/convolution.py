"""A channels-first 3-D convolution that runs on every build of TensorFlow.

`tf.nn.conv3d` has the same gaps as its gradients: on a CPU, channels first and dilations need
oneDNN. So here the convolution and its filter gradient are one matrix product each. The input
gradient is the subject of the example, and left to the op that the caller names.
"""

import math

import tensorflow as tf


def conv3d(backprop_input, x, filter, stride, dilation, name):
  """Convolves, with SAME padding.

  Args:
    backprop_input: The op that computes the input gradient.
    x: `[batch, in_channels, depth, height, width]`, all known while tracing.
    filter: `[depth, height, width, in_channels, out_channels]`.
    stride: The same along all three axes.
    dilation: Likewise.
    name: The input gradient's call is named `{name}_gradient`.

  Returns:
    `[batch, out_channels, depth / stride, height / stride, width / stride]`, rounded up.
  """

  @tf.custom_gradient
  def convolve(x, filter):
    columns, size = _columns(x, filter.shape[:3], stride, dilation)
    rows = tf.reshape(filter, [-1, filter.shape[-1]])
    out = tf.einsum("nkp,ko->nop", columns, rows)

    def gradient(out_backprop):
      input_gradient = backprop_input(
        input_sizes=x.shape.as_list(),
        filter=filter,
        out_backprop=out_backprop,
        strides=[1, 1, stride, stride, stride],
        padding="SAME",
        data_format="NCDHW",
        dilations=[1, 1, dilation, dilation, dilation],
        name=f"{name}_gradient",
      )
      out_rows = tf.reshape(out_backprop, [*out_backprop.shape[:2], -1])
      filter_gradient = tf.einsum("nkp,nop->ko", columns, out_rows)
      return input_gradient, tf.reshape(filter_gradient, filter.shape)

    return tf.reshape(out, [x.shape[0], filter.shape[-1], *size]), gradient

  return convolve(x, tf.convert_to_tensor(filter))


def _columns(x, taps, stride, dilation):
  """What each filter tap sees: `[batch, taps * channels, positions]`, and the output's size."""
  batch, channels, *spatial = x.shape
  size = [-(-n // stride) for n in spatial]
  for axis, (k, n, o) in enumerate(zip(taps, spatial, size)):
    span = (o - 1) * stride + 1
    pad = max(span + (k - 1) * dilation - n, 0)
    # One axis after the other, k views at a time: 9 views of x for a 3^3 filter, and not 27. By now
    # x is [batch, *(taps of the axes before), channels, depth, height, width].
    dimension = 1 + axis + 1 + axis
    x = _pad(x, dimension, pad // 2, pad - pad // 2)
    views = [_cut(x, dimension, tap * dilation, span, stride) for tap in range(k)]
    x = tf.stack(views, axis=axis + 1)
  return tf.reshape(x, [batch, math.prod(taps) * channels, math.prod(size)]), size


def _pad(x, dimension, before, after):
  paddings = [[0, 0]] * x.shape.rank
  paddings[dimension] = [before, after]
  return tf.pad(x, paddings)


def _cut(x, dimension, start, span, stride):
  box = [slice(None)] * x.shape.rank
  box[dimension] = slice(start, start + span, stride)
  return x[tuple(box)]
