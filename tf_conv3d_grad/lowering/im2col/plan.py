"""How much im2col computes at a time."""

from __future__ import annotations

import dataclasses
import math

from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.accumulation import accumulation_dtype
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, Function

# How many bytes of columns to hold at a time, or of cells, where products are taken cell by cell.
# More do not fit the cache, and come from pages that have to be cleared at each call: 24^3 cells of
# 48 channels take 60 ms at once, 72 MB of columns. docs/cost_model.md has more of such figures.
_HELD_BYTES = 8 << 20
# The same where eager code calls each operation of a tile: 24^3 cells, 32 to 48 channels take 26 ms
# with 40 MB and 39 with 8.
_HELD_BYTES_BY_CALLS = 40 << 20


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much to compute at a time.

  Attributes:
    depth: How many depth cells of the convolution's output; None for all.
    samples: How many samples, a divisor of the batch; None for all. It is 1 with fewer than all
      depth cells.
    in_xla: Whether it is part of what XLA compiles. Only there every second cell is read as fast as
      a run of them.
  """

  depth: int | None = None
  samples: int | None = None
  in_xla: bool = False

  def fields(self) -> dict:
    """Returns what names this plan in files, in JSON's types; not to be worded anew."""
    return {"depth": self.depth, "samples": self.samples}

  def __str__(self) -> str:
    tiled = "" if self.depth is None else f"tiles of {self.depth}"
    by_samples = "" if self.samples is None else f"samples by {self.samples}"
    return ", ".join(part for part in (tiled, by_samples) if part)


def planned(function: Function, problem: Problem, in_xla: bool, in_graph: bool) -> Plan:
  """Returns the plan that holds the columns of as many samples or planes as are allowed."""
  if is_one_product(function, problem):
    return Plan(in_xla=in_xla)
  most = _HELD_BYTES if in_xla or in_graph else _HELD_BYTES_BY_CALLS
  depth, height, width = problem.axes
  if not sizes.is_known(height.output, width.output):
    return Plan(in_xla=in_xla)
  size = accumulation_dtype(problem.dtype).size
  plane = height.output * width.output * size
  if problem.is_depthwise:
    plane *= problem.out_channels
  else:
    plane *= math.prod(problem.taps) * problem.in_channels
  planes = max(1, most // max(1, plane))
  if not sizes.is_known(depth.output):
    return Plan(depth=planes, in_xla=in_xla)
  if depth.output > planes:
    return Plan(depth=tiles.even(depth.output, planes), in_xla=in_xla)
  if not sizes.is_known(problem.batch):
    return Plan(in_xla=in_xla)
  held = plane * depth.output
  return Plan(samples=tiles.samples_within(problem.batch, held, most), in_xla=in_xla)


def is_one_product(function: Function, problem: Problem) -> bool:
  """Returns whether a result is one product of the tensors as they are: there are no columns."""
  return function is BACKPROP_FILTER and problem.is_pointwise and problem.groups == 1


def tiled(problem: Problem, plan: Plan) -> tuple[tiles.Tiling, int | None, Problem]:
  """Returns the tiling of the output's depth, the samples of a part, and the problem on it.

  None are all samples.
  """
  depth = tiles.of_output(problem.axes[0], plan.depth)
  part = problem.replace(axes=(depth.axis, *problem.axes[1:]))
  samples = plan.samples if depth.is_whole else 1
  return depth, samples, part if samples is None else part.replace(batch=samples)
