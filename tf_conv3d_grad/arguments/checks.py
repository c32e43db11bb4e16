"""Raises the right exception for a broken rule, now or when the value is known.

A rule is stated once. If all of its values are known, a broken rule raises at once. If not, the
rule becomes part of the graph and raises when the graph runs. In a function that XLA compiles as a
whole it raises when that is compiled, because XLA drops assertions.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import tensorflow as tf

from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.sizes import Size
from tf_conv3d_grad.tensorflow import private


def fail(message: str) -> NoReturn:
  """Raises what TensorFlow raises for a bad value.

  Raises:
    tf.errors.InvalidArgumentError: When executing eagerly.
    ValueError: When building a graph.
  """
  if tf.executing_eagerly():
    raise tf.errors.InvalidArgumentError(None, None, message)
  raise ValueError(message)


def fail_dtype(message: str) -> NoReturn:
  """Raises what TensorFlow raises for a bad dtype.

  Raises:
    tf.errors.InvalidArgumentError: When executing eagerly.
    TypeError: When building a graph.
  """
  if tf.executing_eagerly():
    raise tf.errors.InvalidArgumentError(None, None, message)
  raise TypeError(message)


class Checks:
  """Rules about sizes. Some sizes may be known only when the graph runs."""

  def __init__(self) -> None:
    self._pending: list[tf.Operation] = []
    self._in_xla = private.in_xla_context()

  def equal(self, given: Size, needed: Size, message: str, *values: Any) -> None:
    """Requires `given == needed`; see `true`."""
    if sizes.is_known(given, needed):
      holds = given == needed
    else:
      holds = tf.equal(tf.cast(given, tf.int64), tf.cast(needed, tf.int64))
    self.true(holds, message, *values, given=given, needed=needed)

  def true(
    self, holds: Any, message: str, *values: Any, given: Size = 1, needed: Size = 0
  ) -> None:
    """Requires `holds`, a bool or a boolean scalar tensor.

    Args:
      holds: What must be true.
      message: One sentence with a `{}` for each of `values`.
      *values: What was given and what is needed, in the message's order.
      given: The offending number. An error of XLA's can carry it and `needed`, besides a name.
      needed: What the number must be.

    Raises:
      tf.errors.InvalidArgumentError: If it is known not to hold, when executing eagerly.
      ValueError: If it is known not to hold, when building a graph.
    """
    if isinstance(holds, bool):
      if not holds:
        fail(message.format(*(_readable(value) for value in values)))
      return
    if self._in_xla:
      self._pending.append(_compile_time_assertion(holds, message, given, needed).op)
      return
    texts = message.split("{}")
    data: list[Any] = [texts[0]]
    for value, text in zip(values, texts[1:]):
      data += [sizes.as_tensor(value) if isinstance(value, (list, tuple)) else value, text]
    data = [piece for piece in data if not (isinstance(piece, str) and not piece)]
    # One after the other, so that the first broken rule is reported. Nothing else is
    # made in here: an assertion on what is made in here would not wait itself.
    with tf.control_dependencies(self._pending[-1:]):
      self._pending.append(tf.debugging.Assert(holds, data, summarize=8))

  def guard(self, *tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns `tensors` such that nothing computed from them runs before every rule has held."""
    if not self._pending:
      return tensors
    with tf.control_dependencies(self._pending):
      return tuple(tf.identity(tensor) for tensor in tensors)


def _readable(value: Any) -> str:
  """Returns a size or a shape as text, with `?` for what is not known."""
  if isinstance(value, (list, tuple)):
    return "[" + ", ".join(_readable(item) for item in value) + "]"
  return "?" if tf.is_tensor(value) and not hasattr(value, "numpy") else str(value)


def _compile_time_assertion(holds: tf.Tensor, message: str, given: Size, needed: Size) -> tf.Tensor:
  """Returns an operation that XLA cannot compile unless `holds`.

  A reshape of `given` values to `needed`, both 0 where the rule holds. The error that XLA reports
  then has both numbers and the operation's name, which carries the message.
  """
  name = re.sub(r"[^A-Za-z0-9]+", "_", message.split(":")[0]).strip("_")
  wrong = tf.cast(tf.logical_not(holds), tf.int64)
  # A negative size is another rule's offence, and would only hide this message.
  # One beyond int32 is none that XLA can report.
  given, needed = (
    tf.clip_by_value(tf.cast(size, tf.int64), 0, 2**31 - 1) * wrong for size in (given, needed)
  )
  return tf.reshape(tf.zeros([given], tf.bool), [needed], name=name)
