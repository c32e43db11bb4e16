"""The table to be reached: who races whom, on which cases, and by how much the op has to win."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks import cases
from tf_conv3d_grad.conformance.case import Case

# Contestants are named worker/what. The matrix product is the limit, not a peer.
MATMUL = "tf/matmul"
MATMUL_SIZE = 2048
MATMUL_FLOPS = 2 * MATMUL_SIZE**3

# How close to the least allowed, as a factor either way, a ratio is too close to call at once.
_CLOSE = 1.05

_RAW = ("raw.eager", "raw.graph")
_TORCH = ("torch/contiguous", "torch/channels_last_3d")


def _is_large(case: Case) -> bool:
  return str(case) not in cases.SMALL


def is_small(case: Case) -> bool:
  """Returns whether the case is one of those where only the overhead counts."""
  return str(case) in cases.SMALL


def _bound_by_arithmetic(case: Case) -> bool:
  return case.dtype == "float32" and case.flops >= 1e9 and _is_large(case)


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    where: The name that `--where` knows it under; rows may share one.
    title: What it says.
    ours: The contestant that is the op.
    theirs: Those it is compared to, the best of them; where all of them refuse, nothing is.
    geomean: What the geometric mean of the ratios has to be.
    least: What no ratio may be below.
    takes: Which cases it counts.
  """

  where: str
  title: str
  ours: str
  theirs: tuple[str, ...]
  geomean: float
  least: float
  takes: Callable[[Case], bool] = _is_large

  @property
  def contestants(self) -> tuple[str, ...]:
    """Everybody who has to be timed for it."""
    return (self.ours, *self.theirs)

  def ratio(self, case: Case, seconds: dict[str, float]) -> float | None:
    """Returns how many times faster than the best of the others the op is, None if it cannot be.

    Args:
      case: The case.
      seconds: Medians by contestant, of those that ran.
    """
    others = [seconds[name] for name in self.theirs if name in seconds]
    if self.ours not in seconds or not others:
      return None
    ratio = min(others) / seconds[self.ours]
    return ratio * case.flops / MATMUL_FLOPS if self.theirs == (MATMUL,) else ratio


ROWS: tuple[Row, ...] = (
  Row("compiled", "compiled, against raw compiled",
      "tf/op.compiled", ("tf/raw.compiled",), 25, 1),
  Row("default", "default, eager, against the better raw",
      "tf/op.eager", tuple(f"tf/{raw}" for raw in _RAW), 1.6, 0.95),
  Row("default", "default, graph, against the better raw",
      "tf/op.graph", tuple(f"tf/{raw}" for raw in _RAW), 1.6, 0.95),
  Row("default-eigen", "no oneDNN: default, eager, against the better raw",
      "eigen/op.eager", tuple(f"eigen/{raw}" for raw in _RAW), 3, 1),
  Row("default-eigen", "no oneDNN: default, graph, against the better raw",
      "eigen/op.graph", tuple(f"eigen/{raw}" for raw in _RAW), 3, 1),
  Row("torch", "default, eager, against PyTorch's better layout",
      "tf/op.eager", _TORCH, 1.3, 0.8),
  Row("jax", "compiled, against JAX under jit",
      "tf/op.compiled", ("jax/jit",), 20, 1),
  Row("matmul", "compiled, f32, 1 GFLOP or more, against a matrix product's rate",
      "tf/op.compiled", (MATMUL,), 0.65, 0.4, _bound_by_arithmetic),
  Row("small", "3x3x3 to 8x8x8 cells, eager, against raw eager",
      "tf/op.eager", ("tf/raw.eager",), 1, 0.8, is_small),
)  # fmt: skip


def contestants(case: Case, rows: tuple[Row, ...]) -> tuple[str, ...]:
  """Returns who is raced on a case, in an order that keeps rivals next to each other."""
  found = {name: None for row in rows if row.takes(case) for name in row.contestants}
  return tuple(found)


def too_close(case: Case, rows: tuple[Row, ...], seconds: dict[str, float]) -> tuple[str, ...]:
  """Returns who has to be timed longer, lest noise decide whether a ratio is allowed."""
  found: dict[str, None] = {}
  for row in rows:
    ratio = row.ratio(case, seconds) if row.takes(case) else None
    if ratio is not None and row.least / _CLOSE < ratio < row.least * _CLOSE:
      found.update({name: None for name in row.contestants if name in seconds})
  return tuple(found)
