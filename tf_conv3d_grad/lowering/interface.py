"""What a way of computing does: it offers plans for calls, with costs, and carries them out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import Function
from tf_conv3d_grad.tensorflow.environment import Environment

Compute = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Lowering:
  """A way of computing some or all of the three functions of a convolution.

  A lowering defines `offers`, and under their names the functions that it can compute:
  `conv3d(problem, plan, filter, input)`, `backprop_input(problem, plan, filter, out_backprop)`,
  `backprop_filter(problem, plan, input, out_backprop)`. A plan is of a type of its own: hashable,
  with a `str` for people, and with `fields()`, which names it in files.

  Attributes:
    name: The name that people read.
    is_portable: Whether what it builds runs wherever TensorFlow does. If not, a SavedModel has
      something else in its place.
  """

  name: str
  is_portable = True

  def offers(
    self, function: Function, problem: Problem, environment: Environment
  ) -> list[Offer]:
    """Returns the plans worth considering for a call, the best first; an empty list if it has none.

    Args:
      function: Which function of the convolution.
      problem: The problem.
      environment: Where the call is made.
    """
    raise NotImplementedError

  def multiplies_padding(self, function: Function, problem: Problem, plan: Any) -> bool:
    """Returns whether a plan may multiply cells that do not exist."""
    del function, problem, plan
    return True

  def multiplies_neighbours(self, function: Function, problem: Problem, plan: Any) -> bool:
    """Returns whether a plan may multiply the other operand by zeros, too.

    For example channels of a cell's neighbour, or cells between those that a stride reads.
    """
    del function, problem, plan
    return False

  def native(
    self, function: Function, problem: Problem, plan: Any
  ) -> Callable[..., tf.Tensor] | None:
    """Returns TensorFlow's own operation, if a plan is just that in a graph.

    It is a function of the two operands and of a keyword `name`.
    """
    del function, problem, plan
    return None

  def untiled(self, plan: Any) -> Any:
    """Returns a plan that loops over no tiles: TensorFlow vectorizes no such loop under XLA."""
    return plan

  def prepared(self, function: Function, problem: Problem, plan: Any) -> Compute:
    """Returns what computes a function by a plan, called here."""
    return functools.partial(function.of(self), problem, plan)


class Offer(NamedTuple):
  """A plan of a lowering for a call.

  Attributes:
    lowering: Whose plan it is.
    plan: The plan.
    compiled: Whether XLA compiles the call by itself.
    cost: The expected cost; None where sizes are unknown.
    is_native: Whether TensorFlow's own op would run just this. Others have to be clearly faster.
  """

  lowering: Lowering
  plan: Any
  compiled: bool
  cost: Cost | None
  is_native: bool = False

  def fields(self) -> dict:
    """Returns what names this offer in files, in JSON's types; not to be worded anew."""
    return {
      "lowering": self.lowering.name,
      "compiled": self.compiled,
      "plan": self.plan.fields(),
    }

  def __str__(self) -> str:
    words = [self.lowering.name, "compiled" if self.compiled else "", str(self.plan)]
    return " ".join(word for word in words if word)
