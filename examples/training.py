"""Trains a segmentation network for a few steps, and uses it."""

from __future__ import annotations

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf

_LEARNING_RATE = 0.02  # Of the first step; it falls to zero along a straight line.
_FEWEST = 3  # Steps that a training takes however slow it is.


@dataclasses.dataclass(frozen=True)
class Setting:
  """How a network is trained.

  Attributes:
    dtype: A dtype policy of Keras.
    data_format: "channels_last" or "channels_first".
    compiled: Whether XLA compiles the whole step.
  """

  dtype: str
  data_format: str
  compiled: bool = False

  def __str__(self) -> str:
    compiled = ", compiled" if self.compiled else ""
    return f"{self.dtype}, {self.data_format.replace('_', ' ')}{compiled}"


@dataclasses.dataclass(frozen=True)
class Run:
  """What came of one training.

  Attributes:
    losses: The loss of each step.
    first_step_s: Seconds for the first step, tracing and compiling included.
    step_ms: The median of the other steps, in milliseconds.
  """

  losses: np.ndarray
  first_step_s: float
  step_ms: float


@dataclasses.dataclass(frozen=True)
class Result:
  """A training and its exam: the classes predicted for the held-out slices, and their Dice."""

  run: Run
  predicted: np.ndarray
  dice: list[float]


def train(
  network: keras.Model,
  setting: Setting,
  batches,
  steps: int,
  seconds: float = float("inf"),
  on_step=lambda loss: None,
) -> Run:
  """Takes `steps` steps of Adam, or fewer.

  Args:
    network: The network to train, in place.
    setting: What it was built for, and whether the step is compiled.
    batches: Yields `(images, labels)`, channels last.
    steps: How many of them to learn from.
    seconds: After this long there are no more steps.
    on_step: Called with the loss of each step as it is known.

  Returns:
    The losses and the times.
  """
  optimizer = keras.optimizers.Adam(
    keras.optimizers.schedules.PolynomialDecay(_LEARNING_RATE, steps, 0), beta_2=0.99
  )
  optimizer.build(network.trainable_variables)

  @tf.function(jit_compile=setting.compiled, autograph=False)
  def step(images, labels):
    with tf.GradientTape() as tape:
      loss = cross_entropy(labels, logits_of(network, setting, images, training=True))
    gradients = tape.gradient(loss, network.trainable_variables)
    optimizer.apply(gradients, network.trainable_variables)
    return loss

  losses, times = [], []
  for _, (images, labels) in zip(range(steps), batches):
    if len(times) >= _FEWEST and sum(times) > seconds:
      break
    start = time.perf_counter()
    losses.append(float(step(tf.constant(images), tf.constant(labels))))
    times.append(time.perf_counter() - start)
    on_step(losses[-1])
  return Run(np.array(losses), times[0], 1e3 * float(np.median(times[1:] or times)))


def predict(network: keras.Model, setting: Setting, t1: np.ndarray) -> np.ndarray:
  """Returns the most likely class of every voxel of `t1`, `[depth, height, width]`."""

  @tf.function(autograph=False)
  def classify(images):
    return tf.argmax(logits_of(network, setting, images, training=False), axis=-1)

  return classify(tf.constant(t1[np.newaxis, ..., np.newaxis])).numpy()[0]


def logits_of(network, setting, images, training):
  """Returns the float32 logits, channels last as the images are, whatever the network's format."""
  if setting.data_format == "channels_first":
    images = tf.transpose(images, [0, 4, 1, 2, 3])
  logits = tf.cast(network(images, training=training), tf.float32)
  if setting.data_format == "channels_first":
    logits = tf.transpose(logits, [0, 2, 3, 4, 1])
  return logits


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """Returns the mean over all voxels."""
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  )
