"""Trains Keras models on TensorFlow, as it is or patched: `--patched`.

The ways are a format, `last` or `first`, and what is left to XLA: `last-compiled` compiles the
whole step with `jit_compile=True`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from benchmarks.peers import protocol
from benchmarks.steps import training_data
from benchmarks.steps.graph import Graph, Layer
from benchmarks.steps.networks import Network
from benchmarks.steps.session import Session, Step

_FORMATS = {"last": "channels_last", "first": "channels_first"}


class KerasTrainer:
  """Ways `last`, `first`, `last-compiled` and `first-compiled`."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return {
      "tensorflow": tf.__version__,
      "keras": keras.__version__,
      "tf_conv3d_grad": tf_conv3d_grad.__version__,
    }

  def begin(self, network: Network, dtype: str, way: str) -> tuple[Step, int]:
    """Returns a step of a new model, and how many parameters it has."""
    layout, _, compiled = way.partition("-")
    data_format = _FORMATS[layout]
    keras.utils.set_random_seed(0)
    model = build(network.graph(), network.size, data_format, dtype)
    volume, classes = training_data.batch(network)
    if layout == "first":
      volume = np.moveaxis(volume, -1, 1)
    optimizer = keras.optimizers.SGD(training_data.LEARNING_RATE, training_data.MOMENTUM)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=bool(compiled), autograph=False)
    def step(volume: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
      with tf.GradientTape() as tape:
        logits = tf.cast(model(volume, training=True), tf.float32)
        if layout == "first":
          logits = tf.transpose(logits, [0, 2, 3, 4, 1])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))
      gradients = tape.gradient(loss, model.trainable_variables)
      optimizer.apply(gradients, model.trainable_variables)
      return loss

    batch = tf.constant(volume), tf.constant(classes)
    return lambda: float(step(*batch)), sum(int(v.shape.num_elements()) for v in _weights(model))

  def forget(self) -> None:
    """Drops what Keras holds of the model."""
    keras.backend.clear_session()


def build(graph: Graph, size: tuple[int, int, int], data_format: str, dtype: str) -> keras.Model:
  """Returns the model of a graph; its weights and results are float32 in every dtype policy."""
  axis = 1 if data_format == "channels_first" else -1
  channels = graph.layers[0].channels
  shape = (channels, *size) if axis == 1 else (*size, channels)
  results = [keras.Input(shape, batch_size=1)]
  for layer in graph.layers[1:]:
    inputs = [results[position] for position in layer.inputs]
    built = _layer(layer, data_format, axis, keras.DTypePolicy(dtype))
    results.append(built(inputs if len(inputs) > 1 else inputs[0]))
  return keras.Model(results[0], results[-1])


def _layer(layer: Layer, data_format: str, axis: int, dtype: keras.DTypePolicy) -> keras.Layer:
  layers, settings = keras.layers, layer.settings
  if layer.kind == "conv":
    return layers.Conv3D(
      layer.channels,
      settings["taps"],
      strides=settings["strides"],
      dilation_rate=settings["dilation"],
      groups=settings["groups"],
      use_bias=settings["bias"],
      padding="same",
      data_format=data_format,
      dtype=dtype,
    )
  if layer.kind == "up":
    return layers.Conv3DTranspose(
      layer.channels, 2, 2, padding="same", data_format=data_format, dtype=dtype
    )
  if layer.kind == "norm":
    return layers.BatchNormalization(axis, dtype=dtype)
  if layer.kind == "halve":
    return layers.MaxPooling3D(2, data_format=data_format, dtype=dtype)
  if layer.kind == "mean":
    return layers.GlobalAveragePooling3D(data_format=data_format, keepdims=True, dtype=dtype)
  if layer.kind == "concat":
    return layers.Concatenate(axis, dtype=dtype)
  if layer.kind in ("add", "multiply"):
    return {"add": layers.Add, "multiply": layers.Multiply}[layer.kind](dtype=dtype)
  return layers.Activation(layer.kind, dtype=dtype)


def _weights(model: keras.Model) -> list[tf.Variable]:
  return [variable.value for variable in model.trainable_variables]


def _warm_up() -> None:
  """Takes one step of a tiny model: what a process sets up once is not the first network's."""
  model = Network("", "", lambda graph, classes: graph.conv(0, classes), (4, 4, 4), 1, 2, True)
  for way in ("last", "last-compiled"):
    KerasTrainer().begin(model, "float32", way)[0]()


if __name__ == "__main__":
  if "--patched" in sys.argv:
    tf_conv3d_grad.patch_tensorflow()
  _warm_up()
  protocol.answer(Session(KerasTrainer()))
