"""Whether calls are compiled by XLA: the thread's mode, and the process's default."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from tf_conv3d_grad.tensorflow import private

ENVIRONMENT_VARIABLE = "TF_CONV3D_GRAD_JIT_COMPILE"

_NAMES: dict[str, bool | str] = {
  "true": True,
  "1": True,
  "false": False,
  "0": False,
  "auto": "auto",
}
_local = threading.local()


def current() -> bool | str:
  """Returns True, False or "auto"."""
  mode = getattr(_local, "mode", None)
  return _default() if mode is None else mode


@contextlib.contextmanager
def jit_compile(mode: bool | str) -> Iterator[None]:
  """Sets, within a `with` block and for the current thread, whether calls are compiled by XLA.

  The results are the same. A function that is itself compiled with `jit_compile=True` is compiled
  as a whole whatever the mode. The process's default is the environment variable
  `TF_CONV3D_GRAD_JIT_COMPILE`: `true`, `false` or `auto`, the default's default.

  Args:
    mode: True for always, False for never, "auto" for whichever is expected to be faster.

  Raises:
    ValueError: If `mode` is none of these.
  """
  if not (isinstance(mode, bool) or mode == "auto"):
    raise ValueError(f"mode must be True, False or 'auto', got {mode!r}")
  before = getattr(_local, "mode", None)
  _local.mode = mode
  try:
    yield
  finally:
    _local.mode = before


def _default() -> bool | str:
  text = private.environment(ENVIRONMENT_VARIABLE, "auto")
  if text not in _NAMES:
    raise ValueError(f"{ENVIRONMENT_VARIABLE} must be true, false or auto, got {text!r}")
  return _NAMES[text]
