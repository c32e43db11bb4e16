"""A small channels-first encoder-decoder with a dilated block, all of it on one op.

Its transposed convolutions, and the input gradients of its ordinary ones, are all calls of one op
with the signature of `tf.raw_ops.Conv3DBackpropInputV2`. The network is told which.
"""

import math

import convolution
import tensorflow as tf

STRIDE = 2  # From full size to half, and from half to a quarter.
MULTIPLE = STRIDE**2  # What a volume's sizes must be a multiple of.


class SegmentationNet(tf.Module):
  """Classifies every voxel of a volume.

  The filters' taps and the channels of what comes out:

      full size   stem 3^3, 8 ----------------------------- + --> head 1^3, classes
                   |                                        |
      half size   down1 3^3, 16                            up1 4^3, 8
                  wide1 3^3, 16, dilation 2                 |
                  wide2 3^3, 16, dilation 3 ----- + --------+
                   |                              |
      quarter     down2 3^3, 32 --------------- up2 4^3, 16

  With its dilated block the network sees 25 voxels across before it halves the size again.
  """

  def __init__(self, backprop_input, classes: int, seed: int):
    """Draws the weights.

    Args:
      backprop_input: The op, `Conv3DBackpropInputV2` or another with its signature.
      classes: Kinds of voxel to tell apart.
      seed: The same seed draws the same weights.
    """
    super().__init__()
    self._backprop_input = backprop_input
    self._generator = tf.random.Generator.from_seed(seed)
    self.filters, self.biases = {}, {}
    self._add("stem", taps=3, inputs=1, outputs=8)
    self._add("down1", taps=3, inputs=8, outputs=16)
    self._add("wide1", taps=3, inputs=16, outputs=16)
    self._add("wide2", taps=3, inputs=16, outputs=16)
    self._add("down2", taps=3, inputs=16, outputs=32)
    self._add("up2", taps=4, inputs=32, outputs=16, transposed=True)
    self._add("up1", taps=4, inputs=16, outputs=8, transposed=True)
    self._add("head", taps=1, inputs=8, outputs=classes)

  def __call__(self, images: tf.Tensor) -> tf.Tensor:
    """Maps `[batch, 1, depth, height, width]` to logits `[batch, classes, ...]`."""
    stem = tf.nn.relu(self._down("stem", images))
    half = tf.nn.relu(self._down("down1", stem, STRIDE))
    half += tf.nn.relu(self._down("wide1", half, dilation=2))
    half += tf.nn.relu(self._down("wide2", half, dilation=3))
    quarter = tf.nn.relu(self._down("down2", half, STRIDE))
    half = tf.nn.relu(half + self._up("up2", quarter))
    full = tf.nn.relu(stem + self._up("up1", half))
    return self._down("head", full)

  def _add(self, name, taps, inputs, outputs, transposed=False):
    # A transposed convolution stores its filter as the convolution that it transposes would.
    channels = (outputs, inputs) if transposed else (inputs, outputs)
    # He et al. 2015; of a transposed convolution's taps, every output meets one in stride^3 only.
    terms = inputs * taps**3 / (STRIDE**3 if transposed else 1)
    values = self._generator.normal([taps, taps, taps, *channels], stddev=math.sqrt(2 / terms))
    self.filters[name] = tf.Variable(values, name=f"{name}_filter")
    self.biases[name] = tf.Variable(tf.zeros([outputs, 1, 1, 1]), name=f"{name}_bias")

  def _down(self, name, x, stride=1, dilation=1):
    convolved = convolution.conv3d(
      self._backprop_input, x, self.filters[name], stride, dilation, name
    )
    return convolved + self.biases[name]

  def _up(self, name, x):
    batch, _, *size = x.shape
    filter = self.filters[name]
    upsampled = self._backprop_input(
      input_sizes=[batch, filter.shape[3], *(STRIDE * n for n in size)],
      filter=filter,
      out_backprop=x,
      strides=[1, 1, STRIDE, STRIDE, STRIDE],
      padding="SAME",
      data_format="NCDHW",
      dilations=[1, 1, 1, 1, 1],
      name=name,
    )
    return upsampled + self.biases[name]
