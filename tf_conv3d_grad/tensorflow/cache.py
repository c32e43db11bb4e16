"""A bounded cache for what takes long to make."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Cache(Generic[_T]):
  """Forgets what was used longest ago. Several threads may use it."""

  def __init__(self, capacity: int) -> None:
    self._capacity = capacity
    self._values: collections.OrderedDict[Hashable, _T] = collections.OrderedDict()
    # A signal's handler or a finalizer may call an op at any point of this thread.
    self._lock = threading.RLock()

  def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
    """Returns the value for `key`, made on first use; all threads get the same one."""
    with self._lock:
      if key in self._values:
        self._values.move_to_end(key)
        return self._values[key]
    made = make()  # not under the lock: it takes long, and calls into TensorFlow
    with self._lock:
      value = self._values.setdefault(key, made)
      while len(self._values) > self._capacity:
        self._values.popitem(last=False)
    return value

  def __len__(self) -> int:
    return len(self._values)

  def values(self) -> list[_T]:
    """Returns what is there, from what was used longest ago to what was used last."""
    with self._lock:
      return list(self._values.values())

  def clear(self) -> None:
    """Forgets everything."""
    with self._lock:
      self._values.clear()
