"""Calls made in child processes, so that what ends its process is an outcome like others."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

# For one call, on a busy machine, and for importing TensorFlow there.
_PATIENCE_SECONDS = 120.0
_STARTING_SECONDS = 300.0

# A fork would share TensorFlow's threads and locks.
_processes = multiprocessing.get_context("spawn")


@dataclasses.dataclass(frozen=True)
class Ended:
  """What came of a call that ended its process, or had to be ended with it.

  Attributes:
    error: "abort", the signal or the exit status; None if there was no answer in time.
    message: What TensorFlow said of it, or how long it was waited for; may be None.
  """

  error: str | None
  message: str | None

  def __str__(self) -> str:
    return ": ".join(filter(None, [self.error, self.message]))


class Children:
  """Calls a function in a child process, and in another one after each that it ends."""

  def __init__(
    self,
    function: Callable[..., Any],
    patience: float = _PATIENCE_SECONDS,
    most: int | None = None,
  ) -> None:
    """Starts none yet.

    Args:
      function: What `pickle` can name, as it can its arguments and results.
      patience: How many seconds a call may take.
      most: How many calls a child makes at most.
    """
    self._function = function
    self._patience = patience
    self._most = most
    self._calls = 0
    self._child = contextlib.ExitStack()
    self._is_running = False

  def __enter__(self) -> Children:
    return self

  def __exit__(self, *error: object) -> None:
    self._end()

  def call(self, *arguments: Any) -> Any:
    """Returns what the function does, or `Ended`.

    Raises:
      RuntimeError: If a child ends before it is ready.
    """
    if self._calls == self._most:
      self._end()
    if not self._is_running:
      self._start()
    self._calls += 1
    return self._answer(arguments, self._patience)

  def _start(self) -> None:
    """Starts a child, with a file for what it writes to its standard error."""
    self._log = self._child.enter_context(tempfile.NamedTemporaryFile())
    self._pipe, of_child = _processes.Pipe()
    self._process = _processes.Process(
      target=_serve, args=(of_child, self._log.name), daemon=True
    )
    self._process.start()
    self._child.callback(self._process.join)
    self._child.callback(self._process.kill)
    self._child.callback(self._pipe.close)
    of_child.close()
    self._calls, self._is_running = 0, True
    is_ready = self._answer(self._function, _STARTING_SECONDS)
    if isinstance(is_ready, Ended):
      raise RuntimeError(f"the child process did not start: {is_ready}\n{self._said}")

  def _answer(self, message: Any, patience: float) -> Any:
    """Sends a message to the child and returns its answer, or `Ended`."""
    try:
      self._pipe.send(message)
      if self._pipe.poll(patience):
        return self._pipe.recv()
      ended = Ended(None, f"no answer within {patience:g} s")
    except (EOFError, ConnectionError):
      self._process.join()
      ended = Ended(_name_of(self._process.exitcode or 0), None)
    self._said = _tail(self._log.name)
    self._end()
    return ended if ended.error is None else Ended(ended.error, _reason(self._said))

  def _end(self) -> None:
    self._child.close()
    self._is_running = False


def _serve(pipe: Connection, log: str) -> None:
  """Is told a function, then its arguments call by call; a child does nothing else."""
  file = os.open(log, os.O_WRONLY | os.O_APPEND)
  os.dup2(file, 1)
  os.dup2(file, 2)
  # Here, where what its module's imports write is held back, the function is found.
  function = pipe.recv()
  pipe.send(True)
  with contextlib.suppress(EOFError):  # The parent is done.
    while True:
      pipe.send(function(*pipe.recv()))


def _name_of(status: int) -> str:
  """Returns what ended a process, in a word."""
  if status == -signal.SIGABRT:
    return "abort"
  try:
    return signal.Signals(-status).name
  except ValueError:
    return f"exit {status}"


def _reason(log: str) -> str | None:
  """Returns what TensorFlow said last before it ended the process, if it did."""
  _, found, reason = log.rpartition("Check failed:")
  return f"Check failed: {reason.splitlines()[0].strip()}" if found and reason.strip() else None


def _tail(path: str, length: int = 4000) -> str:
  with open(path, "rb") as log:
    return log.read()[-length:].decode(errors="replace")
