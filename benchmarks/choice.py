"""Times what the policy chooses among, and says how far its choice is from the best.

    python -m benchmarks.choice
    python -m benchmarks.choice --where compiled mb1_id24_ic1oc24_k3s1d1_ndhwc_f32_fwd
    TF_ENABLE_ONEDNN_OPTS=0 python -m benchmarks.choice
    ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.choice

The best of every way of computing that is offered for a case is timed, with TensorFlow's own op,
called in the same way, beside it ("raw"). All take turns in one process, on random data, and give
the same result. For eager calls no compilation counts as better: a first call would have to repay
it. `--json` keeps the times.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import rich.console
import rich.progress
import rich.table
import tensorflow as tf

from benchmarks import sampling
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.reference import OPS
from tf_conv3d_grad.execution import execute
from tf_conv3d_grad.lowering.interface import Offer
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import Function
from tf_conv3d_grad.tensorflow.environment import Environment

_FUNCTIONS = {function.op: function for function in functions.ALL}
_ROUNDS, _SECONDS = 11, 4.0
# A first call that takes so many seconds is the only one.
_SLOW_S = 5.0
# A choice that takes so many times as long as the best is counted.
_MUCH = 1.5
# What takes so many times as long as the fastest in the first round is timed once.
_HOPELESS = 4.0

# Other cases than those that the constants were fitted to.
CASES = """
  mb1_id34_ic3oc16_k3s1d1_ndhwc_f32 mb1_id38_ic1oc20_k3s1d1_ndhwc_f32
  mb1_id26_ic4oc24_k5s1d1_ndhwc_f32 mb1_id44_ic1oc32_k5s2d1_ndhwc_f32
  mb1_id30_ic36oc4_k3s1d1_ndhwc_f32 mb1_id26_ic44oc36_k3s1d1_ndhwc_f32
  mb2_id18_ic32oc56_k3s1d1_ndhwc_f32 mb1_id22_ic28oc40_k3s1d2_ndhwc_f32
  mb1_id26_ic40oc80_k3s2d1_ndhwc_f32 mb1_id36_ic20oc40_k2s2d1_ndhwc_f32
  mb1_id26_ic20oc48_k4s2d1_ndhwc_f32 mb1_id14x40x40_ic40oc40_k1x3x3s1d1_ndhwc_f32
  mb1_id20x36x36_ic36oc36_k3x1x1s1d1_ndhwc_f32 mb1_id7_ic96oc96_k5s1d1_ndhwc_f32
  mb1_id30_ic48oc72_k1s1d1_ndhwc_f32 mb1_id1536x1x1_ic40oc40_k7x1x1s1d1_ndhwc_f32
  mb1_id26_ic28oc36_k3s1d1_ncdhw_f32 mb1_id30_ic2oc28_k3s1d1_ncdhw_f32
  mb1_id15_ic80oc80g10_k3s1d1_ndhwc_f32 mb1_id22_ic36oc72g3_k3s1d1_ndhwc_f32
  mb1_id22_ic64oc64g64_k3s1d1_ndhwc_f32 mb1_id22_ic16oc28_k3s1d1_ndhwc_f64
  mb1_id26_ic20oc20_k3s2d1_ndhwc_f64 mb1_id22_ic28oc28_k3s1d1_ndhwc_f16
  mb1_id22_ic40oc40_k3s1d1_ndhwc_bf16 mb1_id14_ic12oc20_k3s1d1_ndhwc_f32
""".split()
DIRECTIONS = ("", "_fwd", "_bwd_w")


@dataclasses.dataclass(frozen=True)
class Timed:
  """One way of computing a case.

  Attributes:
    name: What people read.
    is_ours: Whether it is an offer; TensorFlow's own op is the other.
    compiled: Whether it is compiled by itself.
    predicted: The seconds of one core that are expected, None for TensorFlow's own op.
    seconds: The median.
  """

  name: str
  is_ours: bool
  compiled: bool
  predicted: float | None
  seconds: float


def main() -> None:
  """Parses the command line, times the cases and prints a table."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.choice",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "cases", nargs="*", type=Case.parse, help="cases in the short notation; a list by default"
  )
  parser.add_argument(
    "--where", choices=("eager", "graph", "compiled"), default="graph",
    help="how the call is made: by itself, in a tf.function, or in one with jit_compile=True",
  )  # fmt: skip
  parser.add_argument("--json", type=pathlib.Path, help="where to write all times")
  options = parser.parse_args()
  cases = options.cases or [
    Case.parse(case + direction) for direction in DIRECTIONS for case in CASES
  ]
  found = {}
  for case in rich.progress.track(cases, "Timing"):
    found[str(case)] = timed(case, options.where)
    if options.json:
      plain = {case: [dataclasses.asdict(each) for each in all] for case, all in found.items()}
      options.json.write_text(json.dumps(plain, indent=0), encoding="utf-8")
  show(found, options.where)


def timed(case: Case, where: str) -> list[Timed]:
  """Returns the ways of computing a case, the chosen one first."""
  function = _FUNCTIONS[case.direction.op]
  problem, first, second = validation.validate(function, **case.arguments(0))
  offers, calls = contestants(function, problem, where, case)
  seconds = raced(calls, (first, second))
  result = []
  for name, samples in seconds.items():
    offer = offers.get(name)
    predicted = offer.cost.seconds if offer and offer.cost else None
    compiled = bool(offer and offer.compiled)
    result.append(Timed(name, offer is not None, compiled, predicted, statistics.median(samples)))
  return result


def contestants(
  function: Function, problem: Problem, where: str, case: Case
) -> tuple[dict[str, Offer], dict[str, Callable[..., tf.Tensor]]]:
  """Returns the offers, and what to call of each and of TensorFlow's own op, by name."""
  traced = functools.partial(tf.function, autograph=False, jit_compile=where == "compiled")
  environment = dataclasses.replace(
    Environment.here(problem.dtype), in_xla=where == "compiled", in_graph=where != "eager"
  )
  offers = {str(offer): offer for offer in policy.choices(function, problem, environment)}
  calls: dict[str, Callable[..., tf.Tensor]] = {}
  for name, offer in offers.items():
    if where == "eager":
      calls[name] = execute.by_offer(function, problem, environment, offer)
    else:
      calls[name] = traced(_tracing(function, problem, environment, offer))
  op, (first_name, second_name) = OPS[function.op], map(function.argument, function.operands)
  arguments = case.arguments(0)

  def raw(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return op(**{**arguments, first_name: first, second_name: second})

  calls["raw"] = raw if where == "eager" else traced(raw)
  return offers, calls


def _tracing(
  function: Function, problem: Problem, environment: Environment, offer: Offer
) -> Callable[..., tf.Tensor]:
  return lambda *operands: execute.by_offer(function, problem, environment, offer)(*operands)


def raced(
  calls: dict[str, Callable[..., tf.Tensor]], operands: tuple[tf.Tensor, ...]
) -> dict[str, list[float]]:
  """Returns the seconds of those calls that can be made."""
  expected: np.ndarray | None = None
  firsts: dict[str, float] = {}
  for name, call in calls.items():
    try:
      begin = time.perf_counter()
      result = call(*operands).numpy().astype(np.float64)
      firsts[name] = time.perf_counter() - begin
    except (tf.errors.OpError, ValueError):
      continue
    expected = result if expected is None else expected
    if np.linalg.norm(result - expected) > 3e-2 * np.linalg.norm(expected):
      raise AssertionError(f"{name}: wrong result")
  start = time.perf_counter()
  seconds = {name: [first] if first > _SLOW_S else [] for name, first in firsts.items()}
  going = [name for name, samples in seconds.items() if not samples]
  order = random.Random(0)
  for turn in range(_ROUNDS):
    order.shuffle(going)  # whoever comes after a way that leaves much memory behind has it harder
    for name in going:
      expected_s = min(seconds[name], default=firsts[name])
      call = functools.partial(calls[name], *operands)
      seconds[name].append(sampling.sample(call, sampling.calls_of(expected_s), expected_s))
    if turn == 0:
      limit = _HOPELESS * min(samples[0] for samples in seconds.values())
      going = [name for name in going if seconds[name][0] <= limit]
    if turn >= 2 and time.perf_counter() - start > _SECONDS:
      break
  return seconds


def show(found: dict[str, list[Timed]], where: str) -> None:
  """Prints a table, and what the choice loses and gains."""
  table = rich.table.Table("case", "chosen", "ms", "over best", "raw over it", "best, if another")
  regrets: list[float] = []
  gains: dict[str, list[float]] = {op: [] for op in _FUNCTIONS}
  for case, ways in found.items():
    chosen, *_ = ways
    ours = [way for way in ways if way.is_ours and not (where == "eager" and way.compiled)]
    best = min([chosen, *ours], key=lambda way: way.seconds)
    regrets.append(chosen.seconds / best.seconds)
    raw = [way.seconds / chosen.seconds for way in ways if not way.is_ours]
    gains[Case.parse(case).direction.op] += raw
    table.add_row(
      case, chosen.name, f"{chosen.seconds * 1e3:.2f}", f"{regrets[-1]:.2f}",
      f"{raw[0]:.2f}" if raw else "refused", "" if best is chosen else best.name,
    )  # fmt: skip
  console = rich.console.Console()
  console.print(table)
  often = sum(regret > _MUCH for regret in regrets)
  console.print(
    f"The choice takes {_mean(regrets):.2f} times as long as the best, over {_MUCH} in {often} of "
    f"{len(regrets)} calls, at most {max(regrets):.2f}."
  )
  for op, ratios in gains.items():
    if ratios:
      mean, least = _mean(ratios), min(ratios)
      console.print(f"{op}: raw takes {mean:.2f} times as long, at least {least:.2f}.")


def _mean(ratios: list[float]) -> float:
  return math.exp(statistics.mean(map(math.log, ratios)))


if __name__ == "__main__":
  main()
