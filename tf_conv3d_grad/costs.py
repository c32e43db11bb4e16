"""What each way of computing a problem is expected to cost: the figures behind the policy.

Seconds of one core, measured on a 2.x GHz x86 server core with AVX-512 (TensorFlow 2.21); with
several cores all of them shrink alike, so that mostly their ratios decide. How to measure them
again, and how the constants are fitted to the times, is in docs/cost_model.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import tensorflow as tf

from tf_conv3d_grad import geometry
from tf_conv3d_grad.problem import Axis, Problem

# XLA's matrix product, of the shapes that come up here: 88 GF/s a core in float32 (2048^3 reach 105
# to 120), a fifth of that in float64.
_PRODUCT_RATE = {tf.float32: 88e9, tf.float64: 17e9}
# A product's inner or outer dimension at which it reaches half that rate.
_HALF_RATE_LENGTH = 12
# Bytes of neighbours stacked, axis by axis, and how many channels' runs go half as fast.
_GATHER_RATE, _GATHER_RUN = 9e9, 14
# With rows channels last and columns channels first, both are transposed: twice the gathering.
_GATHER_TRANSPOSED = 2
# Bytes of columns added up: more than the cache holds go slower, and so do runs of 1 or 2 channels;
# columns held channels first are rows of cells, and go faster.
_SCATTER_RATE, _SCATTER_CHANNEL_RATE = 8e9, 3.4e9
_SCATTER_FIRST_RATE = 15e9
_CACHE_BYTES, _OUT_OF_CACHE_RATE = 12 << 20, 5.4e9
# Bytes of a result put together from phases, and of a tensor transposed.
_MOVE_RATE = 5e9
# Bytes of what stands by groups in front of and behind the product, and by cells elsewhere.
_GROUP_ROWS_RATE, _GROUP_COLUMNS_RATE = 12.5e9, 2.5e9
# Bytes of a filter whose gathered taps have to stand beside its out channels.
_FILTER_RATE = 2.2e9
# One more piece of a loop: two cores, which have to meet after each of its operations.
_PIECE = 800e-6
# One more operation to call, trace or compile.
_OPERATION = 10e-6
# TensorFlow's kernels reach these with enough channels: oneDNN half of it with so many in channels,
# or out channels of a group, Eigen with so many taps times out channels.
_ONEDNN_RATE = {tf.float32: 140e9, tf.bfloat16: 900e9}
_ONEDNN_HALF_RATE_IN, _ONEDNN_HALF_RATE_OUT = 20, 10
_EIGEN_RATE = {tf.float32: 65e9, tf.float64: 22e9}
_EIGEN_HALF_RATE = 2000
# One call of the kernel, for a group among others.
_KERNEL_CALL = 200e-6
# A depthwise problem's shifts, products and sums, fused into one loop.
DEPTHWISE_RATE = 5e9
# A call of a function that XLA has compiled, besides what it computes.
COMPILED_CALL_SECONDS = 500e-6
# XLA compiles an overlap-add in 0.15 to 0.5 s.
COMPILE_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one way of computing a problem is expected to take.

  Attributes:
    seconds: Of one core.
    column_bytes: Of columns and gathered neighbours held at a time.
  """

  seconds: float
  column_bytes: int


def flops(problem: Problem) -> int:
  """Returns the useful arithmetic of a static problem, a multiply-add counted as two."""
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  return 2 * cells * math.prod(problem.taps) * problem.filter_in_channels * problem.out_channels


def tensor_bytes(problem: Problem) -> int:
  """Returns the bytes of the three tensors of a static problem."""
  shapes = (problem.input_shape, problem.filter_shape, problem.out_backprop_shape)
  return problem.dtype.size * sum(math.prod(shape) for shape in shapes)


def of_kernel(problem: Problem, dtype: tf.DType, onednn: bool) -> Cost:
  """Returns the cost of TensorFlow's own CPU kernel, called for each group."""
  if onednn and dtype in _ONEDNN_RATE:
    rate = _ONEDNN_RATE[dtype] * _efficiency(problem.filter_in_channels, _ONEDNN_HALF_RATE_IN)
    if problem.groups > 1:
      rate *= _efficiency(problem.out_channels // problem.groups, _ONEDNN_HALF_RATE_OUT)
  else:
    rate = _EIGEN_RATE[tf.float64 if dtype == tf.float64 else tf.float32]
    taps = math.prod(problem.taps)
    if taps > 1:  # one is a plain product
      rate *= _efficiency(taps * problem.out_channels // problem.groups, _EIGEN_HALF_RATE)
  moved = tensor_bytes(problem) / _MOVE_RATE if dtype != problem.dtype else 0.0
  if problem.groups > 1:  # split and joined
    moved += tensor_bytes(problem) / _MOVE_RATE
  return Cost(flops(problem) / rate + moved + problem.groups * _KERNEL_CALL, 0)


def of_overlap_add(
  problem: Problem,
  gathered: tuple[bool, bool, bool],
  rows_first: bool,
  columns_first: bool,
  tile: tuple[int | None, int | None] = (None, None),
  samples: int | None = None,
) -> Cost:
  """Returns the cost of overlap-add with these parameters, those of `Plan`, compiled by XLA."""
  dtype = tf.float64 if problem.dtype == tf.float64 else tf.float32
  axes = [axis.simplified()[0] for axis in problem.axes]
  pieces, batch = 1, problem.batch
  for a, length in enumerate(tile):
    axis = axes[a]
    if length is not None and length < axis.input:
      pieces, samples = pieces * -(-axis.input // length), 1
      axes[a] = dataclasses.replace(axis, input=length, output=_window(axis, length))
  if samples is not None:
    pieces, batch = pieces * -(-batch // samples), samples
  # Without channels there is nothing to compute, but nothing to fail for either.
  inner, groups = max(1, problem.filter_in_channels), problem.groups
  out = max(1, problem.out_channels // groups)

  cells, scattered_taps, phases, gathered_taps, stacked = batch, 1, 1, 1, 0
  for axis, is_gathered in zip(axes, gathered):
    if is_gathered and not axis.is_shuffled:
      cells = cells * -(-axis.input // axis.stride)
      phases, gathered_taps = phases * min(axis.stride, axis.taps), gathered_taps * axis.taps
      stacked += gathered_taps
    else:
      cells, scattered_taps = cells * axis.output, scattered_taps * axis.taps
  # Over all phases together every tap is multiplied once.
  products = 2 * cells * gathered_taps * scattered_taps * inner * out * groups
  depth = gathered_taps / phases * out
  width = scattered_taps * inner
  rate = _PRODUCT_RATE[dtype] * _efficiency(depth) * _efficiency(width)
  copied = dtype.size * cells * stacked * out * groups  # what each axis leaves on the way
  column_bytes = dtype.size * cells * width * groups
  seconds = products / rate
  if gathered_taps > phases or groups > 1:
    transposed = _GATHER_TRANSPOSED if columns_first and not rows_first else 1
    run = min(1.0, (out + 2) / (_GATHER_RUN + 2))
    seconds += transposed * copied / (_GATHER_RATE * run)
  if groups > 1:
    seconds += dtype.size * cells * gathered_taps * out * groups / _GROUP_ROWS_RATE
    seconds += column_bytes * phases / _GROUP_COLUMNS_RATE
  if gathered_taps > phases:
    weights = math.prod(problem.taps) * inner * problem.out_channels
    seconds += dtype.size * weights / _FILTER_RATE
  if problem.is_cellwise:
    scatter_rate = _MOVE_RATE
  elif columns_first:
    scatter_rate = _SCATTER_FIRST_RATE
  else:
    limit = _OUT_OF_CACHE_RATE if column_bytes > _CACHE_BYTES else _SCATTER_RATE
    scatter_rate = min(limit, inner * _SCATTER_CHANNEL_RATE)
  seconds += column_bytes * phases / scatter_rate
  result = dtype.size * batch * math.prod(axis.input for axis in axes) * problem.in_channels
  seconds += result * sum(axis.stride > 1 for axis in axes) / _MOVE_RATE
  if pieces > 1:  # each piece is put into the result
    seconds += result / _MOVE_RATE
  shuffled_taps = math.prod(axis.taps for axis in axes if axis.is_shuffled)
  operations = gathered_taps + scattered_taps // shuffled_taps  # those are one transposition
  seconds += operations * _OPERATION
  held = column_bytes * phases + copied // max(1, phases)
  return Cost(pieces * seconds + (pieces - 1) * _PIECE, int(held))


def overlap_add_choices(problem: Problem) -> list[tuple[bool, bool, bool]]:
  """Returns which sets of axes are worth gathering: those of few enough neighbours to compile."""
  choices = []
  axes = [axis.simplified()[0] for axis in problem.axes]
  # Height first: of equals it was mostly the fastest, and depth the slowest.
  for depth, width, height in itertools.product((False, True), repeat=3):
    gathered = (depth, height, width)
    neighbours = math.prod(a.taps for a, is_gathered in zip(axes, gathered) if is_gathered)
    if neighbours <= 27 and not any(
      is_gathered and (axis.is_shuffled or axis.taps == 1)
      for axis, is_gathered in zip(axes, gathered)
    ):
      choices.append(gathered)
  return choices


def _efficiency(length: float, half: float = _HALF_RATE_LENGTH) -> float:
  return max(length, 1) / (max(length, 1) + half)  # nothing takes no time, at any rate


def _window(axis: Axis, length: int) -> int:
  """Returns how many cells of `out_backprop` a piece of the result reads along an axis."""
  reach = geometry.extent(axis.taps, axis.dilation) - 1
  return -(-length // axis.stride) + reach // axis.stride
