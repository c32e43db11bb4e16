"""Which of the plans that the lowerings offer computes a call.

The policy knows none of the lowerings. It compares the expected times of their offers. A native
offer is what TensorFlow's own op would run. It is taken unless another one is expected to be
clearly faster: for an eager call in the first call, compilation included, in a graph over some
hundred calls. Without a native offer, the one is taken that is expected to be the fastest over some
hundred calls.
"""

from __future__ import annotations

import functools
import math

from tf_conv3d_grad import lowering
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.interface import Lowering, Offer
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import Function
from tf_conv3d_grad.tensorflow import private, processor
from tf_conv3d_grad.tensorflow.environment import Environment

# XLA compiles loops over cells in 0.15 to 0.5 s, on one core.
COMPILE_SECONDS = 0.3
# Calls after which a compilation has to have paid, in graphs and where TensorFlow's op refuses the
# case.
_CALLS = 200
# Native calls shorter than this, in eager code and in a graph, are not compared to others: that
# takes 1 to 2 ms. In seconds of one core.
LONG, LONG_IN_GRAPH = 10e-3, 2e-3
# Another offer replaces a native one that is expected to take so many times as long. Predictions
# are off by a third and more, and nothing may be slower than what it replaces.
CLEARLY = 1.25
# How many plans of a lowering autotuning times, compiled or not. Each takes a compilation.
_MOST_TIMED = 4


def choose(function: Function, problem: Problem, environment: Environment) -> Offer:
  """Returns how to compute a function of a problem in an environment."""
  if problem.is_static:  # tensors in it would be kept alive
    return _remembered(function, problem, environment)
  return _chosen(function, problem, environment)


def choices(function: Function, problem: Problem, environment: Environment) -> list[Offer]:
  """Returns the best offer of each lowering, compiled and not. The one of `choose` comes first."""
  chosen = choose(function, problem, environment)
  best: dict[tuple, Offer] = {}
  for offer in _offers(function, problem, environment):
    best.setdefault((offer.lowering, offer.compiled), offer)
  others = sorted((offer for offer in best.values() if offer != chosen), key=_seconds)
  return [chosen, *others]


def candidates(function: Function, problem: Problem, environment: Environment) -> list[Offer]:
  """Returns the offers worth timing for a static problem, the one that `choose` returns first."""
  timed: dict[tuple, list[Offer]] = {}
  for offer in _offers(function, problem, environment):
    timed.setdefault((offer.lowering, offer.compiled), []).append(offer)
  found = [choose(function, problem, environment)]
  return list(dict.fromkeys(sum((offers[:_MOST_TIMED] for offers in timed.values()), found)))


def forget() -> None:
  """Forgets all choices, as after a change of what is registered."""
  _remembered.cache_clear()


@functools.lru_cache(maxsize=4096)
def _remembered(function: Function, problem: Problem, environment: Environment) -> Offer:
  return _chosen(function, problem, environment)


def _chosen(function: Function, problem: Problem, environment: Environment) -> Offer:
  found: list[list[Offer]] = []
  for each in lowering.REGISTERED:
    offers = _of_lowering(each, function, problem, environment)
    if offers and offers[0].is_native:
      # The figures of the others take longer than a small call, and are rarely needed for one.
      return _native_or_better(offers[0], function, problem, environment)
    found.append(offers)
  return _least(_comparable(found), _CALLS, environment)


def _native_or_better(
  native: Offer, function: Function, problem: Problem, environment: Environment
) -> Offer:
  """Returns a native offer, or one that is expected to be clearly faster.

  Eager code may make a call once, a graph is built to be called again.
  """
  shortest = LONG_IN_GRAPH if environment.in_graph else LONG
  if native.cost is None or native.cost.seconds < shortest:
    return native
  cores = processor.cores()  # a call itself has all of them
  waiting = 1 if environment.in_graph else cores
  calls = _CALLS if environment.in_graph else 1
  may_compile = environment.mode == "auto" and (
    calls * native.cost.seconds > waiting * COMPILE_SECONDS
  )
  rivals = []
  for each in lowering.REGISTERED:
    if each is native.lowering:
      continue
    offers = _of_lowering(each, function, problem, environment)
    rivals += [offer for offer in offers if may_compile or not offer.compiled]
  if any(offer.compiled for offer in rivals) and not private.xla_compiles():
    rivals = [offer for offer in rivals if not offer.compiled]
  if not rivals:
    return native
  best = _least(rivals, calls, environment, waiting)
  is_better = _total(best, calls, environment, waiting) * CLEARLY < calls * native.cost.seconds
  return best if is_better else native


def _offers(function: Function, problem: Problem, environment: Environment) -> list[Offer]:
  return _comparable(
    [_of_lowering(each, function, problem, environment) for each in lowering.REGISTERED]
  )


def _of_lowering(
  each: Lowering, function: Function, problem: Problem, environment: Environment
) -> list[Offer]:
  """Returns a lowering's offers; where only the batch is unknown, with the costs of one sample.

  Keras traces models with an unknown batch. What is best for one sample is mostly best for several.
  """
  offers = each.offers(function, problem, environment)
  one = problem.replace(batch=1)
  if not offers or problem.is_static or not one.is_static:
    return offers
  costs: dict[bool, Cost | None] = {}
  for offer in each.offers(function, one, environment):
    costs.setdefault(offer.compiled, offer.cost)
  return [offer._replace(cost=costs.get(offer.compiled)) for offer in offers]


def _comparable(by_lowering: list[list[Offer]]) -> list[Offer]:
  """Returns offers, those without a cost only of the first lowering, and of TensorFlow's own."""
  found: list[Offer] = []
  for offers in by_lowering:
    is_first = all(offer.is_native for offer in found)
    found += [offer for offer in offers if is_first or offer.cost is not None]
  return found


def _least(
  offers: list[Offer], calls: int, environment: Environment, cores: int = 1
) -> Offer:
  """Returns the offer that should be fastest over so many calls; uncompiled if none has a cost."""
  return min(
    offers, key=lambda offer: (_total(offer, calls, environment, cores), offer.compiled)
  )


def _total(offer: Offer, calls: int, environment: Environment, cores: int) -> float:
  """Returns how long so many calls take; `cores` is how many wait while a call is compiled."""
  compiling = 0.0
  if offer.cost is not None and (offer.compiled or environment.in_xla):
    compiling = cores * offer.cost.compiling * COMPILE_SECONDS
  return calls * _seconds(offer) + compiling


def _seconds(offer: Offer) -> float:
  return math.inf if offer.cost is None else offer.cost.seconds
