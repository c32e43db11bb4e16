"""From a function of a convolution and a problem to its result, by the plan of the policy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tf_conv3d_grad.execution import compiled, nonfinite
from tf_conv3d_grad.lowering.interface import Compute, Offer
from tf_conv3d_grad.planning import autotune, policy
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import FILTER, Function
from tf_conv3d_grad.tensorflow import memory, private, xla_onednn
from tf_conv3d_grad.tensorflow.cache import Cache
from tf_conv3d_grad.tensorflow.environment import Environment

# Derivatives of eager calls, planned once. Each takes a few hundred bytes.
_prepared: Cache[Compute] = Cache(4096)
# Functions in whose place a SavedModel has others. Each holds a traced graph of some 10 kB.
_replaceables: Cache[compiled.OfEachGraph] = Cache(4096)
# The batch of a problem that holds for every one.
_ANY_BATCH = -1


def compute(
  function: Function, problem: Problem, *operands: tf.Tensor, exactly: bool = True
) -> tf.Tensor:
  """Returns a function of a convolution, computed here and now; without derivatives.

  Args:
    function: The function.
    problem: The problem.
    *operands: The two tensors.
    exactly: Whether infinities and NaNs must reach exactly what the sum says. It is asked in graphs
      only: eager calls always are exact.
  """
  environment = Environment.here(problem.dtype, *operands)
  if tf.executing_eagerly():
    key = (function.name, problem, environment, autotune.is_on())
    make = functools.partial(prepared, function, problem, environment)
    return _prepared.get(key, make)(*operands)
  vectorized = private.in_vectorized_loop()
  result = prepared(function, problem, environment, vectorized, exactly)(*operands)
  result.set_shape(sizes.static(function.shape(problem)))
  return result


def native(
  function: Function, problem: Problem, *operands: tf.Tensor
) -> Callable[..., tf.Tensor] | None:
  """Returns TensorFlow's own operation for a graph; None where something else has to compute.

  Args:
    function: The function.
    problem: The problem.
    *operands: The two tensors. Only their devices matter.

  Returns:
    A function of the two tensors and of a keyword `name`.
  """
  if problem.is_empty:
    return None
  environment = Environment.here(problem.dtype, *operands)
  offer = _chosen(function, problem, environment, private.in_vectorized_loop())
  return offer.lowering.native(function, problem, offer.plan)


def forget() -> None:
  """Forgets what was prepared."""
  _prepared.clear()
  _replaceables.clear()


def prepared(
  function: Function,
  problem: Problem,
  environment: Environment,
  vectorized: bool = False,
  exactly: bool = True,
) -> Compute:
  """Returns what computes a function for one problem and environment, without derivatives.

  `vectorized` says that this is the body of a vectorized loop, `exactly` what `compute` says.
  """
  shape = function.shape(problem)
  if tf.executing_eagerly() and environment.device == "CPU":
    memory.require(function.asked_by, shape, problem.dtype)
  if problem.is_empty:
    return lambda *_: memory.zeros(shape, problem.dtype)
  offer = _chosen(function, problem, environment, vectorized)
  return (by_offer if exactly else _by_offer)(function, problem, environment, offer)


def by_offer(
  function: Function, problem: Problem, environment: Environment, offer: Offer
) -> Compute:
  """Returns what computes a function as an offer says, also of what is not finite."""
  compute = _by_offer(function, problem, environment, offer)
  return nonfinite.exact(function, problem, offer, compute)


def _chosen(
  function: Function, problem: Problem, environment: Environment, vectorized: bool
) -> Offer:
  if autotune.is_on():
    compute = functools.partial(_by_offer, function, problem, environment)
    offer = autotune.choose(function, problem, environment, compute)
  else:
    offer = policy.choose(function, problem, environment)
  if not vectorized or not (offer.compiled or environment.in_xla):
    return offer
  # TensorFlow does not vectorize XLA's loops over slices, and large calls had better not be
  # computed at once. So a call that TensorFlow's kernel takes is left to it.
  uncompiled = policy.choices(function, problem, dataclasses.replace(environment, mode=False))
  native = next((each for each in uncompiled if each.is_native), None)
  if environment.mode == "auto" and native is not None:
    return native
  return offer._replace(plan=offer.lowering.untiled(offer.plan))


def _by_offer(
  function: Function, problem: Problem, environment: Environment, offer: Offer
) -> Compute:
  """Returns what computes a function as an offer says."""
  if not offer.compiled:
    return _by_lowering(function, problem, environment, offer)
  of_batch = _of_any_batch(problem)
  if not of_batch.is_static:  # tensors in a key would be kept alive
    compute = offer.lowering.prepared(function, problem, offer.plan)
    traced = tf.function(compute, jit_compile=True, autograph=False)
    return lambda *operands: traced(*compiled.of_this_graph(*operands))
  key = (function.name, of_batch, offer.lowering.name, offer.plan)
  compute = functools.partial(_compiled, function, of_batch, environment, offer)
  uncompiled = functools.partial(_uncompiled, function, of_batch, environment)
  return compiled.function(key, compute, uncompiled)


def _of_any_batch(problem: Problem) -> Problem:
  """Returns a problem without a tensor for its batch, for keys."""
  return problem if problem.is_static else problem.replace(batch=_ANY_BATCH)


def _with_batch(function: Function, problem: Problem, operands: tuple) -> Problem:
  """Returns the problem with the batch that the operands have."""
  if problem.batch != _ANY_BATCH:
    return problem
  place = next(place for place, name in enumerate(function.operands) if name != FILTER)
  return problem.replace(batch=sizes.shape_of(operands[place])[problem.layout.batch])


def _compiled(
  function: Function,
  problem: Problem,
  environment: Environment,
  offer: Offer,
  first: tf.Tensor,
  second: tf.Tensor,
) -> tf.Tensor:
  problem = _with_batch(function, problem, (first, second))
  return _by_lowering(function, problem, environment, offer)(first, second)


def _by_lowering(
  function: Function, problem: Problem, environment: Environment, offer: Offer
) -> Compute:
  """Returns what computes a function by an offer's lowering, and portably where it is saved."""
  if offer.lowering.is_portable:
    return offer.lowering.prepared(function, problem, offer.plan)
  problem = _of_any_batch(problem)
  key = (function.name, problem, offer.lowering.name, offer.plan)
  portable = dataclasses.replace(environment, in_xla=True, xla_onednn=False)

  def compute(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    of_batch = _with_batch(function, problem, (first, second))
    return offer.lowering.prepared(function, of_batch, offer.plan)(first, second)

  def instead(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    of_batch = _with_batch(function, problem, (first, second))
    return prepared(function, of_batch, portable)(first, second)

  def make() -> compiled.OfEachGraph:
    return compiled.OfEachGraph(lambda: xla_onednn.Replaceable(compute, instead))

  return lambda *operands: _replaceables.get(key, make).get()(*operands)


def _uncompiled(
  function: Function, problem: Problem, environment: Environment, *operands: tf.Tensor
) -> tf.Tensor:
  problem = _with_batch(function, problem, operands)
  # Whatever it was planned for: this stands in the place of a call that XLA was to compile.
  in_graph = not tf.executing_eagerly()
  environment = dataclasses.replace(environment, mode=False, in_xla=False, in_graph=in_graph)
  offer = policy.choose(function, problem, environment)  # not timed: this may be a timing
  return by_offer(function, problem, environment, offer)(*operands)
