"""What this process runs on."""

from __future__ import annotations

import os
import pathlib
import platform


def cores() -> int:
  """Returns how many cores this process may use."""
  affinity = getattr(os, "sched_getaffinity", None)
  return len(affinity(0)) if affinity else os.cpu_count() or 1


def name() -> str:
  """Returns the processor's name, where the system tells."""
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return platform.machine()
  names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
  return names[0] if names else platform.machine()
