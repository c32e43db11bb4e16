"""How long a way of computing is expected to take, and the rates that several ways share.

Times are seconds of one core. Those in this file were measured on a 2.x GHz x86 server core with
AVX-512 (TensorFlow 2.21). With several cores all times shrink alike, so mostly only their ratios
matter. docs/cost_model.md says how to measure them again, and how the constants are fitted.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.tensorflow import processor

# FLOP a second of one core in XLA's matrix product, in the shapes that come up here (2048^3 reaches
# 105 to 120 GF/s in float32).
PRODUCT_RATE = {tf.float32: 88e9, tf.float64: 40e9}
# The inner or outer dimension at which a product reaches half that rate.
HALF_RATE_LENGTH = 12
# Bytes a second of stacking neighbours axis by axis, and the run of channels at which it is half as
# fast.
GATHER_RATE, GATHER_RUN = 9e9, 14
# Bytes a second that a pointwise product reads and writes, which it does while it multiplies.
POINTWISE_RATE = 10e9
# Bytes a second of interleaving the phases of a result, and of transposing a tensor.
MOVE_RATE = 5e9
# One more tile of a loop. Two cores have to wait for each other after each of its operations.
TILE_SECONDS = 400e-6
# Calling a function that XLA has compiled, without what it computes.
COMPILED_CALL_SECONDS = 500e-6


@dataclasses.dataclass(frozen=True)
class Cost:
  """How long one way of computing a problem is expected to take, and what it holds.

  Attributes:
    seconds: The expected time, on one core.
    column_bytes: The bytes of columns and gathered neighbours that are held at a time.
    compiling: How long it takes to compile, as a multiple of what loops over cells take.
  """

  seconds: float
  column_bytes: int
  compiling: float = 1.0

  def called(self) -> Cost:
    """Returns this cost and that of calling a compiled function."""
    return dataclasses.replace(self, seconds=self.seconds + COMPILED_CALL_SECONDS)


def compiling(problem: Problem) -> float:
  """Returns `Cost.compiling` of a matrix product and what is around it.

  With a pointwise filter there is nothing around it: XLA compiles it in 0.01 to 0.17 s. With taps
  along one axis it takes 0.06 to 0.13 s, along more 0.14 to 0.39.
  """
  axes = sum(taps > 1 for taps in problem.taps)
  return (0.1, 0.4, 1.0, 1.0)[axes]


def flops(problem: Problem) -> int:
  """Returns the useful arithmetic of a static problem, a multiply-add counted as two."""
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  return 2 * cells * math.prod(problem.taps) * problem.filter_in_channels * problem.out_channels


def tensor_bytes(problem: Problem) -> int:
  """Returns the bytes of the three tensors of a static problem."""
  shapes = (problem.input_shape, problem.filter_shape, problem.out_backprop_shape)
  return problem.dtype.size * sum(math.prod(shape) for shape in shapes)


def filled(channels: int) -> float:
  """Returns which part of oneDNN's vectors so many channels fill: 16 float32, 8 without AVX-512.

  Up to 8 channels take about as long there as with it.
  """
  channels = max(1, channels)
  lanes = 16 if processor.onednn_has_avx512() or channels <= 8 else 8
  return channels / (lanes * -(-channels // lanes))


def efficiency(length: float, half_rate: float | None = None) -> float:
  """Returns which part of its full rate a loop of this length reaches; a product by default."""
  if half_rate is None:
    half_rate = HALF_RATE_LENGTH
  return max(length, 1) / (max(length, 1) + half_rate)  # nothing takes no time, at any rate
