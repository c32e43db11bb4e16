"""The calls of public issues that README shows, made again: TensorFlow as it is, and patched.

    python -m benchmarks.public_issues

Each is made in child processes of its own, in turns; times are medians of the calls after the
first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from tf_conv3d_grad.conformance.children import Children

_PATIENCE_SECONDS = 120
_ROUNDS, _CALLS = 2, 7


def tensorflow_22568() -> Any:
  """A transposed convolution in half precision, channels first."""
  tensor, filter = tf.ones([1, 4, 8, 8, 8], tf.float16), tf.ones([3, 3, 3, 2, 4], tf.float16)  # noqa: A001
  sizes = [1, 2, 16, 16, 16]
  return tf.nn.conv3d_transpose(tensor, filter, sizes, [1, 1, 2, 2, 2], "SAME", "NCDHW")


def tensorflow_94114() -> Any:
  """`input_sizes` with one element."""
  return tf.raw_ops.Conv3DBackpropInputV2(
    input_sizes=[5],
    filter=tf.ones([7, 6, 9, 2, 3]),
    out_backprop=tf.ones([1] * 5),
    strides=[1] * 5,
    padding="VALID",
    data_format="NCDHW",
  )


def tensorflow_60195() -> Any:
  """The gradient in the filter of a vector."""
  return tf.raw_ops.Conv3DBackpropFilterV2(
    input=tf.ones([1], tf.bfloat16),
    filter_sizes=[7],
    out_backprop=tf.ones([2, 12, 3, 5, 10], tf.bfloat16),
    strides=[1] * 5,
    padding="VALID",
    data_format="NCDHW",
  )


def tensorflow_19611() -> Callable[[], Any]:
  """A transposed convolution of single cells, in a graph."""
  cells, filter = tf.random.normal([200, 1, 1, 1, 50]), tf.random.normal([28, 28, 1, 1, 50])  # noqa: A001
  sizes = [200, 28, 28, 1, 1]
  transposed = tf.function(
    lambda cells: tf.nn.conv3d_transpose(cells, filter, sizes, [1] * 5, "VALID")
  )
  return lambda: transposed(cells)


def tensorflow_50392() -> Callable[[], Any]:
  """The gradient of a grouped Keras layer."""
  import keras

  layer, volume = keras.layers.Conv3D(6, 3, groups=2), tf.random.normal([3, 12, 12, 12, 4])
  layer(volume)

  def gradient() -> Any:
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(layer(volume) ** 2)
    return tape.gradient(loss, layer.trainable_variables)[0]

  return gradient


def keras_19591() -> Callable[[], Any]:
  """A Keras layer with channels first, called eagerly."""
  import keras

  layer = keras.layers.Conv3D(16, 3, padding="same", data_format="channels_first")
  volume = tf.random.normal([1, 16, 24, 24, 24])
  return lambda: layer(volume)


def jax_31662() -> Callable[[], Any]:
  """The gradient of a transposed convolution in its filter, compiled."""
  volume = tf.cast(tf.random.normal([1, 64, 64, 32, 64]), tf.bfloat16)
  filter = tf.cast(tf.random.normal([3, 3, 3, 1, 64]), tf.bfloat16)  # noqa: A001

  @tf.function(jit_compile=True)
  def gradient(filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
    with tf.GradientTape() as tape:
      tape.watch(filter)
      sizes = [1, 128, 128, 64, 1]
      result = tf.nn.conv3d_transpose(volume, filter, sizes, [1, 2, 2, 2, 1], "SAME")
      loss = tf.reduce_mean(tf.cast(result, tf.float32))
    return tape.gradient(loss, filter)

  return lambda: gradient(filter)


ISSUES = (
  tensorflow_22568, tensorflow_94114, tensorflow_60195, tensorflow_19611, tensorflow_50392,
  keras_19591, jax_31662,
)  # fmt: skip


def outcome(number: int, is_patched: bool) -> float | str:
  """Returns the seconds of an issue's call, or what comes of it."""
  if is_patched:
    tf_conv3d_grad.patch_tensorflow()
  try:
    call = ISSUES[number]()
    if not callable(call):
      return f"a result of shape {call.shape}"
    seconds = []
    for _ in range(1 + _CALLS):
      begin = time.perf_counter()
      np.asarray(tf.cast(call(), tf.float32))
      seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])
  except (tf.errors.OpError, ValueError) as error:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main() -> None:
  """Prints a row for each issue."""
  for number, issue in enumerate(ISSUES):
    found: dict[bool, list] = {False: [], True: []}
    for is_patched in (False, True) * _ROUNDS:
      with Children(outcome, _PATIENCE_SECONDS) as child:
        found[is_patched].append(child.call(number, is_patched))
    print(f"{issue.__name__}: {issue.__doc__}")
    for is_patched, outcomes in found.items():
      shown = str(outcomes[0])
      if all(isinstance(each, float) for each in outcomes):
        shown = f"{statistics.median(outcomes) * 1e3:.1f} ms"
      print(f"  {'patched' if is_patched else 'as it is'}: {shown}")


if __name__ == "__main__":
  main()
