"""Computes a result tile by tile along batch, depth and height, to hold little at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.sizes import Size


@dataclasses.dataclass(frozen=True)
class Tiling:
  """One axis cut into equal tiles, each of which reads a window of the other tensor.

  Attributes:
    count: How many tiles there are.
    axis: The problem on one tile, the same for all.
    before: Cells to pad in front of what is read.
    after: Cells to pad behind it; negative where cells at the end are never read.
    first: Where in the padded tensor the first window begins.
    step: How far apart the windows begin.
    window: How long each is.
  """

  count: Size
  axis: Axis
  before: Size
  after: Size
  first: Size
  step: int
  window: Size

  @property
  def is_whole(self) -> bool:
    """Whether it is known that there is one tile."""
    return sizes.is_known(self.count) and self.count == 1

  @property
  def pads(self) -> bool:
    """Whether windows read cells that are not there."""
    return self.before > 0 or self.after > 0


def of_result(axis: Axis, tile: int | None) -> Tiling:
  """Cuts the result of a transposed convolution; windows of `out_backprop` are read."""
  if tile is not None:
    tile = -(-tile // axis.stride) * axis.stride  # tiles alike: all begin on the same phase
  if tile is None or tile >= axis.input:
    return Tiling(1, axis, 0, 0, 0, 0, axis.output)
  count = -(-axis.input // tile)
  first = -((geometry.extent(axis.taps, axis.dilation) - 1 - axis.pad) // axis.stride)
  length = max(0, (tile - 1 + axis.pad) // axis.stride - first + 1)
  step = tile // axis.stride
  before = max(0, -first)
  after = max(0, first + (count - 1) * step + length - axis.output)
  pad = axis.pad - first * axis.stride
  of_tile = Axis(tile, length, axis.taps, axis.stride, axis.dilation, pad)
  return Tiling(count, of_tile, before, after, first + before, step, length)


def of_output(axis: Axis, tile: int | None) -> Tiling:
  """Cuts the output of a convolution; windows of its input are read."""
  if tile is None or (sizes.is_known(axis.output) and tile >= axis.output):
    return Tiling(1, axis, 0, 0, 0, 0, axis.input)
  count = -(-axis.output // tile)
  length = (tile - 1) * axis.stride + geometry.extent(axis.taps, axis.dilation)
  step = tile * axis.stride
  after = sizes.maximum((count - 1) * step + length - axis.pad - axis.input, 0)
  of_tile = Axis(length, tile, axis.taps, axis.stride, axis.dilation, 0)
  return Tiling(count, of_tile, axis.pad, after, 0, step, length)


def even(length: int, most: int, step: int = 1) -> int:
  """Returns how many steps a tile may have, at most, so that tiles of an axis are alike.

  What the last tile would have too much is computed as well, and padded or cut off with a copy. So
  it is the least with which there are no more tiles, or a divisor near that.
  """
  count = -(-length // (most * step))
  least = -(-length // (count * step))
  near = (steps for steps in range(least, least // 2, -1) if length % (steps * step) == 0)
  return next(near, least)


def samples_within(batch: int, held: int, budget: int) -> int | None:
  """Returns how many samples, that hold so much each, fit a budget; None if all of them do."""
  most = max(1, budget // max(1, held))
  if batch <= most:
    return None
  return next(samples for samples in range(most, 0, -1) if batch % samples == 0)


def parts(batch: Size, samples: int | None, depth: Tiling) -> Size:
  """Returns how many parts there are of some samples, all if None, and a tile of depth each."""
  return depth.count * (1 if samples is None else batch // samples)


def read(tensor: tf.Tensor, dimension: int, tiling: Tiling, index: Size) -> tf.Tensor:
  """Returns the window that tile `index` reads; `tensor` has been padded for the tiling."""
  if tiling.step == 0:
    return tensor
  return shifts.window(
    tensor, dimension, tiling.first + sizes.cast(index) * tiling.step, tiling.window
  )


def windows(tensor: tf.Tensor, dimension: int, tiling: Tiling) -> tf.Tensor:
  """Returns what all tiles of an output read, `[..., tiles, window, ...]`, of static sizes.

  A window is some runs as long as its step, the last of them shorter. So a few slices hold all
  windows, however many there are: XLA compiles a slice for each in up to five times as long.
  """
  count, step = tiling.count, tiling.step
  runs = -(-tiling.window // step)
  padded = shifts.refit(tensor, {dimension: (tiling.before, (count + runs - 1) * step)})
  found = []
  for first in range(0, tiling.window, step):
    split = shifts.split(shifts.window(padded, dimension, first, count * step), dimension, step)
    found.append(shifts.window(split, dimension + 1, 0, min(step, tiling.window - first)))
  return tf.concat(found, dimension + 1)


def pad(tensor: tf.Tensor, dimension: int, tiling: Tiling) -> tf.Tensor:
  """Returns `tensor` padded so that every window lies within it."""
  return shifts.pad(tensor, dimension, tiling.before, tiling.after)


def map(compute: Callable, count: Size, dtype: tf.DType) -> tf.Tensor:  # noqa: A001
  """Returns `[compute(0), compute(1), ...]` stacked, computed one after another."""
  if sizes.is_known(count) and count == 1:
    return compute(0)[tf.newaxis]
  return tf.map_fn(
    tf.autograph.experimental.do_not_convert(compute),
    tf.range(tf.cast(count, tf.int64)),
    fn_output_signature=dtype,
    parallel_iterations=1,
  )


def put(
  compute: Callable, count: Size, update_slice: Callable, begin: Callable, result: tf.Tensor
) -> tf.Tensor:
  """Returns `result` with `compute(i)` from the cell `begin(i)` on, one after another, in place.

  Args:
    compute: Returns a tile.
    count: How many there are.
    update_slice: As `private.update_slice` returns it.
    begin: Returns the first cell of a tile, an index of every dimension.
    result: What to write into.
  """

  def put_one(index: tf.Tensor, result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return index + 1, update_slice(result, compute(index), begin(index))

  _, result = tf.while_loop(
    lambda index, _: index < sizes.cast(count),
    tf.autograph.experimental.do_not_convert(put_one),
    (tf.constant(0, tf.int64), result),
    parallel_iterations=1,
  )
  return result


def sum(compute: Callable, count: Size, zero: tf.Tensor) -> tf.Tensor:  # noqa: A001
  """Returns `compute(0) + compute(1) + ...`, computed one after another."""
  if sizes.is_known(count) and count == 1:
    return compute(0)
  return tf.foldl(
    lambda total, index: total + compute(index),
    tf.range(tf.cast(count, tf.int64)),
    initializer=zero,
    parallel_iterations=1,
  )


def sum_of_parts(
  compute: Callable, batch: Size, samples: int | None, depth: Tiling, zero: tf.Tensor
) -> tf.Tensor:
  """Returns the sum over a batch and the tiles of depth, computed one part after another.

  Args:
    compute: Returns the share of some samples and one tile of depth, given the first of these
      samples and the index of the tile.
    batch: How many samples there are.
    samples: How many of them a part has, a divisor of the batch; None for all.
    depth: The tiles.
    zero: What to begin with.
  """

  def of_part(index: Size) -> tf.Tensor:
    sample = 0 if samples is None else sizes.cast(index // depth.count) * samples
    return compute(sample, 0 if depth.is_whole else sizes.cast(index % depth.count))

  return sum(of_part, parts(batch, samples, depth), zero)
