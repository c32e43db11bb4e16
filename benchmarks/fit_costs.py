"""Measures overlap-add with many parameters, and fits the constants of `costs.py` to the times.

    python -m benchmarks.fit_costs measure
    python -m benchmarks.fit_costs fit

The first takes some six minutes and writes `benchmarks/overlap_add_times.json`; the second reads
that, says how good the constants are as they stand, searches for better ones and prints them.
Constants that these times do not tell apart stay near where they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import numpy as np
import rich.console
import rich.progress
import rich.table
import scipy.optimize
import tensorflow as tf

#FIXME costs
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import overlap_add
from tf_conv3d_grad.plan import OVERLAP_ADD, Plan
from tf_conv3d_grad.problem.definition import Problem

TIMES = pathlib.Path(__file__).parent / "overlap_add_times.json"
CASES = """
  mb1_id32_ic32oc64_k3s1d1_ndhwc_f32 mb1_id16_ic64oc64_k3s1d1_ndhwc_f32
  mb1_id32_ic32oc64_k3s2d1_ndhwc_f32 mb1_id32_ic32oc64_k4s2d1_ndhwc_f32
  mb1_id48_ic3oc64_k7s2d1_ndhwc_f32 mb1_id24_ic32oc32_k5s1d1_ndhwc_f32
  mb2_id8_ic256oc256_k3s1d1_ndhwc_f32 mb1_id32_ic32oc32_k3s1d8_ndhwc_f32
  mb1_id32_ic32oc32_k3s1d2_ndhwc_f32 mb1_id16x14x14_ic96oc128_k3s1d1_ndhwc_f32
  mb1_id8x7x7_ic112oc224_k3s1d1_ndhwc_f32 mb1_id4_ic256oc512_k3s1d1_ndhwc_f32
  mb1_id4_ic256oc256_k5s1d1_ndhwc_f32 mb1_id64_ic16oc32_k3s2d1_ndhwc_f32
  mb1_id64_ic16oc32_k4s2d1_ndhwc_f32 mb1_id32_ic32oc64_k3s1d1_ncdhw_f32
  mb1_id32_ic32oc32_k3s1d2_ncdhw_f32 mb2_id8_ic256oc256_k3s1d1_ncdhw_f32
  mb1_id32_ic16oc16_k3s1d1_ndhwc_f32 mb1_id16_ic32oc32_k5s1d1_ndhwc_f32
  mb8_id8_ic64oc128_k3s2d1_ndhwc_f32 mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32
  mb1_id48_ic32oc3_k3s1d1_ndhwc_f32 mb1_id24_ic32oc32_k3s1d1_ndhwc_f64
  mb1_id16x28x28_ic64oc192_k3s1d1_ndhwc_f32 mb1_id8_ic768oc256_k3s1d1_ndhwc_f32
  mb1_id8_ic64oc64_k5s1d1_ndhwc_f32 mb1_id2_ic256oc256_k5s1d1_ndhwc_f32
  mb1_id48_ic1oc32_k3s1d1_ndhwc_f32 mb1_id48_ic8oc32_k3s1d1_ndhwc_f32
  mb1_id48_ic32oc1_k3s1d1_ndhwc_f32 mb1_id24_ic8oc8_k3s1d1_ndhwc_f32
  mb1_id16x32x32_ic32oc64_k1x3x3s1d1_ndhwc_f32 mb1_id16x32x32_ic64oc64_k3x1x1s1d1_ndhwc_f32
  mb1_id16x48x48_ic32oc32_k3s1x2x2d1_ndhwc_f32 mb1_id24_ic24oc24_k7s1d1_ndhwc_f32
  mb1_id32_ic16oc32_k3s2d2_ndhwc_f32 mb1_id24_ic16oc16_k5s1d2_ndhwc_f32_valid
  mb1_id64_ic1oc16_k5s2d1_ndhwc_f32 mb1_id32_ic64oc64_k3s1d4_ndhwc_f32
  mb1_id24_ic32oc32_k5s1d1_ncdhw_f32 mb1_id32_ic32oc64_k3s2d1_ncdhw_f32
  mb1_id8x28x28_ic128oc128g32_k3s1d1_ndhwc_f32 mb1_id8x28x28_ic256oc256g32_k3s2d1_ndhwc_f32
  mb4_id16_ic32oc64_k3s1d1_ndhwc_f32 mb1_id48_ic48oc32_k3s1d1_ndhwc_f32
""".split()
CONSTANTS = (
  "_HALF_RATE_LENGTH", "_GATHER_RATE", "_GATHER_RUN", "_SCATTER_RATE", "_SCATTER_CHANNEL_RATE",
  "_SCATTER_FIRST_RATE", "_OUT_OF_CACHE_RATE", "_MOVE_RATE", "_FILTER_RATE", "_PIECE",
)  # fmt: skip
# The times are of two cores, the constants of one.
_CORES = 2
_ROUNDS, _MOST_TIMED, _NOT_WORTH_TIMING = 9, 11, 3.5


class Parameters(NamedTuple):
  """What `costs.of_overlap_add` takes besides the problem."""

  gathered: tuple[bool, bool, bool]
  rows_first: bool
  columns_first: bool
  tile: tuple[int | None, int | None]
  samples: int | None


def main() -> None:
  """Parses the command line, measures or fits."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("what", choices=("measure", "fit"))
  parser.add_argument("--evaluations", type=int, default=3000, help="how long to search")
  options = parser.parse_args()
  if options.what == "measure":
    times = {case: measured(case) for case in rich.progress.track(CASES, "Measuring")}
    lines = (f"{json.dumps(case)}: {json.dumps(rows)}" for case, rows in times.items())
    TIMES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
  else:
    fit(options.evaluations)


def measured(notation: str) -> list:
  """Returns parameters and median seconds of whatever is worth timing on a case."""
  case = Case.parse(notation)
  problem, weights, out_backprop = validation.validate(**case.arguments(0))
  predicted = {p: costs.of_overlap_add(problem, *p).seconds for p in _parameters(problem)}
  worth = _NOT_WORTH_TIMING * min(predicted.values())
  order = sorted((p for p in predicted if predicted[p] < worth), key=predicted.__getitem__)
  order = order[:_MOST_TIMED]
  functions, expected = [], None
  for parameters in order:
    plan = Plan(OVERLAP_ADD, **parameters._asdict())
    if all(parameters.gathered) and problem.out_channels <= 4:  # as the policy has it
      plan = dataclasses.replace(plan, rows_first=True)
    compute = functools.partial(overlap_add.backprop_input, problem, plan)
    functions.append(tf.function(compute, jit_compile=True, autograph=False))
    result = functions[-1](weights, out_backprop).numpy().astype(np.float64)
    expected = result if expected is None else expected
    if np.linalg.norm(result - expected) > 1e-2 * np.linalg.norm(expected):
      raise AssertionError(f"{notation} {plan}: wrong result")
  seconds: list[list[float]] = [[] for _ in functions]
  for _ in range(_ROUNDS):
    for function, times in zip(functions, seconds):
      start = time.perf_counter()
      function(weights, out_backprop)
      times.append(time.perf_counter() - start)
  return [[parameters, statistics.median(times)] for parameters, times in zip(order, seconds)]


def _parameters(problem: Problem) -> Iterator[Parameters]:
  budgets = (policy._MAX_COLUMN_BYTES, *policy._CACHE_COLUMN_BYTES)
  for gathered, (rows_first, columns_first), budget in itertools.product(
    costs.overlap_add_choices(problem), policy._layouts(problem), budgets
  ):
    tile, samples = policy._tile(problem, gathered, columns_first, budget)
    yield Parameters(gathered, rows_first, columns_first, tile, samples)


def fit(evaluations: int) -> None:
  """Prints how good the constants are, and better ones."""
  times = [
    (_problem(case), [(Parameters(*p), seconds) for p, seconds in rows])
    for case, rows in json.loads(TIMES.read_text(encoding="utf-8")).items()
  ]
  start = {name: getattr(costs, name) for name in CONSTANTS}
  start["float32 product"] = costs._PRODUCT_RATE[tf.float32]

  def constants(logarithms: np.ndarray) -> dict[str, float]:
    return {name: start[name] * np.exp(x) for name, x in zip(start, logarithms)}

  def loss(logarithms: np.ndarray) -> float:
    regret, error = quality(times, constants(logarithms))
    return regret + 0.35 * error + 0.012 * float(np.sum(logarithms**2))

  found = scipy.optimize.minimize(
    loss, np.zeros(len(start)), method="Powell", bounds=[(-1.5, 1.5)] * len(start),
    options={"maxfev": evaluations},
  )  # fmt: skip
  table = rich.table.Table("constant", "now", "better")
  for name, value in constants(found.x).items():
    table.add_row(name, f"{start[name]:.3g}", f"{value:.3g}")
  captions = []
  for row, values in (("as they are", start), ("better", constants(found.x))):
    regret, error = quality(times, values)
    captions.append(
      f"{row}: the choice takes {np.expm1(regret):.1%} longer than the best, "
      f"predictions are off by {np.expm1(error):.0%}"
    )
  console = rich.console.Console()
  console.print(table)
  console.print("\n".join(captions))


def quality(times: list, constants: dict[str, float]) -> tuple[float, float]:
  """Returns the mean logarithms of regret, and the root mean square of those of the errors."""
  constants = dict(constants)
  product = constants.pop("float32 product")
  regrets, errors = [], []
  ratio = costs._PRODUCT_RATE[tf.float64] / costs._PRODUCT_RATE[tf.float32]
  rates = {tf.float32: product, tf.float64: product * ratio}
  with mock.patch.multiple(costs, _PRODUCT_RATE=rates, **constants):
    for problem, rows in times:
      predicted = np.array([costs.of_overlap_add(problem, *p).seconds for p, _ in rows])
      seconds = np.array([seconds for _, seconds in rows])
      regrets.append(np.log(seconds[_chosen(problem, rows, predicted)] / seconds.min()))
      errors.append(np.log(predicted / (_CORES * seconds)))
  return float(np.mean(regrets)), float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _chosen(problem: Problem, rows: list, predicted: np.ndarray) -> int:
  """Returns which the policy takes: of equals, the first of `overlap_add_choices`."""
  order = costs.overlap_add_choices(problem)
  places = [order.index(tuple(p.gathered)) for p, _ in rows]
  return min(range(len(rows)), key=lambda i: (predicted[i], places[i]))


def _problem(notation: str) -> Problem:
  return validation.validate(**Case.parse(notation).arguments(0))[0]


if __name__ == "__main__":
  main()
