"""Where and with what a run was made."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import platform
import time
from typing import Any

import numpy as np

from tf_conv3d_grad.tensorflow import processor

_COPY_BYTES = 256 << 20
# More than this, per core, and something else is running.
BUSY_LOAD = 0.25


def describe() -> dict[str, Any]:
  """Returns processor, memory, system and Python, and how busy the machine was."""
  return {
    "date": time.strftime("%Y-%m-%d"),
    "processor": processor_name(),
    "cores": processor.cores(),
    "memory_gb": _memory_gb(),
    "system": f"{platform.system()} {platform.release().split('-')[0]}",
    "python": platform.python_version(),
    "load": load(),
    "copy_gb_per_s": _copy_bandwidth() / 1e9,
  }


def load() -> float | None:
  """Returns the load of the last minute over the number of cores, where the system tells."""
  try:
    return os.getloadavg()[0] / processor.cores()
  except (AttributeError, OSError):
    return None


def processor_name() -> str:
  """Returns the processor's name and what of its instructions matters here."""
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return platform.processor() or platform.machine()
  fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
  fields = {key.strip(): value.strip() for key, value in fields.items()}
  flags = fields.get("flags", "").split()
  vectors = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")
             if flag in flags]  # fmt: skip
  name = fields.get("model name", platform.machine())
  return f"{name} ({', '.join(vectors)})" if vectors else name


def _memory_gb() -> float | None:
  try:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
  except (AttributeError, OSError, ValueError):
    return None


def _copy_bandwidth() -> float:
  """Returns bytes a second, read and written, of a copy by all cores."""
  source = np.random.default_rng(0).integers(1, 255, _COPY_BYTES, dtype=np.uint8)
  pieces = [np.array_split(array, processor.cores()) for array in (source, np.ones_like(source))]
  best = float("inf")
  with concurrent.futures.ThreadPoolExecutor(processor.cores()) as pool:
    for _ in range(5):
      start = time.perf_counter()
      list(pool.map(np.copyto, pieces[1], pieces[0]))
      best = min(best, time.perf_counter() - start)
  return 2 * _COPY_BYTES / best
