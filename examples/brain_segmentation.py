"""Trains a 3-D network, channels first and dilated, on a real brain and on the CPU.

The op that such a network leans on, `tf.raw_ops.Conv3DBackpropInputV2`, is the one that TensorFlow
lacks or crawls in on a CPU: channels first, dilated, in half precision, under XLA. Here every
transposed convolution and every input gradient of the network is a call of this package's op
instead. What you will see:

  1. the network learns to tell grey from white matter in the MNI152 T1 volume, once with the
     whole training step compiled by XLA and once without, from the same weights to the same loss;
  2. how well it then does on axial slices that it was never shown (Dice; 1 is perfect);
  3. what stock TensorFlow does with the same calls: an error, or how many milliseconds.

  python examples/brain_segmentation.py --steps 150 --output build/brain_segmentation.png
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
from rich import box, console as rich_console, progress, table as rich_table
import tensorflow as tf

import brain_volume
import network
import picture
import stock_comparison
import tf_conv3d_grad
import training

RUNS = {'compiled': True, 'not compiled': False}
BATCH = 2
RESULT_HEADINGS = ('first\nstep', 'later\nsteps', 'first\nloss', 'last\nloss',
                   'Dice\nCSF etc.', 'Dice\ngrey', 'Dice\nwhite')
CLEARLY = 1.5  # Times faster: less is noise on a busy machine.
DTYPES = ('float32', 'float16')
NOT_NEEDED = ('stem_gradient',)  # Traced, then pruned: the first layer's input is data.
ONEDNN_SWITCH = 'TF_ENABLE_ONEDNN_OPTS'

console = rich_console.Console()


def main():
  arguments = parse_arguments()
  tf.get_logger().setLevel('ERROR')  # It warns that many functions are traced; here they are meant to.
  start = time.perf_counter()

  console.rule('[bold]1. The data')
  brain = brain_volume.load()
  describe_data(brain)

  console.rule('[bold]2. Training, on everything but the held-out slices')
  results = {}
  for name, compiled in RUNS.items():
    with tf_conv3d_grad.jit_compile(compiled):
      results[name] = train_and_score(brain, name, compiled, arguments)
  describe_results(results)

  console.rule('[bold]3. Stock TensorFlow, given the same calls')
  compare_with_stock(brain, arguments)

  picture.draw(arguments.output, brain, {
      name: (run.losses, predicted, dice) for name, (run, predicted, dice) in results.items()})
  console.print(f'\nAll of it took {time.perf_counter() - start:.0f} s. '
                f'Input, truth and predictions, side by side: [bold]{arguments.output}')


def parse_arguments():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--steps', type=int, default=150, help='training steps (default: %(default)s)')
  parser.add_argument('--size', type=int, default=24, help='edge of the cubes to train on, in '
                      'voxels, a multiple of 4 (default: %(default)s)')
  parser.add_argument('--seed', type=int, default=0, help='of the weights and of the choice of '
                      'cubes (default: %(default)s)')
  parser.add_argument('--output', type=pathlib.Path, default='build/brain_segmentation.png',
                      help='the picture to write (default: %(default)s)')
  arguments = parser.parse_args()
  if arguments.steps < 1:
    parser.error(f'--steps must be at least 1, not {arguments.steps}')
  if arguments.size < 4 or arguments.size % 4:
    parser.error(f'--size must be a multiple of 4, not {arguments.size}: '
                 'the network halves its input twice')
  return arguments


def describe_data(brain):
  depth, height, width = brain.t1.shape
  held_out = brain.slice_mm[brain.held_out]
  console.print(
      f'MNI152 T1 volume, {depth} x {height} x {width} voxels of 2 mm, with its grey- and '
      f'white-matter maps.\n{len(held_out)} axial slices are held out for the exam: '
      f'z = {held_out[0]:+.0f} to {held_out[-1]:+.0f} mm.\n')


def train_and_score(brain, name, compiled, arguments):
  """Trains from the same weights on the same cubes every time; returns run, prediction, Dice."""
  net = network.SegmentationNet(
      tf_conv3d_grad.Conv3DBackpropInputV2, len(brain_volume.CLASSES), arguments.seed)
  cubes = brain_volume.training_cubes(brain, arguments.size, BATCH, arguments.seed)
  columns = (*progress.Progress.get_default_columns(), 'loss {task.fields[loss]:.3f}')
  with progress.Progress(*columns, console=console) as bar:
    task = bar.add_task(f'{name:>16}', total=arguments.steps, loss=float('nan'))
    run = training.train(net, cubes, arguments.steps, compiled,
                         on_step=lambda loss: bar.update(task, advance=1, loss=loss))
  predicted = training.predict(net, brain.t1[brain.held_out])
  return run, predicted, brain_volume.dice(predicted, brain.labels[brain.held_out])


def describe_results(results):
  table = rich_table.Table(box=box.SIMPLE_HEAD)
  table.add_column('training step')
  for heading in RESULT_HEADINGS:
    table.add_column(heading, justify='right')
  for name, (run, _, dice) in results.items():
    table.add_row(name, f'{run.first_step_s:.1f} s', f'{run.step_ms:.0f} ms',
                  f'{run.losses[0]:.4f}', f'{run.losses[-1]:.4f}',
                  *(f'[bold]{score:.3f}' for score in dice))
  console.print(table)
  difference = np.abs(np.subtract(*(run.losses for run, _, _ in results.values())))
  console.print(f'The losses of the two differ by {difference.max():.0e} at most, at any step.\n')


def compare_with_stock(brain, arguments):
  """Prints one table for each precision, one row for each call of the network."""
  calls = calls_of_one_step(brain, arguments)
  pairs = [(dtype, call) for dtype in DTYPES for call in calls]
  tables = {dtype: race_table(dtype) for dtype in DTYPES}
  errors = set()
  for dtype, call in progress.track(pairs, f'{"the same calls":>16}', console=console):
    races = [stock_comparison.race(call, dtype, mode, tf_conv3d_grad.Conv3DBackpropInputV2)
             for mode in stock_comparison.MODES]
    tables[dtype].add_row(call.name, call.kernel, *(text for race in races for text in shown(race)))
    errors |= {race.stock for race in races if isinstance(race.stock, str)}
  console.print(*tables.values(), sep='\n')
  for error in sorted(errors):
    console.print(f'[red]error[/]: {error}')
  if ONEDNN_SWITCH not in os.environ:
    console.print(f'With {ONEDNN_SWITCH}=0 in the environment you see what builds without oneDNN '
                  'do, such as those for Arm, Windows and macOS.')


def race_table(dtype):
  table = rich_table.Table(
      box=box.SIMPLE_HEAD, title=f'{dtype}: milliseconds, stock TensorFlow and this op')
  table.add_column('call')
  table.add_column('filter')
  for mode in stock_comparison.MODES:
    table.add_column(f'{mode}\nstock', justify='right')
    table.add_column('\nop', justify='right')
  return table


def shown(race):
  """The two results of a race, an error in red and a clear winner in green."""
  for result, other in ((race.stock, race.ours), (race.ours, race.stock)):
    if isinstance(result, str):
      yield '[red]error'
      continue
    text = f'{result:,.1f}' if result < 100 else f'{result:,.0f}'
    wins = isinstance(other, str) or result * CLEARLY < other
    yield f'[bold green]{text}' if wins else text


def calls_of_one_step(brain, arguments):
  """The calls that one training step makes, as the network itself makes them."""
  recorder = stock_comparison.Recorder(tf_conv3d_grad.Conv3DBackpropInputV2)
  net = network.SegmentationNet(recorder, len(brain_volume.CLASSES), arguments.seed)
  cubes = brain_volume.training_cubes(brain, arguments.size, BATCH, arguments.seed)
  training.train(net, cubes, steps=1, compiled=False)
  return [call for call in recorder.calls if call.name not in NOT_NEEDED]


if __name__ == '__main__':
  main()
