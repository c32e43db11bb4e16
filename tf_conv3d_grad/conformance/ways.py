"""The ways of calling an op: eagerly, and in graphs that know all, some or none of the sizes.

A way takes one of the three ops and the keyword arguments of a call, and returns a function without
arguments that makes the call and returns NumPy arrays in the place of tensors. It traces once for
all its calls; where not even ranks are known, once for all calls with the same attributes and
dtypes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from tf_conv3d_grad.conformance import direction
from tf_conv3d_grad.conformance.direction import Direction
from tf_conv3d_grad.tensorflow.cache import Cache

Arguments = dict[str, Any]
Op = Callable[..., Any]
Way = Callable[[Op, Arguments], Callable[[], Any]]

# What of an op's arguments is passed into a trace.
_TENSORS: Callable[[Direction], Sequence[str]] = operator.attrgetter("tensors")
_OPERANDS: Callable[[Direction], Sequence[str]] = operator.attrgetter("operands")
_NOTHING: Callable[[Direction], Sequence[str]] = lambda _: ()  # noqa: E731

# Traces of calls of which nothing is known: thousands of calls share a few.
_of_unknown_ranks: Cache[Any] = Cache(64)


def call(way: str, op: Op, arguments: Arguments) -> Any:
  """Makes a call in the named way once."""
  return WAYS[way](op, arguments)()


def _eager(op: Op, arguments: Arguments) -> Callable[[], Any]:
  return lambda: _numpy(op(**arguments))


def _in_mode(mode: bool) -> Way:
  """Eagerly, with the package's compilation set to `mode`."""

  def way(op: Op, arguments: Arguments) -> Callable[[], Any]:
    def run() -> Any:
      with tf_conv3d_grad.jit_compile(mode):
        return _numpy(op(**arguments))

    return run

  return way


def _patched(op: Op, arguments: Arguments) -> Callable[[], Any]:
  """Eagerly, as TensorFlow's op with this package in its place, whatever `op` is."""
  del op
  name = direction.of_arguments(arguments).op

  def run() -> Any:
    with tf_conv3d_grad.patch_tensorflow():
      return _numpy(getattr(tf.raw_ops, name)(**arguments))

  return run


def _gradient(op: Op, arguments: Arguments) -> Callable[[], Any]:
  """Eagerly of variables, with both gradients taken; gives the op's result."""
  constants = dict(arguments)
  names = direction.of_arguments(arguments).operands
  sources = [tf.Variable(constants.pop(name)) for name in names]

  def run() -> Any:
    with tf.GradientTape() as tape:
      result = op(**dict(zip(names, sources)), **constants)
    for source, gradient in zip(sources, tape.gradient(result, sources)):
      if gradient.shape != source.shape or gradient.dtype != source.dtype:
        raise AssertionError(f"the gradient in {source.shape} has the shape {gradient.shape}")
    return _numpy(result)

  return run


def _traced(
  passed: Callable[[Direction], Sequence[str]],
  jit_compile: bool | None = None,
  shape: Callable[[str, tf.Tensor], Any] | None = None,
) -> Way:
  """In a `tf.function`.

  Args:
    passed: Returns the arguments of the op that are passed in as tensors; the others are constants
      of the trace.
    jit_compile: The function's own.
    shape: Returns what tracing knows of the shape of an argument passed in; all unless given.
  """

  def way(op: Op, arguments: Arguments) -> Callable[[], Any]:
    constants = dict(arguments)
    names = passed(direction.of_arguments(arguments))
    tensors = [tf.convert_to_tensor(constants.pop(name)) for name in names]
    signature = shape and [
      tf.TensorSpec(shape(name, tensor), tensor.dtype) for name, tensor in zip(names, tensors)
    ]

    def make() -> Any:
      return tf.function(
        lambda *tensors: op(**dict(zip(names, tensors)), **constants),
        autograph=False,
        jit_compile=jit_compile,
        input_signature=signature,
      )

    if signature and all(spec.shape.rank is None for spec in signature):
      key = op, jit_compile, tuple(signature), repr(sorted(constants.items()))
      traced = _of_unknown_ranks.get(key, make)
    else:
      traced = make()
    return lambda: _numpy(traced(*tensors))

  return way


def _unknown_sizes(name: str, tensor: tf.Tensor) -> Any:
  return tensor.shape if name.endswith("_sizes") else [None] * tensor.shape.rank


def _unknown_batch(name: str, tensor: tf.Tensor) -> Any:
  return tensor.shape if name == "filter" else [None, *tensor.shape[1:]]


def _compiled_unknown_batch(op: Op, arguments: Arguments) -> Callable[[], Any]:
  """Compiled with a relaxed signature: XLA knows the sizes, the op's tracing does not."""
  others = [int(size) for size in arguments.get("input_sizes", ())[1:]]

  def op_of_batch(**arguments: Any) -> Any:
    if "input_sizes" in arguments:
      batch = tf.shape(arguments["out_backprop"])[0]
      arguments["input_sizes"] = tf.stack([batch, *others])
    return op(**arguments)

  return _traced(_OPERANDS, True, _unknown_batch)(op_of_batch, arguments)


def _v1_graph(op: Op, arguments: Arguments) -> Callable[[], Any]:
  def run() -> Any:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      # Tensors made eagerly belong to no graph.
      constants = {
        name: tf.constant(value.numpy()) if isinstance(value, tf.Tensor) else value
        for name, value in arguments.items()
      }
      return session.run(op(**constants))

  return run


def _v1_unknown_ranks(op: Op, arguments: Arguments) -> Callable[[], Any]:
  constants = dict(arguments)
  names = direction.of_arguments(arguments).tensors
  tensors = [tf.convert_to_tensor(constants.pop(name)) for name in names]

  def build() -> tuple[tf.Graph, list[tf.Tensor], tf.Tensor]:
    with tf.Graph().as_default() as graph:
      placeholders = [tf.compat.v1.placeholder(tensor.dtype) for tensor in tensors]
      return graph, placeholders, op(**dict(zip(names, placeholders)), **constants)

  def run() -> Any:
    dtypes = tuple(tensor.dtype for tensor in tensors)
    key = op, "v1", dtypes, repr(sorted(constants.items()))
    graph, placeholders, result = _of_unknown_ranks.get(key, build)
    with tf.compat.v1.Session(graph=graph) as session:
      return session.run(result, dict(zip(placeholders, map(_numpy, tensors))))

  return run


def _numpy(results: Any) -> Any:
  return tf.nest.map_structure(
    lambda result: result if isinstance(result, np.ndarray) else result.numpy(), results
  )


WAYS: dict[str, Way] = {
  "eager": _eager,
  # The tensors are passed in, not captured, lest XLA fold the convolution away at compile time.
  "graph": _traced(_OPERANDS, jit_compile=False),
  "compiled": _traced(_OPERANDS, jit_compile=True),
  "unknown-sizes": _traced(_TENSORS, shape=_unknown_sizes),
  "unknown-ranks": _traced(_TENSORS, shape=lambda *_: None),
  "compiled-unknown-batch": _compiled_unknown_batch,
  "always": _in_mode(True),
  "never": _in_mode(False),
  "constants": _traced(_NOTHING),
  "compiled-constants": _traced(_NOTHING, jit_compile=True),
  "compiled-unknown-ranks": _traced(_TENSORS, jit_compile=True, shape=lambda *_: None),
  "v1-graph": _v1_graph,
  "v1-unknown-ranks": _v1_unknown_ranks,
  "patched": _patched,
  "gradient": _gradient,
}
