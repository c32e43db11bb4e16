"""What stock TensorFlow does with the very same calls: an error, or how many milliseconds."""

import dataclasses
import statistics
import time

import numpy as np
import tensorflow as tf

XLA = 'XLA'  # tf.function(jit_compile=True)
MODES = ('eager', 'graph', XLA)
SECONDS_PER_RACE = 0.4
MOST_ROUNDS = 9
SLOW_SECONDS = 0.6


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
    stride, dilation = self.attributes['strides'][-1], self.attributes['dilations'][-1]
    return f'k{self.filter_shape[0]} s{stride} d{dilation}'

  def arguments(self, dtype: str) -> dict:
    """Random arguments without a zero among them; the same ones each time."""
    rng = np.random.default_rng(0)
    filter, out_backprop = (
        tf.constant(rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape), dtype)
        for shape in (self.filter_shape, self.out_backprop_shape))
    return dict(input_sizes=self.input_sizes, filter=filter, out_backprop=out_backprop,
                **self.attributes)


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
    self.calls.append(Call(name, list(input_sizes), filter.shape.as_list(),
                           out_backprop.shape.as_list(), attributes))
    return self._op(input_sizes=input_sizes, filter=filter, out_backprop=out_backprop,
                    name=name, **attributes)


def race(call: Call, dtype: str, mode: str, ours) -> Race:
  """Times `call` with the raw op and with `ours`, in turns, so that both meet the same machine.

  Args:
    call: What to compute.
    dtype: Of the tensors.
    mode: One of `MODES`.
    ours: The op to compare with `tf.raw_ops.Conv3DBackpropInputV2`.

  Returns:
    Medians; first calls, which trace and compile, are not counted.
  """
  arguments = call.arguments(dtype)
  results, times, runnable = {}, {}, {}
  for name, op in dict(stock=tf.raw_ops.Conv3DBackpropInputV2, ours=ours).items():
    run = _in_mode(op, arguments, mode)
    try:
      first = _seconds(run)
    except (tf.errors.OpError, ValueError, TypeError) as error:
      results[name] = _reason(error)
      continue
    if name == 'stock' and mode != XLA and first > SLOW_SECONDS:
      times[name] = [first]  # There was nothing to compile: once is enough of that.
    else:
      times[name], runnable[name] = [], run
  deadline = time.perf_counter() + SECONDS_PER_RACE
  for _ in range(MOST_ROUNDS):
    for name, run in runnable.items():
      times[name].append(_seconds(run))
    if time.perf_counter() > deadline:
      break
  results |= {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}
  return Race(**results)


def _seconds(run) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def _reason(error: Exception) -> str:
  """What went wrong, without where."""
  lines = [line for line in str(error).splitlines() if 'only' in line or 'support' in line]
  reason = (lines or str(error).splitlines())[-1]
  return f'{type(error).__name__}: {reason.partition(" [Op:")[0].strip()}'


def _in_mode(op, arguments, mode):
  """A function of no arguments that makes the call, and returns when its result is there."""
  constants = {key: value for key, value in arguments.items() if not tf.is_tensor(value)}
  tensors = {key: value for key, value in arguments.items() if tf.is_tensor(value)}

  def function(filter, out_backprop):
    return op(filter=filter, out_backprop=out_backprop, **constants)

  if mode != 'eager':
    function = tf.function(function, jit_compile=mode == XLA)
  return lambda: function(**tensors).numpy()
