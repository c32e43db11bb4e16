"""What this process runs on."""

from __future__ import annotations

import functools
import os
import pathlib
import platform

# The values of oneDNN's `ONEDNN_MAX_CPU_ISA` under which it does not use AVX-512.
_NARROW_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
# And those under which it uses AVX-512 without instructions for bfloat16.
_ISAS_OF_FLOATS = ("AVX512_CORE", "AVX512_CORE_VNNI")


def cores() -> int:
  """Returns how many cores this process may use."""
  affinity = getattr(os, "sched_getaffinity", None)
  return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def onednn_has_avx512() -> bool:
  """Returns whether oneDNN computes with AVX-512: the processor has it, and nothing forbids it."""
  return _most() not in _NARROW_ISAS and "avx512f" in _cpuinfo("flags").split()


@functools.cache
def onednn_emulates_bfloat16() -> bool:
  """Returns whether oneDNN computes bfloat16 without AVX-512's instructions for it.

  It takes some 2.6 times as long as in float32 then. This is about processors with AVX-512:
  TensorFlow gives oneDNN bfloat16 on no others, but those with AVX-NE-CONVERT.
  """
  flags = _cpuinfo("flags").split()
  is_forbidden = _most() in _NARROW_ISAS + _ISAS_OF_FLOATS
  return "avx512f" in flags and (is_forbidden or "avx512_bf16" not in flags)


def name() -> str:
  """Returns the processor's name, where the system tells."""
  return _cpuinfo("model name") or platform.machine()


def _most() -> str:
  """Returns what oneDNN may use at most, an empty text for all that there is."""
  return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()


def _cpuinfo(key: str) -> str:
  """Returns what Linux says of the first core under a key, an empty text where it does not."""
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return ""
  values = (line.partition(":") for line in text.splitlines())
  return next((value.strip() for name, _, value in values if name.strip() == key), "")
