"""The ops and TensorFlow's raw ops; with oneDNN or without, as `TF_ENABLE_ONEDNN_OPTS` says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from benchmarks.peers import protocol

_OPS = {"op": tf_conv3d_grad, "raw": tf.raw_ops}
_WAYS = {
  "eager": lambda function: function,
  "graph": lambda function: tf.function(function, autograph=False),
  "compiled": lambda function: tf.function(function, autograph=False, jit_compile=True),
}
_MATMUL_SIZE = 2048


class TensorFlowPeer:
  """Contestants `op.eager`, `op.graph`, `op.compiled`, the same of `raw`, and `matmul`."""

  def __init__(self) -> None:
    self._matmul: Callable[[], Any] | None = None

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return {
      "tensorflow": tf.__version__,
      "tf_conv3d_grad": tf_conv3d_grad.__version__,
      "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }

  def prepare(
    self, contestant: str, problem: dict[str, Any], operands: dict[str, np.ndarray]
  ) -> Callable[[], Any]:
    """Returns a call; eager operations and functions on a CPU return when they are done."""
    if contestant == "matmul":
      self._matmul = self._matmul or _fastest_matmul()
      return self._matmul
    name, way = contestant.split(".")
    op, arguments = getattr(_OPS[name], problem["op"]), problem["arguments"]
    tensors = [tf.constant(operand, problem["dtype"]) for operand in operands.values()]
    first, second = operands

    # The tensors are passed in, not captured, lest XLA fold the convolution away at compile time.
    def call(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
      return op(**{first: a, second: b}, **arguments)

    function = _WAYS[way](call)
    return lambda: function(*tensors)

  def to_numpy(self, result: tf.Tensor, problem: dict[str, Any]) -> np.ndarray:
    """Returns the result as float32 or float64."""
    return tf.cast(result, tf.float64 if result.dtype == tf.float64 else tf.float32).numpy()


def _fastest_matmul() -> Callable[[], Any]:
  """Returns a matrix product, eager or compiled, whichever is faster."""
  rng = np.random.default_rng(0)
  a, b = (tf.constant(rng.uniform(0.25, 1.75, [_MATMUL_SIZE] * 2), tf.float32) for _ in range(2))
  compiled = tf.function(tf.matmul, jit_compile=True, autograph=False)
  calls = [lambda: tf.matmul(a, b), lambda: compiled(a, b)]
  return min(calls, key=_best_time)


def _best_time(call: Callable[[], Any]) -> float:
  times = []
  for _ in range(4):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return min(times)


if __name__ == "__main__":
  protocol.serve(TensorFlowPeer())
