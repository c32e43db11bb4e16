"""A small channels-first encoder-decoder with a dilated block, all of it on one op.

Everything in the network that goes from a convolution's output back to its input, the transposed
convolutions as well as the gradients of the ordinary ones, is one call of an op with the signature
of `tf.raw_ops.Conv3DBackpropInputV2`. The network is given that op, and calls nothing else for it.
"""

import math

import tensorflow as tf

STRIDE = 2  # Of the levels.
FORMAT = dict(padding='SAME', data_format='NCDHW')


class SegmentationNet(tf.Module):
  """Classifies every voxel of a volume.

  32 x 32 x 32 voxels on their way through it:

      stem   3^3             1 ->  8 channels, 32^3 ----------------- + -- head 1^3, 8 -> classes
      down1  3^3, stride 2   8 -> 16 channels, 16^3 ------- +         up1  4^3, stride 2, 16 ->  8
      wide1  3^3, dilation 2    16 channels                 |
      wide2  3^3, dilation 3    16 channels                 |
      down2  3^3, stride 2  16 -> 32 channels,  8^3 -- up2  4^3, stride 2, 32 -> 16

  The dilated block sees 23 voxels across without losing any resolution.
  """

  def __init__(self, backprop_input, classes: int, seed: int):
    """Draws the weights.

    Args:
      backprop_input: The op: `Conv3DBackpropInputV2`, this package's or any other of that signature.
      classes: Kinds of voxel to tell apart.
      seed: The same seed draws the same weights.
    """
    super().__init__()
    self._backprop_input = backprop_input
    self._generator = tf.random.Generator.from_seed(seed)
    self.filters, self.biases = {}, {}
    self._add('stem', taps=3, inputs=1, outputs=8)
    self._add('down1', taps=3, inputs=8, outputs=16)
    self._add('wide1', taps=3, inputs=16, outputs=16)
    self._add('wide2', taps=3, inputs=16, outputs=16)
    self._add('down2', taps=3, inputs=16, outputs=32)
    self._add('up2', taps=4, inputs=32, outputs=16, transposed=True)
    self._add('up1', taps=4, inputs=16, outputs=8, transposed=True)
    self._add('head', taps=1, inputs=8, outputs=classes)

  def __call__(self, images: tf.Tensor) -> tf.Tensor:
    """Maps `[batch, 1, depth, height, width]` to logits `[batch, classes, ...]`; multiples of 4."""
    stem = tf.nn.relu(self._down('stem', images))
    half = tf.nn.relu(self._down('down1', stem, stride=2))
    half += tf.nn.relu(self._down('wide1', half, dilation=2))
    half += tf.nn.relu(self._down('wide2', half, dilation=3))
    quarter = tf.nn.relu(self._down('down2', half, stride=2))
    half = tf.nn.relu(half + self._up('up2', quarter, stride=2))
    full = tf.nn.relu(stem + self._up('up1', half, stride=2))
    return self._down('head', full)

  def _add(self, name, taps, inputs, outputs, transposed=False):
    # A transposed convolution stores its filter as the convolution that it transposes would.
    channels = (outputs, inputs) if transposed else (inputs, outputs)
    # He et al. 2015; of a transposed convolution's taps, every output meets one in stride^3 only.
    terms = inputs * taps**3 / (STRIDE**3 if transposed else 1)
    values = self._generator.normal([taps, taps, taps, *channels], stddev=math.sqrt(2 / terms))
    self.filters[name] = tf.Variable(values, name=f'{name}_filter')
    self.biases[name] = tf.Variable(tf.zeros([outputs, 1, 1, 1]), name=f'{name}_bias')

  def _down(self, name, x, stride=1, dilation=1):
    convolved = conv3d(self._backprop_input, x, self.filters[name], stride, dilation, name)
    return convolved + self.biases[name]

  def _up(self, name, x, stride):
    batch, _, *size = x.shape
    filter = self.filters[name]
    upsampled = self._backprop_input(
        input_sizes=[batch, filter.shape[3], *(stride * n for n in size)],
        filter=filter,
        out_backprop=x,
        strides=[1, 1, stride, stride, stride],
        dilations=[1, 1, 1, 1, 1],
        name=name,
        **FORMAT,
    )
    return upsampled + self.biases[name]


def conv3d(backprop_input, x, filter, stride, dilation, name):
  """A channels-first SAME convolution whose input gradient is `backprop_input`.

  `tf.nn.conv3d` has the gaps of its gradient: on a CPU, channels first and dilations need oneDNN.
  So the convolution and its filter gradient are one matrix product each, which runs everywhere.
  """

  @tf.custom_gradient
  def convolution(x, filter):
    columns, size = _columns(x, filter.shape[:3], stride, dilation)
    rows = tf.reshape(filter, [-1, filter.shape[-1]])
    out = tf.einsum('nkp,ko->nop', columns, rows)

    def gradient(out_backprop):
      input_gradient = backprop_input(
          input_sizes=x.shape.as_list(),
          filter=filter,
          out_backprop=out_backprop,
          strides=[1, 1, stride, stride, stride],
          dilations=[1, 1, dilation, dilation, dilation],
          name=f'{name}_gradient',
          **FORMAT,
      )
      out_rows = tf.reshape(out_backprop, [*out_backprop.shape[:2], -1])
      filter_gradient = tf.einsum('nkp,nop->ko', columns, out_rows)
      return input_gradient, tf.reshape(filter_gradient, filter.shape)

    return tf.reshape(out, [x.shape[0], filter.shape[-1], *size]), gradient

  return convolution(x, tf.convert_to_tensor(filter))


def _columns(x, taps, stride, dilation):
  """What each filter tap sees: `[batch, taps * channels, positions]`, and the output's size."""
  batch, channels, *spatial = x.shape
  size = [-(-n // stride) for n in spatial]
  for axis, (k, n, o) in enumerate(zip(taps, spatial, size)):
    span = (o - 1) * stride + 1
    pad = max(span + (k - 1) * dilation - n, 0)
    # One axis after the other: k views of it each, in place of k^3 views in all.
    # So far there is [batch, taps of the axes before, channels, depth, height, width].
    dimension = axis + 2 + axis
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
