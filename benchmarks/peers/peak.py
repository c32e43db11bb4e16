"""How much memory a call takes at its peak."""

from __future__ import annotations

import ctypes
import gc
import pathlib
import re
from collections.abc import Callable
from typing import Any

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def added_by(call: Callable[[], Any]) -> tuple[int, Any]:
  """Returns the bytes by which the process's resident memory grew at most, and the call's result.

  Raises:
    OSError: Where the system, not being Linux, does not tell.
  """
  gc.collect()
  # What earlier calls have freed goes back to the system, or it would hide what this one takes.
  ctypes.CDLL(None).malloc_trim(0)
  before = _kilobytes("VmRSS")
  _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
  result = call()
  return 1024 * (_kilobytes("VmHWM") - before), result


def _kilobytes(field: str) -> int:
  return int(re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)[1])
