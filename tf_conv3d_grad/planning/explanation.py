"""What a call would run, and why."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.interface import Offer
from tf_conv3d_grad.planning import autotune, policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.tensorflow import xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What a call would run, and why. `print` shows it as a table.

  `explain` makes one. The types of its attributes are not public; their `str` is for reading.

  Attributes:
    function: Which function of a convolution the op computes.
    problem: What is computed: sizes, strides, dilations, padding, dtype, format.
    environment: Where it is computed, as far as the choice depends on it.
    called: Ways to compute the call in eager code. The first one is taken. Each has a `lowering`,
      a `plan`, whether it is `compiled`, and its expected `cost`.
    in_graph: The same in a `tf.function`, which is built to be called again.
    inside_jit: The same inside a function compiled with `jit_compile=True`.
    flops: The useful arithmetic, with a multiply-add counted as two. None where sizes are unknown.
    bytes: The size of the three tensors. None where sizes are unknown.

  Example:
    >>> explanation = tf_conv3d_grad.explain(
    ...   tf.TensorSpec([1, 8, 8, 8, 4], tf.float32),
    ...   tf.TensorSpec([3, 3, 3, 4, 6], tf.float32),
    ...   strides=[1] * 5,
    ...   padding="SAME",
    ...   op=tf_conv3d_grad.Conv3D,
    ... )
    >>> explanation.flops  # 8^3 cells, 27 taps, 4 times 6 channels, 2 for a multiply-add
    663552
    >>> explanation.chosen is explanation.called[0]
    True
  """

  function: Function
  problem: Problem
  environment: Environment
  called: tuple[Offer, ...]
  in_graph: tuple[Offer, ...]
  inside_jit: tuple[Offer, ...]
  flops: int | None
  bytes: int | None

  @property
  def chosen(self) -> Offer:
    """The way that is taken for a call in eager code: the first of `called`."""
    return self.called[0]

  def __str__(self) -> str:
    header = ("where", "lowering", "compiled", "columns held", "predicted", "parameters")
    rows: list[tuple[str, ...]] = [header]
    for where, choices in (
      ("called", self.called),
      ("in a tf.function", self.in_graph),
      ("inside jit_compile=True", self.inside_jit),
    ):
      for place, choice in enumerate(choices):
        by_itself = "yes" if choice.compiled else "no"
        compiled = "with the rest" if choices is self.inside_jit else by_itself
        rows.append((f"{where}{'' if place == 0 else ', instead'}", *_row(choice, compiled)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    table.insert(1, "  ".join("-" * width for width in widths))
    lines = [self._summary(), *(line.rstrip() for line in table)]
    if self.problem.is_empty:
      lines.append("There is nothing to add up: the result is zeros, and none of these runs.")
    return "\n".join(lines)

  def _summary(self) -> str:
    work = "sizes known only at run time"
    if self.flops is not None and self.bytes is not None:
      work = f"{self.flops / 1e9:.3g} GFLOP, {self.bytes / 2**20:.3g} MiB of tensors"
    kernels = "cuDNN" if self.environment.device == "GPU" else (
      "oneDNN" if self.environment.onednn else "Eigen"
    )
    return (
      f"{self.function.op} in {self.problem.dtype.name}, {work}; on a {self.environment.device} "
      f"with {kernels}, jit_compile mode {self.environment.mode!r}; {self._inside_xla()}"
    )

  def _inside_xla(self) -> str:
    if self.problem.dtype == tf.float64:
      return "no oneDNN inside of XLA: it has no float64"
    reason = xla_onednn.why_not(tf.float32)
    return f"no oneDNN inside of XLA: {reason}" if reason else "oneDNN inside of XLA too"


def explain(
  *args: Any, op: Callable[..., Any] | str = BACKPROP_INPUT.op, **kwargs: Any
) -> Explanation:
  """Says what a call of an op would run, and why, without running it.

  Args:
    *args: The op's arguments by position. A `tf.TensorSpec` may stand for a tensor.
    op: The op: a function of this package, such as `tf_conv3d_grad.Conv3D`, or its name.
    **kwargs: The op's arguments by name. A `tf.TensorSpec` may stand for a tensor.

  Returns:
    An `Explanation`: lowering, whether compiled, arithmetic, bytes, columns held and predicted time
    on one core, with the alternatives.

  Raises:
    ValueError: An argument is malformed, or `op` is not one of the three.
    TypeError: A dtype is not supported, or the op does not take an argument.

  Example:
    >>> explanation = tf_conv3d_grad.explain(
    ...   input_sizes=[1, 16, 16, 16, 4],
    ...   filter=tf.TensorSpec([3, 3, 3, 4, 8], tf.float64),
    ...   out_backprop=tf.TensorSpec([1, 8, 8, 8, 8], tf.float64),
    ...   strides=[1, 2, 2, 2, 1],
    ...   padding="SAME",
    ... )
    >>> summary, *table = str(explanation).splitlines()
    >>> print(summary)  # doctest: +ELLIPSIS
    Conv3DBackpropInputV2 in float64, 0.000885 GFLOP, 0.163 MiB of tensors; on a ...
    >>> table[0].split()[:3]
    ['where', 'lowering', 'compiled']
  """
  function = _function(op)
  given = _bound(function, args, kwargs)
  with tf.Graph().as_default():
    for name in map(function.argument, function.operands):
      given[name] = _placeholder(given[name])
    if function.asked_by not in map(function.argument, function.operands):
      given[function.asked_by] = _known_or_unknown(given[function.asked_by])
    problem, _, _ = validation.validate(function, **given)
    known = problem.is_static
    environment = Environment.here(problem.dtype)
    eager = dataclasses.replace(environment, in_xla=False, in_graph=False)
    graph = dataclasses.replace(eager, in_graph=True)
    compiled = dataclasses.replace(graph, in_xla=True)
    return Explanation(
      function=function,
      problem=problem,
      environment=eager,
      called=_choices(function, problem, eager),
      in_graph=_choices(function, problem, graph),
      inside_jit=_choices(function, problem, compiled),
      flops=cost.flops(problem) if known else None,
      bytes=cost.tensor_bytes(problem) if known else None,
    )


def _function(op: Callable[..., Any] | str) -> Function:
  name = (op if isinstance(op, str) else getattr(op, "__name__", "")).replace("_", "").lower()
  for function in functions.ALL:
    if function.op.lower() == name:
      return function
  names = ", ".join(function.op for function in functions.ALL)
  raise ValueError(f"op must be one of {names}, got {op!r}")


def _bound(function: Function, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
  """Returns an op's arguments by their names, without the name of its operation."""
  order = {
    CONV3D: "input filter",
    BACKPROP_INPUT: "input_sizes filter out_backprop",
    BACKPROP_FILTER: "input filter_sizes out_backprop",
  }[function]
  needed = [inspect.Parameter(name, _EITHER) for name in (*order.split(), "strides", "padding")]
  optional = [
    inspect.Parameter(name, _EITHER, default=default)
    for name, default in (("data_format", "NDHWC"), ("dilations", [1] * 5), ("name", None))
  ]
  bound = inspect.Signature([*needed, *optional]).bind(*args, **kwargs)
  bound.apply_defaults()
  return {name: value for name, value in bound.arguments.items() if name != "name"}


def _choices(
  function: Function, problem: Problem, environment: Environment
) -> tuple[Offer, ...]:
  """Returns what could compute a function; first what would, which autotuning may have found."""
  choices = policy.choices(function, problem, environment)
  tuned = autotune.known(function, problem, environment) if autotune.is_on() else None
  return tuple(dict.fromkeys([tuned, *choices] if tuned else choices))


def _placeholder(value: Any) -> tf.Tensor:
  """Returns a tensor without a value, of the shape and dtype of `value`."""
  if not (isinstance(value, (tf.TensorSpec, tf.Variable)) or tf.is_tensor(value)):
    value = tf.convert_to_tensor(value)
  return tf.compat.v1.placeholder(value.dtype, value.shape)


def _known_or_unknown(input_sizes: Any) -> Any:
  """Returns the values of the tensors in `input_sizes` if they have them, else tensors without."""
  if isinstance(input_sizes, (list, tuple)):
    return [_known_or_unknown(size) for size in input_sizes]
  if not tf.is_tensor(input_sizes):
    return input_sizes
  value = tf.get_static_value(input_sizes)
  return _placeholder(input_sizes) if value is None else value


def _row(offer: Offer, compiled: str) -> tuple[str, ...]:
  held = "?" if offer.cost is None else f"{offer.cost.column_bytes / 2**20:.1f} MiB"
  predicted = "?" if offer.cost is None else f"{offer.cost.seconds * 1e3:.3g} ms"
  return offer.lowering.name, compiled, held, predicted, str(offer.plan)
