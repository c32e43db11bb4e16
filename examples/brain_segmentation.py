"""Trains a 3-D network, channels first and dilated, on a real brain and on the CPU.

The op that such a network leans on, `tf.raw_ops.Conv3DBackpropInputV2`, is the one that TensorFlow
lacks or crawls in on a CPU: channels first, dilated, in half precision, under XLA. Here every
transposed convolution and every input gradient of the network is a call of this package's op
instead. What you will see:

  1. the network learns to tell grey from white matter in the MNI152 T1 volume, once with the
     whole training step compiled by XLA and once without, from the same weights to the same loss;
  2. how well it then does on axial slices that it was never shown (Dice; 1 is perfect);
  3. what stock TensorFlow does with the same calls: an error, or how many milliseconds.

  python examples/brain_segmentation.py --steps 200 --output build/brain_segmentation.png
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.

import brain_volume
import network
import picture
import rich
import rich.progress
import stock_comparison
import tables
import tensorflow as tf
import training

import tf_conv3d_grad

RUNS = {"compiled": True, "not compiled": False}
DTYPES = ("float32", "float16")
# Traced with the others but never executed: the input of the first layer is data.
NOT_NEEDED = ("stem_gradient",)
BAR_LABEL_WIDTH = 16


def main():
  arguments = parse_arguments()
  # It warns of functions that are traced often; here each is traced once, under one name.
  tf.get_logger().setLevel("ERROR")
  start = time.perf_counter()

  title("1. The data")
  brain = brain_volume.load()
  describe(brain)

  title("2. Training, on everything but the held-out slices")
  results = {}
  for name, compiled in RUNS.items():
    with tf_conv3d_grad.jit_compile(compiled):
      results[name] = train_and_score(brain, name, compiled, arguments)
  rich.print(tables.of_results(results))

  title("3. Stock TensorFlow, given the same calls")
  calls = calls_of_one_step(brain, arguments)
  for dtype in DTYPES:
    rich.print(tables.of_races(dtype, race_all(calls, dtype)))
  rich.print(tables.READING_AID)

  picture.draw(arguments.output, brain, results)
  rich.print(f"\nAll of this took {time.perf_counter() - start:.0f} s.")
  rich.print(f"Input, truth and predictions, side by side: [bold]{arguments.output}")


def parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--steps", type=int, default=200, help="training steps (default: %(default)s)")
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


def train_and_score(brain, name, compiled, arguments):
  """Trains from the same weights on the same cubes, whatever the `name`; returns a `Result`."""
  net = new_network(tf_conv3d_grad.Conv3DBackpropInputV2, arguments)
  cubes = brain_volume.training_cubes(brain, arguments.size, arguments.seed)
  columns = (*rich.progress.Progress.get_default_columns(), "loss {task.fields[loss]:.3f}")
  with rich.progress.Progress(*columns) as bar:
    task = bar.add_task(name.rjust(BAR_LABEL_WIDTH), total=arguments.steps, loss=float("nan"))
    run = training.train(
      net,
      cubes,
      arguments.steps,
      compiled,
      on_step=lambda loss: bar.update(task, advance=1, loss=loss),
    )
  predicted = training.predict(net, brain.t1[brain.held_out])
  dice = brain_volume.dice(predicted, brain.labels[brain.held_out])
  return training.Result(run, predicted, dice)


def calls_of_one_step(brain, arguments):
  """The calls of the op that one training step makes, taken down as the network makes them."""
  recorder = stock_comparison.Recorder(tf_conv3d_grad.Conv3DBackpropInputV2)
  cubes = brain_volume.training_cubes(brain, arguments.size, arguments.seed)
  training.train(new_network(recorder, arguments), cubes, steps=1, compiled=False)
  return [call for call in recorder.calls if call.name not in NOT_NEEDED]


def race_all(calls, dtype):
  """Yields each call with its races, one a mode."""
  for call in rich.progress.track(calls, dtype.rjust(BAR_LABEL_WIDTH)):
    yield (
      call,
      [
        stock_comparison.race(call, dtype, mode, tf_conv3d_grad.Conv3DBackpropInputV2)
        for mode in stock_comparison.MODES
      ],
    )


def new_network(op, arguments):
  return network.SegmentationNet(op, len(brain_volume.CLASSES), arguments.seed)


def title(text):
  rich.get_console().rule(f"[bold]{text}")


if __name__ == "__main__":
  main()
