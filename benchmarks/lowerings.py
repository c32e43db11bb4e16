"""Races the parameters of overlap-add on one case: where the constants of the cost model come from.

    python -m benchmarks.lowerings mb1_id32_ic32oc64_k3s1d1_ndhwc_f32

Times are of the processor, not of the clock, so that other work on the machine disturbs them less;
medians of interleaved rounds on random data, each result checked against the first.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import rich.console
import rich.table
import tensorflow as tf

#FIXME costs
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import overlap_add
from tf_conv3d_grad.plan import OVERLAP_ADD, Plan

_PRODUCT = 2048


def main() -> None:
  """Parses the command line, races, prints a table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", type=Case.parse, help="a case in the short notation")
  parser.add_argument("--tiles", type=int, nargs="*", default=[0], help="depths; 0 is all")
  parser.add_argument("--seconds", type=float, default=10.0, help="how long to race")
  options = parser.parse_args()
  arguments = options.case.arguments(0)
  problem, weights, out_backprop = validation.validate(**arguments)
  contestants = {f"{_PRODUCT}^3 product": _product()}
  for gathered in costs.overlap_add_choices(problem):
    for rows_first, columns_first, tile in itertools.product(
      (False, True), (False, True), options.tiles
    ):
      plan = Plan(
        OVERLAP_ADD,
        gathered=gathered,
        rows_first=rows_first,
        columns_first=columns_first,
        tile=(tile or None, None),
      )
      contestants[_name(plan)] = _contestant(problem, plan, weights, out_backprop)
  times = _raced(contestants, options.seconds)
  table = rich.table.Table("parameters", "ms", "GF/s of one core", title=str(options.case))
  for name, seconds in times.items():
    flops = 2 * _PRODUCT**3 if name.endswith("product") else options.case.flops
    table.add_row(name, f"{seconds * 1e3:.2f}", f"{flops / seconds / 1e9:.1f}")
  rich.console.Console().print(table)


def _name(plan: Plan) -> str:
  gathered = "".join(name for name, is_gathered in zip("DHW", plan.gathered) if is_gathered)
  layout = f"{'rows' if plan.rows_first else ''}{' columns' if plan.columns_first else ''}"
  return f"gather {gathered or 'none'}, first: {layout.strip() or 'none'}, tile {plan.tile[0]}"


def _contestant(problem, plan: Plan, weights, out_backprop) -> Callable[[], tf.Tensor]:
  function = tf.function(
    lambda weights, rows: overlap_add.backprop_input(problem, plan, weights, rows),
    jit_compile=True,
    autograph=False,
  )
  return lambda: function(weights, out_backprop)


def _product() -> Callable[[], tf.Tensor]:
  matrix = tf.constant(np.random.default_rng(0).normal(size=(_PRODUCT, _PRODUCT)), tf.float32)
  function = tf.function(lambda a: tf.matmul(a, a), jit_compile=True)
  return lambda: function(matrix)


def _raced(contestants: dict[str, Callable[[], tf.Tensor]], seconds: float) -> dict[str, float]:
  """Returns the median processor time of each, after checking that all results agree."""
  expected = None
  for name, contestant in contestants.items():
    result = contestant().numpy().astype(np.float64)
    if name.endswith("product"):
      continue
    expected = result if expected is None else expected
    if np.linalg.norm(result - expected) > 1e-2 * np.linalg.norm(expected):
      raise AssertionError(f"{name}: wrong result")
  times: dict[str, list[float]] = {name: [] for name in contestants}
  end = time.monotonic() + seconds
  while time.monotonic() < end or len(next(iter(times.values()))) < 3:
    for name, contestant in contestants.items():
      start = time.process_time()
      contestant()
      times[name].append(time.process_time() - start)
  return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
  main()
