"""The file that keeps what `autotune` has found, in the user's cache directory.

The file is JSON and holds only fields of plans. They select among plans that the policy proposes
anyway; nothing in the file is executed or loaded as code. A file is ignored, with one warning, if
it is damaged, belongs to somebody else, or was made by another machine or version. A file in an
earlier format is ignored without a warning.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import stat
import sys
import tempfile
import warnings
from typing import Any

import tensorflow as tf

from tf_conv3d_grad._version import __version__
from tf_conv3d_grad.tensorflow import private, processor

# By key, the fields of the plan that has won.
Winners = dict[str, dict[str, Any]]

_FORMAT = "tf_conv3d_grad autotuning 2"
_EARLIER_FORMATS = ("tf_conv3d_grad autotuning 1",)  # with the plans' display text
# Beyond these the oldest are forgotten; each takes some 200 bytes.
_MOST = 10_000
_MOST_BYTES = 64 << 20


def path() -> pathlib.Path:
  """Returns where the file of this machine and these versions is."""
  digest = hashlib.sha256(json.dumps(_made_by(), sort_keys=True).encode()).hexdigest()[:16]
  return _cache_directory() / "tf_conv3d_grad" / f"autotune-{digest}.json"


def read() -> Winners:
  """Returns fields of plans by key; none if there is no file, or none that can be used."""
  file = path()
  try:
    with open(file, "rb", opener=_without_waiting) as stream:
      problem = _distrusted(os.fstat(stream.fileno()))
      content = b"" if problem else stream.read()
  except FileNotFoundError:
    return {}
  except OSError as error:
    problem, content = f"cannot be read: {error}", b""
  if problem is None:
    winners = _parsed(content)
    if isinstance(winners, dict):
      return winners
    problem = winners
  _warn(f"{file} is ignored: it {problem}")
  return {}


def write(winners: Winners) -> None:
  """Replaces the file in one step, readable by its owner only; warns once where that fails."""
  file = path()
  kept = dict(list(winners.items())[-_MOST:])
  text = json.dumps({"format": _FORMAT, "made_by": _made_by(), "winners": kept}, indent=0)
  try:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp gives its file to the owner only.
    descriptor, name = tempfile.mkstemp(prefix=file.name, suffix=".tmp", dir=file.parent)
    try:
      with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
      os.replace(name, file)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(name)
      raise
  except OSError as error:
    _warn(f"{file} cannot be written: {error}")


def _without_waiting(file: str, flags: int) -> int:
  """Opens a file; a named pipe in its place would wait for somebody to write."""
  return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))


def _distrusted(status: os.stat_result) -> str | None:
  """Returns why a file is not to be believed, None if it is."""
  if not stat.S_ISREG(status.st_mode):
    return "is not a regular file"
  if hasattr(os, "getuid"):
    if status.st_uid != os.getuid():
      return "belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
      return "can be written by other users"
  if status.st_size > _MOST_BYTES:
    return "is too large"
  return None


def _parsed(content: bytes) -> Winners | str:
  """Returns what a file holds, or what is wrong with it."""
  try:
    value = json.loads(content.decode("utf-8"))
  except (ValueError, RecursionError):
    return "is damaged"
  if not isinstance(value, dict):
    return "is not a file of this package"
  if value.get("format") in _EARLIER_FORMATS:
    return {}
  if value.get("format") != _FORMAT:
    return "is not a file of this package"
  if value.get("made_by") != _made_by():
    return "was made by another machine or other versions"
  winners = value.get("winners")
  if not isinstance(winners, dict) or not all(isinstance(each, dict) for each in winners.values()):
    return "is damaged"
  return winners


@functools.cache
def _made_by() -> dict[str, str]:
  """Returns all that the timings depend on besides the call."""
  return {
    "tf_conv3d_grad": __version__,
    "tensorflow": tf.__version__,
    "processor": processor.name(),
    "cores": str(processor.cores()),
    "threads": str(tf.config.threading.get_intra_op_parallelism_threads()),
    "oneDNN": str(private.onednn_enabled()),
    "instruction set": private.environment("ONEDNN_MAX_CPU_ISA", "all"),
  }


def _cache_directory() -> pathlib.Path:
  home = pathlib.Path(os.path.expanduser("~"))
  if sys.platform == "win32":
    return pathlib.Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
  if sys.platform == "darwin":
    return home / "Library" / "Caches"
  # The XDG base directory specification ignores paths that are not absolute.
  directory = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
  return directory if directory.is_absolute() else home / ".cache"


@functools.cache
def _warn(problem: str) -> None:
  """Warns once of each problem."""
  warnings.warn(f"tf_conv3d_grad: autotuning file {problem}", RuntimeWarning, stacklevel=4)
