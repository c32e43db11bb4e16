"""Trains a segmentation network for a few steps, and uses it."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import tensorflow as tf


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
  network,
  batches,
  steps: int,
  compiled: bool,
  learning_rate: float = 0.02,
  on_step=lambda loss: None,
) -> Run:
  """Takes `steps` steps of Adam.

  Args:
    network: The network to train, in place.
    batches: Yields `(images, labels)`.
    steps: How many of them to learn from.
    compiled: Whether XLA compiles the whole step.
    learning_rate: Of the first step; it falls to zero along a straight line.
    on_step: Called with the loss of each step as it is known.

  Returns:
    The losses and the times.
  """
  optimizer = Adam(network.trainable_variables)

  @tf.function(jit_compile=compiled, autograph=False)
  def step(images, labels, rate):
    with tf.GradientTape() as tape:
      loss = cross_entropy(labels, network(images))
    optimizer.apply(tape.gradient(loss, optimizer.variables_to_train), rate)
    return loss

  losses, seconds = [], []
  for index, (images, labels) in zip(range(steps), batches):
    rate = tf.constant(learning_rate * (1 - index / steps), tf.float32)
    start = time.perf_counter()
    losses.append(float(step(tf.constant(images), tf.constant(labels), rate)))
    seconds.append(time.perf_counter() - start)
    on_step(losses[-1])
  return Run(np.array(losses), seconds[0], 1e3 * float(np.median(seconds[1:] or seconds)))


def predict(network, t1: np.ndarray) -> np.ndarray:
  """Returns the most likely class of every voxel of `t1`, `[depth, height, width]`."""

  @tf.function(autograph=False)
  def classify(images):
    return tf.argmax(network(images), axis=1)

  return classify(tf.constant(t1[np.newaxis, np.newaxis])).numpy()[0]


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """The mean over all voxels; `logits` are channels first."""
  channels_last = tf.transpose(logits, [0, 2, 3, 4, 1])
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=channels_last)
  )


class Adam(tf.Module):
  """Adam (Kingma & Ba 2015), small enough to be compiled into the step with everything else."""

  def __init__(self, variables, momentum: float = 0.9, memory: float = 0.99):
    super().__init__()
    self.variables_to_train = variables
    self._momentum, self._memory = momentum, memory
    self._count = tf.Variable(0.0)
    self._means = [tf.Variable(tf.zeros_like(v)) for v in variables]
    self._squares = [tf.Variable(tf.zeros_like(v)) for v in variables]

  def apply(self, gradients, rate):
    """Moves every variable against its gradient."""
    count = self._count.assign_add(1.0)
    rate *= tf.sqrt(1 - self._memory**count) / (1 - self._momentum**count)
    for variable, mean, square, gradient in zip(
      self.variables_to_train, self._means, self._squares, gradients
    ):
      mean.assign(self._momentum * mean + (1 - self._momentum) * gradient)
      square.assign(self._memory * square + (1 - self._memory) * tf.square(gradient))
      variable.assign_sub(rate * mean / (tf.sqrt(square) + 1e-8))
