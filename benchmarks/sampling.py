"""How the time of one call is sampled, in races of programs and of plans."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Before a sample, calls of so many seconds are not timed: the other contestants have just had the
# caches, their threads may still be spinning, and those of a pool that has slept share a core for
# some ten calls. A call as long as `_LONG_S` needs none.
WARM_UP_S = 0.015
_LONG_S = 0.05
# Below this a sample is the mean of several calls: clocks and scheduling have a grain.
SAMPLE_S = 0.01
_MOST_CALLS = 200


def calls_of(expected_s: float) -> int:
  """Returns how many calls a sample takes, where one is expected to take `expected_s` seconds."""
  return min(max(round(SAMPLE_S / expected_s), 1), _MOST_CALLS)


def sample(call: Callable[[], Any], calls: int, expected_s: float) -> float:
  """Returns the seconds of one call, the mean of `calls`, after a warm-up where calls are short."""
  if expected_s < _LONG_S:
    end = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < end:
      call()
  start = time.perf_counter()
  for _ in range(calls):
    call()
  return (time.perf_counter() - start) / calls
