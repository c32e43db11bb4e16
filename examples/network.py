"""A small encoder-decoder with a dilated block, of Keras's own layers."""

import keras
from keras import layers

STRIDE = 2  # From full size to half, and from half to a quarter.
MULTIPLE = STRIDE**2  # What a volume's sizes must be a multiple of.


def segmentation_net(classes: int, data_format: str, dtype: str, seed: int) -> keras.Model:
  """Returns a network that maps volumes of one channel to logits of each voxel.

  The filters' taps and the channels of what comes out:

      full size   stem 3^3, 8 ----------------------------- + --> head 1^3, classes
                   |                                        |
      half size   down1 3^3, 16                            up1 4^3, 8
                  wide1 3^3, 16, dilation 2                 |
                  wide2 3^3, 16, dilation 3 ----- + --------+
                   |                              |
      quarter     down2 3^3, 32 --------------- up2 4^3, 16

  With its dilated block the network sees 25 voxels across before it halves the size again.

  Args:
    classes: Kinds of voxel to tell apart.
    data_format: "channels_last" or "channels_first".
    dtype: A dtype policy of Keras.
    seed: The same seed draws the same weights.
  """
  keras.utils.set_random_seed(seed)
  common = dict(padding="same", data_format=data_format, dtype=dtype)
  common["kernel_initializer"] = "he_normal"

  def down(name, x, channels, stride=1, dilation=1):
    return layers.Conv3D(
      channels, 3, stride, dilation_rate=dilation, activation="relu", name=name, **common
    )(x)

  def up(name, x, channels):
    return layers.Conv3DTranspose(channels, 4, STRIDE, name=name, **common)(x)

  def joined(x, y):
    return layers.Add(dtype=dtype)([x, y])

  def relu(x):
    return layers.Activation("relu", dtype=dtype)(x)

  shape = [None, None, None]
  images = keras.Input([1, *shape] if data_format == "channels_first" else [*shape, 1])
  stem = down("stem", images, 8)
  half = down("down1", stem, 16, STRIDE)
  half = joined(half, down("wide1", half, 16, dilation=2))
  half = joined(half, down("wide2", half, 16, dilation=3))
  quarter = down("down2", half, 32, STRIDE)
  half = relu(joined(half, up("up2", quarter, 16)))
  full = relu(joined(stem, up("up1", half, 8)))
  return keras.Model(images, layers.Conv3D(classes, 1, name="head", **common)(full))
