"""What stock TensorFlow does with the very same calls: an error, or how many milliseconds."""

from __future__ import annotations

import dataclasses
import statistics
import time

import numpy as np
import tensorflow as tf

XLA = "XLA"  # tf.function(jit_compile=True)
MODES = ("eager", "graph", XLA)
MOST_ROUNDS = 9
SECONDS_PER_RACE = 0.4
SLOW_SECONDS = 0.6  # A call that takes longer is timed once.


@dataclasses.dataclass(frozen=True)
class Call:
  """One call of `Conv3DBackpropInputV2`: all but the numbers in its tensors."""

  name: str
  input_sizes: list
  filter_shape: list
  out_backprop_shape: list
  attributes: dict

  @property
  def kernel(self) -> str:
    """The filter's taps, stride and dilation along one axis (they are cubic), in short."""
    stride, dilation = self.attributes["strides"][-1], self.attributes["dilations"][-1]
    return f"k{self.filter_shape[0]} s{stride} d{dilation}"

  def arguments(self, dtype: str) -> dict:
    """Random arguments without a zero among them; the same ones each time."""
    rng = np.random.default_rng(0)
    filter, out_backprop = (
      tf.constant(rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape), dtype)
      for shape in (self.filter_shape, self.out_backprop_shape)
    )
    return dict(
      input_sizes=self.input_sizes, filter=filter, out_backprop=out_backprop, **self.attributes
    )


@dataclasses.dataclass(frozen=True)
class Race:
  """Two ways to make one call: median milliseconds, or the error that came instead."""

  stock: float | str
  ours: float | str


class Recorder:
  """Stands in for an op, and remembers how it was called."""

  def __init__(self, op):
    self._op = op
    self.calls = []

  def __call__(self, input_sizes, filter, out_backprop, name, **attributes):
    self.calls.append(
      Call(
        name, list(input_sizes), filter.shape.as_list(), out_backprop.shape.as_list(), attributes
      )
    )
    return self._op(
      input_sizes=input_sizes, filter=filter, out_backprop=out_backprop, name=name, **attributes
    )


def race(call: Call, dtype: str, mode: str, ours) -> Race:
  """Times `call` with the raw op and with `ours`, in turns, so that both meet the same machine.

  Args:
    call: What to compute.
    dtype: Of the tensors.
    mode: One of `MODES`.
    ours: The op to compare with `tf.raw_ops.Conv3DBackpropInputV2`.

  Returns:
    Medians. An error of the raw op is a result; one of `ours` is raised.
  """
  arguments = call.arguments(dtype)
  stock, op = (_in_mode(op, arguments, mode) for op in (tf.raw_ops.Conv3DBackpropInputV2, ours))
  try:
    first = _seconds(stock)
  except (tf.errors.OpError, ValueError, TypeError) as error:
    return Race(_reason(error), _milliseconds(op)[0])
  if first > SLOW_SECONDS and mode != XLA:
    # The raw op compiles nothing outside XLA, so its first call is as good as any.
    return Race(1e3 * first, _milliseconds(op)[0])
  return Race(*_milliseconds(stock, op))


def _milliseconds(*functions) -> list[float]:
  """The median time of each, taken in turns; first calls, which trace and compile, do not count."""
  for function in functions:
    function()
  times = []
  deadline = time.perf_counter() + SECONDS_PER_RACE
  while len(times) < MOST_ROUNDS and (not times or time.perf_counter() < deadline):
    times.append([_seconds(function) for function in functions])
  return [1e3 * statistics.median(column) for column in zip(*times)]


def _seconds(run) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def _reason(error: Exception) -> str:
  """What went wrong, without where."""
  text = str(error).partition("\n\t [[")[0].partition(" [Op:")[0].rpartition("}} ")[-1]
  return f"{type(error).__name__}: {text.splitlines()[-1]}"


def _in_mode(op, arguments, mode):
  """A function of no arguments that makes the call, and returns when its result is there."""
  constants = {key: value for key, value in arguments.items() if not tf.is_tensor(value)}
  tensors = {key: value for key, value in arguments.items() if tf.is_tensor(value)}

  def function(filter, out_backprop):
    return op(filter=filter, out_backprop=out_backprop, **constants)

  if mode != "eager":
    function = tf.function(function, jit_compile=mode == XLA)
  return lambda: function(**tensors).numpy()
