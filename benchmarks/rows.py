"""The table of speeds: who races whom, on which cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks import cases
from tf_conv3d_grad.conformance.case import Case

# Contestants are named worker/what. The matrix product is the limit, not a peer.
MATMUL = "tf/matmul"
MATMUL_SIZE = 2048
MATMUL_FLOPS = 2 * MATMUL_SIZE**3

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
    takes: Which cases it counts.
  """

  where: str
  title: str
  ours: str
  theirs: tuple[str, ...]
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
      "tf/op.compiled", ("tf/raw.compiled",)),
  Row("default", "default, eager, against the better raw",
      "tf/op.eager", tuple(f"tf/{raw}" for raw in _RAW)),
  Row("default", "default, graph, against the better raw",
      "tf/op.graph", tuple(f"tf/{raw}" for raw in _RAW)),
  Row("default-eigen", "no oneDNN: default, eager, against the better raw",
      "eigen/op.eager", tuple(f"eigen/{raw}" for raw in _RAW)),
  Row("default-eigen", "no oneDNN: default, graph, against the better raw",
      "eigen/op.graph", tuple(f"eigen/{raw}" for raw in _RAW)),
  Row("torch", "default, eager, against PyTorch's better layout",
      "tf/op.eager", _TORCH),
  Row("jax", "compiled, against JAX under jit",
      "tf/op.compiled", ("jax/jit",)),
  Row("matmul", "compiled, f32, 1 GFLOP or more, against a matrix product's rate",
      "tf/op.compiled", (MATMUL,), _bound_by_arithmetic),
  Row("small", "3x3x3 to 8x8x8 cells, eager, against raw eager",
      "tf/op.eager", ("tf/raw.eager",), is_small),
)  # fmt: skip


def contestants(case: Case, rows: tuple[Row, ...]) -> tuple[str, ...]:
  """Returns who is raced on a case, in an order that keeps rivals next to each other."""
  found = {name: None for row in rows if row.takes(case) for name in row.contestants}
  return tuple(found)
