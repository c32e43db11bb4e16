"""How long a way of computing is expected to take, and the rates that several ways share.

Times are seconds of one core, measured on a 2.x GHz x86 server core with AVX-512 (TensorFlow 2.21).
With several cores all times shrink alike, so mostly only their ratios matter. docs/cost_model.md
says how to measure them again, and how the constants are fitted.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad.problem.definition import Problem

# XLA's matrix product, of the shapes that come up here: 88 GF/s a core in float32 (2048^3 reach 105
# to 120), a fifth of that in float64.
PRODUCT_RATE = {tf.float32: 88e9, tf.float64: 17e9}
# A product's inner or outer dimension at which it reaches half that rate.
HALF_RATE_LENGTH = 12
# Bytes of neighbours stacked, axis by axis, and how many channels' runs go half as fast.
GATHER_RATE, GATHER_RUN = 9e9, 14
# Bytes of a result put together from phases, and of a tensor transposed.
MOVE_RATE = 5e9
# Bytes a second of transposing between group-major and cell-major order: of a product's rows, and
# of its columns.
GROUP_ROWS_RATE, GROUP_COLUMNS_RATE = 12.5e9, 2.5e9
# One more tile of a loop: two cores, which have to meet after each of its operations.
TILE_SECONDS = 800e-6
# A call of a function that XLA has compiled, besides what it computes.
COMPILED_CALL_SECONDS = 500e-6


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one way of computing a problem is expected to take.

  Attributes:
    seconds: Of one core.
    column_bytes: Of columns and gathered neighbours held at a time.
  """

  seconds: float
  column_bytes: int

  def called(self) -> Cost:
    """Returns the cost of the same as a compiled function of its own, which has to be called."""
    return dataclasses.replace(self, seconds=self.seconds + COMPILED_CALL_SECONDS)


def flops(problem: Problem) -> int:
  """Returns the useful arithmetic of a static problem, a multiply-add counted as two."""
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  return 2 * cells * math.prod(problem.taps) * problem.filter_in_channels * problem.out_channels


def tensor_bytes(problem: Problem) -> int:
  """Returns the bytes of the three tensors of a static problem."""
  shapes = (problem.input_shape, problem.filter_shape, problem.out_backprop_shape)
  return problem.dtype.size * sum(math.prod(shape) for shape in shapes)


def efficiency(length: float, half_rate: float | None = None) -> float:
  """Returns the part of its full rate that a loop of this length reaches; by default a product."""
  if half_rate is None:
    half_rate = HALF_RATE_LENGTH
  return max(length, 1) / (max(length, 1) + half_rate)  # nothing takes no time, at any rate
