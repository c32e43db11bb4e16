r"""Trains a small 3-D segmentation network, alone or as one of several that share every batch.

TensorFlow's `tf.distribute` spreads the work; this package's op computes every transposed
convolution and every input gradient. Each step prints one line, `step 3/20 loss 0.6723`, with the
loss of the whole batch: the same on every machine, and the same as that of one process alone.

On real machines, start this command once on each, with the addresses of all and its own number:

  TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
              "task": {"type": "worker", "index": 0}}' \
    python examples/distributed_training.py --strategy workers
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.

import keras
import numpy as np
import tensorflow as tf

import tf_conv3d_grad

REPLICAS = 2  # Virtual devices of one process.


def main() -> None:
  arguments = parse_arguments()
  # Before anything else: it starts the server that the other workers wait for.
  strategy = STRATEGIES[arguments.strategy]()
  patch = contextlib.nullcontext() if arguments.stock else tf_conv3d_grad.patch_tensorflow()
  with patch:
    for step, loss in enumerate(losses(strategy, arguments), 1):
      print(f"step {step}/{arguments.steps} loss {loss:.9g}", flush=True)


def parse_arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--strategy", choices=STRATEGIES, default="one", help="who shares the work")
  add("--steps", type=int, default=20, help="training steps (default: %(default)s)")
  add("--batch", type=int, default=4, help="volumes a step, of all together (default: %(default)s)")
  add("--size", type=int, default=16, help="length of a volume's edge (default: %(default)s)")
  add("--jit-compile", action="store_true", help="compile the network and its gradient by XLA")
  add("--stock", action="store_true", help="keep TensorFlow's own op, for comparison")
  return parser.parse_args()


def one() -> tf.distribute.Strategy:
  """Returns the strategy of a process that does all the work alone."""
  return tf.distribute.get_strategy()


def mirrored() -> tf.distribute.Strategy:
  """Returns the strategy of one process with several devices, here virtual ones on the CPU."""
  devices = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
  tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
  return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(REPLICAS)])


def workers() -> tf.distribute.Strategy:
  """Returns the strategy of one of several processes, which finds the others in TF_CONFIG."""
  return tf.distribute.MultiWorkerMirroredStrategy()


STRATEGIES = {"one": one, "mirrored": mirrored, "workers": workers}


def losses(strategy: tf.distribute.Strategy, arguments: argparse.Namespace) -> Iterator[float]:
  """Trains the network and yields the loss of every step, over the whole batch."""
  with strategy.scope():
    network = segmentation_network(arguments.size)
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(network.trainable_variables)

  @tf.function(jit_compile=arguments.jit_compile)
  def loss_and_gradients(images, masks):
    with tf.GradientTape() as tape:
      logits = network(images, training=True)
      loss = tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=masks, logits=logits), axis=[1, 2, 3, 4]
      )
      # Gradients are summed over the replicas: divide by the whole batch, not by this part of it.
      loss = tf.reduce_sum(loss) / arguments.batch
    return loss, tape.gradient(loss, network.trainable_variables)

  def step_of_one_replica(images, masks):
    loss, gradients = loss_and_gradients(images, masks)
    optimizer.apply_gradients(zip(gradients, network.trainable_variables))
    return loss

  @tf.function
  def step(batch):
    losses = strategy.run(step_of_one_replica, args=batch)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

  if arguments.batch % strategy.num_replicas_in_sync:
    raise SystemExit(f"--batch must be a multiple of {strategy.num_replicas_in_sync}")
  rng = np.random.default_rng(0)
  for _ in range(arguments.steps):
    batch = volumes(rng, arguments.batch, arguments.size)
    parts = strategy.experimental_distribute_values_from_function(
      functools.partial(part_of_replica, batch)
    )
    yield float(step(parts))


def segmentation_network(size: int) -> keras.Model:
  """Returns an encoder-decoder that says of every voxel whether it is part of a ball."""
  keras.utils.set_random_seed(0)
  layers = keras.layers
  image = layers.Input([size, size, size, 1])
  full = layers.Conv3D(4, 3, padding="same", activation="relu")(image)
  half = layers.Conv3D(8, 3, strides=2, padding="same", activation="relu")(full)
  half = layers.Conv3D(8, 3, padding="same", activation="relu")(half)
  up = layers.Conv3DTranspose(4, 4, strides=2, padding="same", activation="relu")(half)
  logits = layers.Conv3D(1, 1)(layers.Concatenate()([full, up]))
  return keras.Model(image, logits)


def volumes(rng: np.random.Generator, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns noisy volumes with a bright ball each, and the ball's voxels."""
  centres = rng.uniform(0.3 * size, 0.7 * size, [count, 3, 1, 1, 1])
  radii = rng.uniform(0.15 * size, 0.3 * size, [count, 1, 1, 1])
  distances = np.linalg.norm(np.indices([size] * 3) - centres, axis=1)
  masks = (distances < radii)[..., np.newaxis].astype("float32")
  images = masks + rng.normal(0, 0.5, masks.shape).astype("float32")
  return images, masks


def part_of_replica(
  batch: tuple[np.ndarray, ...], context: tf.distribute.ValueContext
) -> tuple[tf.Tensor, ...]:
  """Returns a replica's share of what all of them, on all machines, compute together."""
  replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
  return tuple(tf.constant(np.split(array, replicas)[replica]) for array in batch)


if __name__ == "__main__":
  main()
