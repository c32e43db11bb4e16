"""What the tests of Keras's layers and of the legacy tf_keras's share."""

import itertools

import numpy as np
import tensorflow as tf

import tf_conv3d_grad

FORMATS = ("channels_last", "channels_first")
MODES = (dict(jit_compile=True), dict(jit_compile=False), dict(run_eagerly=True))


def in_turn(layers):
  """Yields each layer in each format, the modes in turn."""
  for number, (name, data_format) in enumerate(itertools.product(layers, FORMATS)):
    yield name, data_format, MODES[number % len(MODES)]


def layer_and_input(keras, kind, data_format, **options):
  """Returns a layer of some kind and what it can be called with, the same each time."""
  keras.utils.set_random_seed(0)
  layer = kind(4, 3, data_format=data_format, bias_initializer="random_normal", **options)
  shape = [4, 7, 6, 5] if data_format == "channels_first" else [7, 6, 5, 4]
  shape = [2, 3, *shape] if kind is keras.layers.ConvLSTM3D else [2, *shape]
  return layer, np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def train(keras, layer, inputs, **mode):
  """Returns the losses of some steps, and a prediction after them."""
  model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
  model.compile(keras.optimizers.SGD(0.1), "mse", **mode)
  targets = np.ones([inputs.shape[0], *model.output_shape[1:]], "float32")
  history = model.fit(inputs, targets, batch_size=2, epochs=3, verbose=0)
  return np.array(history.history["loss"]), model.predict(inputs, verbose=0)


def traced(function, *arguments):
  """Returns a traced function, without what this package compiles by itself."""
  with tf_conv3d_grad.jit_compile(False):
    return tf.function(function).get_concrete_function(*arguments)
