"""The table of speeds: who races whom, on which cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from benchmarks import cases
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, FWD, Direction

# Contestants are named worker/what. The matrix product is the limit, not a peer.
MATMUL = "tf/matmul"
MATMUL_SIZE = 2048
MATMUL_FLOPS = 2 * MATMUL_SIZE**3

# The three functions of a convolution, in the order of the tables.
FUNCTIONS = {
  BWD_D: "the gradient in the input",
  FWD: "the convolution",
  BWD_W: "the gradient in the filter",
}

_OURS = ("op.eager", "op.graph")
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
    ours: The contestants that are the op, of which the best counts.
    theirs: Those it is compared to, of which the best counts. A case that all refuse does not.
    direction: The function whose cases it counts.
    among: Whether it counts a case of that function.
  """

  where: str
  title: str
  ours: tuple[str, ...]
  theirs: tuple[str, ...]
  direction: Direction = BWD_D
  among: Callable[[Case], bool] = _is_large

  @property
  def contestants(self) -> tuple[str, ...]:
    """Everybody who has to be timed for it."""
    return (*self.ours, *self.theirs)

  def takes(self, case: Case) -> bool:
    """Returns whether it counts a case."""
    return case.direction == self.direction and self.among(case)

  def ratio(self, case: Case, seconds: dict[str, float]) -> float | None:
    """Returns how many times faster than the best of the others the op is, None if it cannot be.

    None, too, if one of `ours` did not run: the op has to take every case in every way.

    Args:
      case: The case.
      seconds: Medians by contestant, of those that ran.
    """
    others = [seconds[name] for name in self.theirs if name in seconds]
    if not seconds.keys() >= set(self.ours) or not others:
      return None
    ratio = min(others) / min(seconds[name] for name in self.ours)
    return ratio * case.flops / MATMUL_FLOPS if self.theirs == (MATMUL,) else ratio


def _of(program: str, ways: tuple[str, ...]) -> tuple[str, ...]:
  return tuple(f"{program}/{way}" for way in ways)


def _of_every_function(direction: Direction) -> tuple[Row, ...]:
  """Returns the rows that there are for each of the three functions."""
  return (
    Row("compiled", "compiled, against raw compiled",
        ("tf/op.compiled",), ("tf/raw.compiled",), direction),
    Row("uncompiled", "compiled, against the better raw, which is not compiled",
        ("tf/op.compiled",), _of("tf", _RAW), direction),
    Row("default", "default, eager, against the better raw",
        ("tf/op.eager",), _of("tf", _RAW), direction),
    Row("default", "default, graph, against the better raw",
        ("tf/op.graph",), _of("tf", _RAW), direction),
    Row("default", "default, the better of eager and graph, against the better raw",
        _of("tf", _OURS), _of("tf", _RAW), direction),
    Row("default-eigen", "no oneDNN: default, eager, against the better raw",
        ("eigen/op.eager",), _of("eigen", _RAW), direction),
    Row("default-eigen", "no oneDNN: default, graph, against the better raw",
        ("eigen/op.graph",), _of("eigen", _RAW), direction),
    Row("default-eigen",
        "no oneDNN: default, the better of eager and graph, against the better raw",
        _of("eigen", _OURS), _of("eigen", _RAW), direction),
    Row("torch", "default, the better of eager and graph, against PyTorch's better layout",
        _of("tf", _OURS), _TORCH, direction),
    Row("jax", "compiled, against JAX under jit",
        ("tf/op.compiled",), ("jax/jit",), direction),
  )  # fmt: skip


ROWS: tuple[Row, ...] = (
  *_of_every_function(BWD_D),
  Row("torch", "default, eager, against PyTorch's better layout",
      ("tf/op.eager",), _TORCH),
  Row("matmul", "compiled, f32, 1 GFLOP or more, against a matrix product's rate",
      ("tf/op.compiled",), (MATMUL,), among=_bound_by_arithmetic),
  Row("small", "3x3x3 to 8x8x8 cells, eager, against raw eager",
      ("tf/op.eager",), ("tf/raw.eager",), among=is_small),
  *_of_every_function(FWD),
  *_of_every_function(BWD_W),
)  # fmt: skip


def contestants(case: Case, rows: tuple[Row, ...]) -> tuple[str, ...]:
  """Returns who is raced on a case, in an order that keeps rivals next to each other."""
  found = {name: None for row in rows if row.takes(case) for name in row.contestants}
  return tuple(found)
