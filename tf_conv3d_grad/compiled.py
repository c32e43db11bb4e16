"""The `tf.function`s that XLA compiles, one a static problem and plan, in a bounded cache."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable

import tensorflow as tf

# Each holds a traced graph and one executable, some 100 kB to a few MB.
CAPACITY = 256


class FunctionCache:
  """A cache of functions that forgets the one used longest ago; safe from several threads."""

  def __init__(self, capacity: int) -> None:
    self._capacity = capacity
    self._functions: collections.OrderedDict[Hashable, Callable] = collections.OrderedDict()
    self._lock = threading.Lock()

  def get(self, key: Hashable, make: Callable[[], Callable]) -> Callable:
    """Returns the function for `key`, made on first use."""
    with self._lock:
      function = self._functions.get(key)
      if function is None:
        function = self._functions[key] = make()
        while len(self._functions) > self._capacity:
          self._functions.popitem(last=False)
      else:
        self._functions.move_to_end(key)
    return function

  def __len__(self) -> int:
    return len(self._functions)

  def clear(self) -> None:
    """Forgets every function."""
    with self._lock:
      self._functions.clear()


_cache = FunctionCache(CAPACITY)


def function(key: Hashable, compute: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """Returns `compute`, compiled by XLA; `key` says everything that it depends on."""
  return _cache.get(key, lambda: tf.function(compute, jit_compile=True, autograph=False))
