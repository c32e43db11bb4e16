"""Whether XLA compiles calls: the mode of the thread, and the default of the process."""

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


def jit_compile(mode: bool | str) -> contextlib.AbstractContextManager[None]:
  """Sets whether XLA compiles calls, in a `with` block and for the current thread.

  Results are the same in every mode, within rounding. A function that is itself compiled with
  `jit_compile=True` is compiled as a whole in every mode. Outside of such blocks the mode is that
  of the environment variable `TF_CONV3D_GRAD_JIT_COMPILE`, which is `true`, `false` or `auto`, or
  "auto" if it is not set.

  Args:
    mode: True for always, False for never, "auto" for whichever is expected to be faster.

  Returns:
    A context manager, for the `with` statement.

  Raises:
    ValueError: `mode` is not one of these.

  Example:
    >>> volume = tf.ones([1, 8, 8, 8, 4])
    >>> filter = tf.ones([3, 3, 3, 4, 6])
    >>> with tf_conv3d_grad.jit_compile(True):
    ...   tf_conv3d_grad.Conv3D(volume, filter, [1] * 5, "SAME").shape
    TensorShape([1, 8, 8, 8, 6])
  """
  if not (isinstance(mode, bool) or mode == "auto"):
    raise ValueError(f"mode must be True, False or 'auto', got {mode!r}")
  return _in_mode(mode)


@contextlib.contextmanager
def _in_mode(mode: bool | str) -> Iterator[None]:
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
