"""Times the plans of overlap-add, and fits the constants of their costs to the times.

    python -m benchmarks.fit_costs measure
    python -m benchmarks.fit_costs fit
    python -m benchmarks.fit_costs race mb1_id32_ic32oc64_k3s1d1_ndhwc_f32

The first takes four to five minutes and puts the times of this processor into
`benchmarks/overlap_add_times.json`, beside those of others; the second reads that, says how good
the constants are as they stand, on each processor, searches for some that are better for all, and
prints them. Constants that these times do not tell apart stay near where they are. The third prints
what every plan of one case is expected to take, and takes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import pathlib
import statistics
import time
from typing import NamedTuple
from unittest import mock

import numpy as np
import rich.console
import rich.progress
import rich.table
import tensorflow as tf

from benchmarks import machine
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.overlap_add import costs, offers, run
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST

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
  mb1_id16_ic64oc64g2_k3s1d1_ndhwc_f32 mb1_id16_ic64oc64g8_k3s1d1_ndhwc_f32
  mb1_id16_ic128oc128g32_k3s1d1_ndhwc_f32 mb1_id16_ic128oc128g32_k3s2d1_ndhwc_f32
  mb1_id4x14x14_ic256oc256g32_k3s1d1_ndhwc_f32 mb1_id4x14x14_ic512oc512g32_k3s2d1_ndhwc_f32
  mb1_id20_ic48oc48g6_k3s1d1_ndhwc_f32 mb1_id22_ic36oc72g3_k3s1d1_ndhwc_f32
  mb1_id16_ic64oc64g4_k3s1d1_ncdhw_f32
""".split()
# By name, and the module that has it. That of products is of float32; float64's keeps its ratio.
CONSTANTS = {
  **dict.fromkeys(
    ("PRODUCT_RATE", "HALF_RATE_LENGTH", "GATHER_RATE", "GATHER_RUN", "MOVE_RATE", "TILE_SECONDS"),
    cost,
  ),
  **dict.fromkeys(
    ("_SCATTER_RATE", "_SCATTER_CHANNEL_RATE", "_SCATTER_FIRST_RATE", "_OUT_OF_CACHE_RATE",
     "_FILTER_RATE", "_GROUP_ROWS_RATE", "_GROUP_COLUMNS_RATE", "_GROUP_RUN"),
    costs,
  ),
}  # fmt: skip
# The times are of two cores, the constants of one.
_CORES = 2
_ROUNDS, _MOST_TIMED, _NOT_WORTH_TIMING = 9, 11, 3.5


class Quality(NamedTuple):
  """How good constants are on one processor.

  Attributes:
    regret: The mean logarithm of how many times as long the choice takes as the best.
    level: The mean logarithm of how many times as long as a plan takes it was expected to.
    spread: The standard deviation of that logarithm, which is what ratios are wrong by.
  """

  regret: float
  level: float
  spread: float

  def __str__(self) -> str:
    """Returns the figures in words."""
    return (
      f"the choice takes {np.expm1(self.regret):.1%} longer than the best, predictions are "
      f"{np.exp(self.level):.2f} of the times, spread by a factor of {np.exp(self.spread):.2f}"
    )


class Timed(NamedTuple):
  """A plan, and the seconds that it takes on `_CORES` cores."""

  plan: Plan
  seconds: float


def main() -> None:
  """Parses the command line, measures, fits or races."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  commands = parser.add_subparsers(dest="command", required=True)
  commands.add_parser("measure", help="take the times anew")
  fitting = commands.add_parser("fit", help="say how good the constants are, and better ones")
  fitting.add_argument("--evaluations", type=int, default=3000, help="how long to search")
  racing = commands.add_parser("race", help="time the plans of one case")
  racing.add_argument("case", type=Case.parse, help="a case in the short notation")
  options = parser.parse_args()
  if options.command == "measure":
    found = {case: measured(Case.parse(case)) for case in rich.progress.track(CASES, "Measuring")}
    save({**load(), machine.processor_name(): found})
  elif options.command == "fit":
    fit(options.evaluations)
  else:
    race(options.case)


def save(times: dict[str, dict[str, list[Timed]]]) -> None:
  """Writes times by processor and case, a plan as the values of its fields."""
  parts = []
  for processor, by_case in times.items():
    lines = []
    for case, rows in by_case.items():
      plain = [[list(plan.fields().values()), float(f"{seconds:.4g}")] for plan, seconds in rows]
      lines.append(f"{json.dumps(case)}: {json.dumps(plain)}")
    parts.append(f"{json.dumps(processor)}: {{\n" + ",\n".join(lines) + "\n}")
  TIMES.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def load() -> dict[str, dict[str, list[Timed]]]:
  """Returns what `save` has written."""
  layouts = {True: CHANNELS_FIRST, False: CHANNELS_LAST}

  def plan(gathered, rows_first, columns_first, tile, samples) -> Plan:
    return Plan(
      tuple(gathered), layouts[rows_first], layouts[columns_first], tuple(tile), samples, True
    )

  return {
    processor: {
      case: [Timed(plan(*fields), seconds) for fields, seconds in rows]
      for case, rows in by_case.items()
    }
    for processor, by_case in json.loads(TIMES.read_text(encoding="utf-8")).items()
  }


def problems(times: dict[str, list[Timed]]) -> list[tuple[Problem, list[Timed]]]:
  """Returns the times of one processor by problem."""
  return [(_problem(Case.parse(case)), rows) for case, rows in times.items()]


def race(case: Case) -> None:
  """Prints the expected and the measured time of every plan of a case."""
  problem = _problem(case)
  table = rich.table.Table("plan", "expected, ms", "measured, ms", "GF/s", title=str(case))
  for plan, seconds in measured(case, most=None, worth=float("inf")):
    expected = costs.of_plan(problem, plan).seconds / _CORES
    gflops = case.flops / seconds / 1e9
    table.add_row(str(plan), f"{expected * 1e3:.2f}", f"{seconds * 1e3:.2f}", f"{gflops:.1f}")
  rich.console.Console().print(table)


def measured(
  case: Case, most: int | None = _MOST_TIMED, worth: float = _NOT_WORTH_TIMING
) -> list[Timed]:
  """Returns the median times of the plans of a case, the best by their costs first.

  Args:
    case: The case.
    most: How many plans to time; None for all.
    worth: How many times the least cost a plan's may be.
  """
  problem, weights, out_backprop = validation.validate(BACKPROP_INPUT, **case.arguments(0))
  expected_s = {
    dataclasses.replace(plan, in_xla=True): found.seconds
    for tilings in offers.candidates(problem.canonical)
    for plan, found in tilings
  }
  limit = worth * min(expected_s.values())
  worthy = (plan for plan in expected_s if expected_s[plan] < limit)
  plans = sorted(worthy, key=expected_s.__getitem__)[:most]
  functions, expected = [], None
  for plan in plans:
    compute = functools.partial(run.backprop_input, problem, plan)
    functions.append(tf.function(compute, jit_compile=True, autograph=False))
    result = functions[-1](weights, out_backprop).numpy().astype(np.float64)
    expected = result if expected is None else expected
    if np.linalg.norm(result - expected) > 1e-2 * np.linalg.norm(expected):
      raise AssertionError(f"{case} {plan}: wrong result")
  seconds: list[list[float]] = [[] for _ in functions]
  for _ in range(_ROUNDS):
    for function, times in zip(functions, seconds):
      start = time.perf_counter()
      function(weights, out_backprop)
      times.append(time.perf_counter() - start)
  return [Timed(plan, statistics.median(times)) for plan, times in zip(plans, seconds)]


def fit(evaluations: int) -> None:
  """Prints how good the constants are, and better ones."""
  import scipy.optimize  # of the extra `bench`: what does not search needs none

  times = {processor: problems(by_case) for processor, by_case in load().items()}
  start = {name: getattr(module, name) for name, module in CONSTANTS.items()}
  start["PRODUCT_RATE"] = start["PRODUCT_RATE"][tf.float32]

  def constants(logarithms: np.ndarray) -> dict[str, float]:
    return {name: start[name] * np.exp(x) for name, x in zip(start, logarithms)}

  def loss(logarithms: np.ndarray) -> float:
    found = [quality(each, constants(logarithms)) for each in times.values()]
    # No processor is the measure of another: predictions are to be right in the mean of all.
    level = abs(sum(each.level for each in found)) / len(found)
    poor = sum(each.regret + 0.35 * each.spread for each in found) / len(found)
    return poor + 0.15 * level + 0.012 * float(np.sum(logarithms**2))

  found = scipy.optimize.minimize(
    loss, np.zeros(len(start)), method="Powell", bounds=[(-1.5, 1.5)] * len(start),
    options={"maxfev": evaluations},
  )  # fmt: skip
  table = rich.table.Table("constant", "now", "better")
  for name, value in constants(found.x).items():
    table.add_row(name, f"{start[name]:.3g}", f"{value:.3g}")
  console = rich.console.Console()
  console.print(table)
  for processor, each in times.items():
    for row, values in (("as they are", start), ("better", constants(found.x))):
      console.print(f"{processor}, {row}: {quality(each, values)}")


def quality(
  times: list[tuple[Problem, list[Timed]]], constants: dict[str, float]
) -> Quality:
  """Returns how good the costs are with other constants, on one processor."""
  regrets, errors = [], []
  with contextlib.ExitStack() as stack:
    for name, value in constants.items():
      stack.enter_context(mock.patch.object(CONSTANTS[name], name, _as_held(name, value)))
    for problem, rows in times:
      predicted = np.array([costs.of_plan(problem, plan).seconds for plan, _ in rows])
      seconds = np.array([seconds for _, seconds in rows])
      # Of equals, the policy takes the first gathering.
      order = offers.gatherable(problem)
      places = [order.index(plan.gathered) for plan, _ in rows]
      chosen = np.lexsort((places, predicted))[0]
      regrets.append(np.log(seconds[chosen] / seconds.min()))
      errors.append(np.log(predicted / (_CORES * seconds)))
  every = np.concatenate(errors)
  return Quality(float(np.mean(regrets)), float(np.mean(every)), float(np.std(every)))


def _as_held(name: str, value: float) -> float | dict[tf.DType, float]:
  """Returns what to patch a constant with: rates of products are by dtype."""
  if name != "PRODUCT_RATE":
    return value
  rates = cost.PRODUCT_RATE
  return {dtype: rate * value / rates[tf.float32] for dtype, rate in rates.items()}


def _problem(case: Case) -> Problem:
  return validation.validate(BACKPROP_INPUT, **case.arguments(0))[0].canonical


if __name__ == "__main__":
  main()
