"""Trains a 3-D network on a real brain and on the CPU, with TensorFlow as it is and patched.

The network is made of Keras's own layers, some of them dilated, some transposed, and trained with
channels last and first, compiled by XLA and not, in single, half and double precision. As it is,
TensorFlow refuses some of these and is slow in most; after `tf_conv3d_grad.patch_tensorflow()` all
of them run. What you will see:

  1. the network learns to tell grey from white matter in the MNI152 T1 volume: as it is, channels
     last, and patched, channels first, from the same weights to the same loss;
  2. how well it then does on axial slices that it was never shown (Dice; 1 is perfect);
  3. how many milliseconds a training step takes in every setting, as it is and patched.

  python examples/brain_segmentation.py --steps 200 --output build/brain_segmentation.png
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.
os.environ["KERAS_BACKEND"] = "tensorflow"

import brain_volume
import network
import picture
import rich
import rich.progress
import tables
import tensorflow as tf
import training

import tf_conv3d_grad

SIDES = {"as it is": contextlib.nullcontext, "patched": tf_conv3d_grad.patch_tensorflow}
LAST, FIRST = (training.Setting("float32", f"channels_{end}") for end in ("last", "first"))
SETTINGS = (
  LAST,
  FIRST,
  *(
    training.Setting("float32", setting.data_format, compiled=True) for setting in (LAST, FIRST)
  ),
  *(
    training.Setting(dtype, setting.data_format)
    for dtype in ("mixed_float16", "float64")
    for setting in (LAST, FIRST)
  ),
)  # fmt: skip
# What is trained to the end and examined.
EXAMINED = (("as it is", LAST), ("patched", FIRST))
BAR_LABEL_WIDTH = 40


def main():
  arguments = parse_arguments()
  # It warns of functions that are traced often; here each is traced once, under one name.
  tf.get_logger().setLevel("ERROR")
  start = time.perf_counter()

  title("1. The data")
  brain = brain_volume.load()
  describe(brain)

  title("2. Training, on everything but the held-out slices")
  results = {
    f"{side}, {setting.data_format.replace('_', ' ')}": train_and_score(
      brain, side, setting, arguments
    )
    for side, setting in EXAMINED
  }
  rich.print(tables.of_results(results))

  title("3. The same training in every setting, a few steps of each")
  runs = {
    setting: {side: try_to_train(brain, side, setting, arguments) for side in SIDES}
    for setting in SETTINGS
  }
  rich.print(tables.of_runs(runs))

  picture.draw(arguments.output, brain, results, runs)
  rich.print(f"\nAll of this took {time.perf_counter() - start:.0f} s.")
  rich.print(f"Input, truth, predictions and times: [bold]{arguments.output}")


def parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--steps", type=int, default=200, help="training steps (default: %(default)s)")
  add(
    "--seconds",
    type=float,
    default=3,
    help="how long each setting is trained for its time (default: %(default)s)",
  )
  add(
    "--size",
    type=int,
    default=24,
    choices=range(8, brain_volume.LARGEST_CUBE + 1, network.MULTIPLE),
    help="edge of the cubes to train on, in voxels (default: %(default)s)",
  )
  add("--seed", type=int, default=0, help="of weights and cubes (default: %(default)s)")
  add(
    "--output",
    type=pathlib.Path,
    default="build/brain_segmentation.png",
    help="the picture to write (default: %(default)s)",
  )
  arguments = parser.parse_args()
  if arguments.steps < 1:
    parser.error(f"--steps must be at least 1, got {arguments.steps}")
  return arguments


def describe(brain):
  depth, height, width = brain.t1.shape
  first, *_, last = brain.slice_mm[brain.held_out]
  rich.print(
    f"MNI152 T1 volume, {depth} x {height} x {width} voxels, and its tissue maps.\n"
    f"Held out for the exam: the axial slices from z = {first:+.0f} to {last:+.0f} mm.\n"
  )


def train_and_score(brain, side, setting, arguments):
  """Trains to the end and returns a `training.Result`."""
  with SIDES[side]():
    net = new_network(setting, arguments)
    run = train(net, brain, side, setting, arguments)
    predicted = training.predict(net, setting, brain.t1[brain.held_out])
  dice = brain_volume.dice(predicted, brain.labels[brain.held_out])
  return training.Result(run, predicted, dice)


def try_to_train(brain, side, setting, arguments):
  """Trains for some seconds; returns a `training.Run`, or the error that came instead."""
  try:
    with SIDES[side]():
      net = new_network(setting, arguments)
      return train(net, brain, side, setting, arguments, arguments.seconds)
  except (tf.errors.OpError, ValueError, TypeError) as error:
    if side == "patched":
      raise
    return error


def train(net, brain, side, setting, arguments, seconds=float("inf")):
  """Trains on the same cubes, whatever the side and the setting, and shows how far it is."""
  cubes = brain_volume.training_cubes(brain, arguments.size, arguments.seed)
  columns = (*rich.progress.Progress.get_default_columns(), "loss {task.fields[loss]:.3f}")
  with rich.progress.Progress(*columns, transient=seconds < float("inf")) as bar:
    label = f"{setting}, {side}".rjust(BAR_LABEL_WIDTH)
    task = bar.add_task(label, total=arguments.steps, loss=float("nan"))
    return training.train(
      net,
      setting,
      cubes,
      arguments.steps,
      seconds,
      on_step=lambda loss: bar.update(task, advance=1, loss=loss),
    )


def new_network(setting, arguments):
  classes = len(brain_volume.CLASSES)
  return network.segmentation_net(classes, setting.data_format, setting.dtype, arguments.seed)


def title(text):
  rich.get_console().rule(f"[bold]{text}")


if __name__ == "__main__":
  main()
