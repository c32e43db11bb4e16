"""Opt-in: finds the fastest of several plans for a call, by timing them.

With `TF_CONV3D_GRAD_AUTOTUNE=1`, the first call with a combination of shapes, dtype and attributes
times the candidates of the policy on random data. Every later call takes the winner, in other
processes too. That is how cuDNN is tuned. Each candidate takes a compilation, some seconds in all.
So it is worth it for long runs with fixed shapes: training and serving.
"""

from __future__ import annotations

import functools
import statistics
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.lowering.interface import Compute, Offer
from tf_conv3d_grad.planning import policy, tuning_file
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import Function
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.environment import Environment

ENVIRONMENT_VARIABLE = "TF_CONV3D_GRAD_AUTOTUNE"

_NAMES = {"1": True, "true": True, "0": False, "false": False}

# Candidates are timed in turns, at least once each, for so many rounds or so many seconds in all.
_ROUNDS = 7
_SECONDS = 1.0
# A candidate that takes this many times as long as the fastest in the first round is not timed
# again.
_HOPELESS = 2.0
# A candidate has to beat the policy's own choice by this factor. Smaller differences may be noise.
_BETTER = 1.05

# Timings would disturb each other, and several threads may ask for the same one.
_lock = threading.RLock()
# Fields of offers by key; read from the file when first used.
_winners: tuning_file.Winners | None = None


def is_on() -> bool:
  """Returns whether calls are tuned.

  Raises:
    ValueError: The environment variable has a value that it cannot have.
  """
  text = private.environment(ENVIRONMENT_VARIABLE, "0")
  if text not in _NAMES:
    raise ValueError(f"{ENVIRONMENT_VARIABLE} must be one of {', '.join(_NAMES)}, got {text!r}")
  return _NAMES[text]


def choose(
  function: Function,
  problem: Problem,
  environment: Environment,
  compute: Callable[[Offer], Compute],
) -> Offer:
  """Returns the fastest offer, timed now if that has not been done before.

  Args:
    function: Which function of the convolution.
    problem: The problem; only static ones on a CPU are timed.
    environment: Where it is computed.
    compute: Returns what computes the function as an offer says, called eagerly.
  """
  if not problem.is_static or environment.device == "GPU":
    return policy.choose(function, problem, environment)
  candidates = policy.candidates(function, problem, environment)
  if len(candidates) == 1:
    return candidates[0]
  key = _key(function, problem, environment)
  with _lock:
    winner = _remembered(key, candidates)
    if winner is None:
      winner = private.outside(
        functools.partial(_fastest, function, problem, environment, candidates, compute)
      )
      if winner is None:
        return candidates[0]
      _remember(key, winner)
  return winner


def known(function: Function, problem: Problem, environment: Environment) -> Offer | None:
  """Returns the winner of an earlier timing, None if there was none."""
  if not problem.is_static or environment.device == "GPU":
    return None
  with _lock:
    candidates = policy.candidates(function, problem, environment)
    return _remembered(_key(function, problem, environment), candidates)


def forget() -> None:
  """Forgets what this process knows; the file stays."""
  global _winners
  with _lock:
    _winners = None


def _remembered(key: str, candidates: list[Offer]) -> Offer | None:
  global _winners
  if _winners is None:
    _winners = tuning_file.read()
  fields = _winners.get(key)
  # What is in the file only ever selects among the candidates.
  return next((offer for offer in candidates if offer.fields() == fields), None)


def _remember(key: str, winner: Offer) -> None:
  global _winners
  # Other processes may have added theirs.
  _winners = {**tuning_file.read(), **(_winners or {}), key: winner.fields()}
  tuning_file.write(_winners)


def _key(function: Function, problem: Problem, environment: Environment) -> str:
  axes = [
    f"{a.input}<-{a.output} k{a.taps} s{a.stride} d{a.dilation} p{a.pad}" for a in problem.axes
  ]
  channels = f"{problem.in_channels}/{problem.filter_in_channels}<-{problem.out_channels}"
  where = "inside jit" if environment.in_xla else f"mode {environment.mode}"
  if environment.xla_onednn:
    where += " with oneDNN in XLA"
  return "; ".join(
    [
    function.name, problem.dtype.name, problem.data_format, f"batch {problem.batch}",
    *axes, channels, where,
  ]  )


def _fastest(
  function: Function,
  problem: Problem,
  environment: Environment,
  candidates: list[Offer],
  compute: Callable[[Offer], Compute],
) -> Offer | None:
  """Returns the offer with the least median, None if nothing can be timed in this process."""
  if not tf.executing_eagerly():  # TensorFlow 1's behaviour
    return None
  with tf.device("/CPU:0"):
    operands = _random_operands(function, problem)
    calls = {}
    for offer in candidates:
      # Inside a compiled function a plan is not compiled by itself, but here it has to be.
      call = compute(offer._replace(compiled=offer.compiled or environment.in_xla))
      try:
        call(*operands)  # with what compilation it takes
      except tf.errors.ResourceExhaustedError:
        continue  # others may need less memory
      except tf.errors.OpError as error:
        _warn(f"{offer.lowering.name} is not timed, as it raised {type(error).__name__}: {error}")
        continue
      if getattr(call, "has_failed", False):
        continue  # what ran in its place is not the candidate
      calls[offer] = call
    if not calls:
      return None
    return _raced(calls, operands, candidates[0])


@functools.cache
def _warn(what: str) -> None:
  """Warns once of each thing."""
  warnings.warn(f"tf_conv3d_grad: autotuning: {what}", RuntimeWarning, stacklevel=2)


def _raced(calls: dict[Offer, Compute], operands: tuple, expected: Offer) -> Offer:
  seconds: dict[Offer, list[float]] = {offer: [] for offer in calls}
  start = time.perf_counter()
  for turn in range(_ROUNDS):
    for offer in list(seconds):
      begin = time.perf_counter()
      calls[offer](*operands)
      seconds[offer].append(time.perf_counter() - begin)
    if turn == 0:
      least = min(samples[0] for samples in seconds.values())
      seconds = {
        offer: samples
        for offer, samples in seconds.items()
        if samples[0] <= _HOPELESS * least or offer == expected
      }
    if time.perf_counter() - start > _SECONDS:
      break
  medians = {offer: statistics.median(samples) for offer, samples in seconds.items()}
  best = min(medians, key=medians.__getitem__)
  if expected in medians and medians[expected] <= _BETTER * medians[best]:
    return expected
  return best


def _random_operands(function: Function, problem: Problem) -> tuple[tf.Tensor, ...]:
  """Returns operands without zeros, which some kernels are faster on."""
  rng = np.random.default_rng(0)

  def tensor(shape: list) -> tf.Tensor:
    dtype = np.float64 if problem.dtype == tf.float64 else np.float32
    magnitudes = rng.random(shape, np.float32) + np.float32(0.25)
    signs = rng.integers(0, 2, shape, np.int8) * 2 - 1
    return tf.cast((magnitudes * signs).astype(dtype), problem.dtype)

  return tuple(tensor(functions.shape(name, problem)) for name in function.operands)
