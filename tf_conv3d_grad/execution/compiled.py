"""`tf.function`s that XLA compiles, one for each static problem and plan, in a bounded cache."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.cache import Cache

# Each holds a traced graph and one executable, some 100 kB to a few MB.
CAPACITY = 256

# What TensorFlow raises where XLA cannot compile a function. Running out of memory and a cancelled
# call are not among them: they say nothing about the compilation.
_COMPILATION_ERRORS = (
  tf.errors.InvalidArgumentError,
  tf.errors.UnimplementedError,
  tf.errors.InternalError,
  tf.errors.UnknownError,
  tf.errors.NotFoundError,
  tf.errors.FailedPreconditionError,
)


_cache: Cache[Compiled] = Cache(CAPACITY)


def function(
  key: Hashable, compute: Callable[..., tf.Tensor], uncompiled: Callable[..., tf.Tensor]
) -> Callable[..., tf.Tensor]:
  """Returns `compute`, compiled by XLA.

  Args:
    key: Everything that `compute` depends on, the shapes and dtypes of its tensors included.
    compute: Takes tensors, returns a tensor.
    uncompiled: Computes the same; what runs instead, with one warning, if XLA cannot compile
      `compute`.
  """
  return _cache.get(key, lambda: Compiled(key, compute, uncompiled))


def kept() -> list[Compiled]:
  """Returns the functions that are kept, the one used longest ago first."""
  return _cache.values()


def forget() -> None:
  """Forgets all functions. They are compiled anew, also those that XLA could not compile."""
  _cache.clear()


# Where a graph keeps its functions, and held while one is looked up.
_ATTRIBUTE = "_tf_conv3d_grad_functions"
_of_graphs = threading.RLock()


class OfEachGraph:
  """A `tf.function` with a copy for each graph that calls it, and one for eager code.

  TensorFlow knows functions by name, in one list for the process. Freezing a model
  (`convert_variables_to_constants_v2`) replaces or removes the functions that the model calls.
  Another model must not depend on the same ones.
  """

  def __init__(self, make: Callable[[], Any]) -> None:
    self._make = make
    self._made: weakref.WeakSet = weakref.WeakSet()
    self._eager: Any = None

  def get(self) -> Any:
    """Returns the function for calls made here."""
    graph = private.outermost_graph()
    with _of_graphs:
      if graph is None:
        self._eager = self._eager or self._new()
        return self._eager
      # A function holds the graph in which it was traced. So the graph has to hold the function:
      # kept here, by the graph, both would stay for ever.
      functions = getattr(graph, _ATTRIBUTE, None)
      if functions is None:
        functions = {}
        setattr(graph, _ATTRIBUTE, functions)
      if self not in functions:
        functions[self] = self._new()
      return functions[self]

  def all(self) -> list[Any]:
    """Returns those that there are."""
    with _of_graphs:
      return [*self._made]

  def _new(self) -> Any:
    made = self._make()
    self._made.add(made)
    return made


class Compiled:
  """A function that XLA compiles. If XLA cannot, another runs in its place from then on.

  In a graph that is decided while tracing, by what eager calls have shown before. XLA compiles when
  the graph runs, and then its error is raised.
  """

  def __init__(
    self,
    key: Hashable,
    compute: Callable[..., tf.Tensor],
    uncompiled: Callable[..., tf.Tensor],
  ) -> None:
    self._key = key
    self._compiled = OfEachGraph(lambda: tf.function(compute, jit_compile=True, autograph=False))
    self._uncompiled = uncompiled
    self._eager: Callable[..., tf.Tensor] | None = None
    self.has_failed = False
    self._lock = threading.Lock()

  @property
  def traces(self) -> int:
    """How often the function was traced, and so compiled."""
    return sum(each.experimental_get_tracing_count() for each in self._compiled.all())

  def __call__(self, *operands: tf.Tensor) -> tf.Tensor:
    """Returns the function of `operands`."""
    if self.has_failed:
      return self._uncompiled(*operands)
    if not tf.executing_eagerly():
      return self._compiled.get()(*of_this_graph(*operands))
    try:
      if self._eager is None:
        self._eager = private.of_one_trace(self._compiled.get(), *operands)
      return self._eager(*operands)
    except _COMPILATION_ERRORS as error:
      # The operands are what the problem says, so it is not for them that this failed. If they are
      # at fault after all, this raises.
      result = self._uncompiled(*operands)
      self._warn(error)
      return result

  def _warn(self, error: Exception) -> None:
    with self._lock:
      if self.has_failed:
        return
      self.has_failed = True
    warnings.warn(
      f"tf_conv3d_grad: XLA cannot compile this call, which runs uncompiled from now on: "
      f"{self._key}: {type(error).__name__}: {_one_line(error)}",
      RuntimeWarning,
      stacklevel=2,
    )


def of_this_graph(*tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
  """Returns tensors of the current graph's own, to call a compiled function with.

  TensorFlow makes that call a part of what XLA compiles. In the gradient of a `tf.cond` it would
  look for a tensor of the branch as inside of XLA, and not find it outside.
  """
  return tensors if tf.executing_eagerly() else tuple(map(tf.identity, tensors))


def _one_line(error: Exception) -> str:
  text = " ".join(str(error).split())
  return text if len(text) <= 500 else f"{text[:497]}..."
