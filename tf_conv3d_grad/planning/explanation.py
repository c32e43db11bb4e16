"""What a call would run, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.interface import Offer
from tf_conv3d_grad.planning import autotune, policy
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow.environment import Environment


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What a call would run, and why; prints as a table.

  Attributes:
    problem: What is computed.
    environment: Where, as far as the choice depends on it.
    called: The ways of computing a call by itself; the first is taken.
    inside_jit: The same inside a function compiled with `jit_compile=True`.
    flops: The useful arithmetic, a multiply-add counted as two; None where sizes are unknown.
    bytes: Of the three tensors; None where sizes are unknown.
  """

  problem: Problem
  environment: Environment
  called: tuple[Offer, ...]
  inside_jit: tuple[Offer, ...]
  flops: int | None
  bytes: int | None

  @property
  def chosen(self) -> Offer:
    """What a call by itself would run."""
    return self.called[0]

  def __str__(self) -> str:
    header = ("where", "lowering", "compiled", "columns held", "predicted", "parameters")
    rows: list[tuple[str, ...]] = [header]
    for where, choices in (("called", self.called), ("inside jit_compile=True", self.inside_jit)):
      for place, choice in enumerate(choices):
        rows.append((f"{where}{'' if place == 0 else ', instead'}", *_row(choice)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    table.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([self._summary(), *(line.rstrip() for line in table)])

  def _summary(self) -> str:
    work = "sizes known only at run time"
    if self.flops is not None and self.bytes is not None:
      work = f"{self.flops / 1e9:.3g} GFLOP, {self.bytes / 2**20:.3g} MiB of tensors"
    kernels = "cuDNN" if self.environment.device == "GPU" else (
      "oneDNN" if self.environment.onednn else "Eigen"
    )
    return (
      f"Conv3DBackpropInputV2 in {self.problem.dtype.name}, {work}; on a {self.environment.device} "
      f"with {kernels}, jit_compile mode {self.environment.mode!r}"
    )


def explain(
  input_sizes: Any,
  filter: Any,  # noqa: A002 - the raw op's name for it
  out_backprop: Any,
  strides: Any,
  padding: Any,
  data_format: Any = "NDHWC",
  dilations: Any = [1, 1, 1, 1, 1],  # noqa: B006 - the raw op's default, never changed
  name: str | None = None,
) -> Explanation:
  """Returns what a call with these arguments would run, and why, without running it.

  Args:
    input_sizes: As the op's.
    filter: As the op's, or a `tf.TensorSpec`.
    out_backprop: As the op's, or a `tf.TensorSpec`.
    strides: As the op's.
    padding: As the op's.
    data_format: As the op's.
    dilations: As the op's.
    name: As the op's; changes nothing.

  Returns:
    An `Explanation`: lowering, whether compiled, arithmetic, bytes, columns held and predicted time
    on one core, with the alternatives.

  Raises:
    ValueError: For a malformed argument.
    TypeError: For a dtype that is not supported.
  """
  del name
  with tf.Graph().as_default():
    problem, _, _ = validation.validate(
      _known_or_unknown(input_sizes),
      _placeholder(filter),
      _placeholder(out_backprop),
      strides,
      padding,
      data_format,
      dilations,
    )
    known = problem.is_static
    environment = dataclasses.replace(Environment.here(problem.dtype), in_xla=False)
    return Explanation(
      problem=problem,
      environment=environment,
      called=_choices(problem, environment),
      inside_jit=_choices(problem, dataclasses.replace(environment, in_xla=True)),
      flops=cost.flops(problem) if known else None,
      bytes=cost.tensor_bytes(problem) if known else None,
    )


def _choices(problem: Problem, environment: Environment) -> tuple[Offer, ...]:
  """Returns what could compute the problem; first what would, which autotuning may have found."""
  choices = policy.choices(BACKPROP_INPUT, problem, environment)
  tuned = autotune.known(BACKPROP_INPUT, problem, environment) if autotune.is_on() else None
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


def _row(offer: Offer) -> tuple[str, ...]:
  held = "?" if offer.cost is None else f"{offer.cost.column_bytes / 2**20:.1f} MiB"
  predicted = "?" if offer.cost is None else f"{offer.cost.seconds * 1e3:.3g} ms"
  compiled = "yes" if offer.compiled else "no"
  return offer.lowering.name, compiled, held, predicted, str(offer.plan)
