"""Work done in child processes, so that what ends its process is an outcome like others.

A child reads requests from its standard input, as JSON, and writes a line of JSON when it is ready
and one after each request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

# For one request, and for importing TensorFlow, on a busy machine.
_PATIENCE_SECONDS = 120.0
_READY = "ready"
_ANSWER = "answer"


@dataclasses.dataclass(frozen=True)
class Ended:
  """What came of a request that ended its process, or had to be ended with it.

  Attributes:
    error: "abort", the signal or the exit status; None if there was no answer in time.
    message: What TensorFlow said of it, or how long it was waited for; may be None.
  """

  error: str | None
  message: str | None

  def __str__(self) -> str:
    return ": ".join(filter(None, [self.error, self.message]))


def serve(handle: Callable[[Any], Any]) -> None:
  """Answers the parent's requests; a child does nothing else."""
  requests = json.load(sys.stdin)
  print(json.dumps({_READY: True}), flush=True)
  for request in requests:
    print(json.dumps({_ANSWER: handle(request)}), flush=True)


def ask(
  requests: Sequence[Any],
  program: Sequence[str],
  patience: float = _PATIENCE_SECONDS,
  most: int | None = None,
) -> Iterator[Any]:
  """Has requests answered by a child process, and by another one after each that it dies of.

  Args:
    requests: What `json` can write.
    program: The arguments of the Python interpreter that make a child, which calls `serve`.
    patience: How many seconds an answer may take.
    most: How many requests a child may get.

  Yields:
    The answer to each request, in order; `Ended` where there is none.

  Raises:
    RuntimeError: If a child dies before it is ready.
  """
  done = 0
  while done < len(requests):
    for answer in _ask_one(requests[done : most and done + most], program, patience):
      yield answer
      done += 1


def _ask_one(requests: Sequence[Any], program: Sequence[str], patience: float) -> Iterator[Any]:
  """Yields the answers of one child up to, and including, the first that it dies of."""
  with tempfile.TemporaryFile() as log, _process(program, log) as child:
    lines = _lines_of(child, requests)
    is_ready = False
    remaining = len(requests)
    while remaining:
      try:
        line = lines.get(timeout=patience)
      except queue.Empty:
        if not is_ready:
          raise RuntimeError(f"the child process was not ready within {patience:g} s") from None
        yield Ended(None, f"no answer within {patience:g} s")
        return
      if line is None:
        status = child.wait()
        if not is_ready:
          raise RuntimeError(f"the child process ended at once: {_tail(log)}")
        yield Ended(_name_of(status), _reason(log))
        return
      # Native code may write there too.
      content = json.loads(line) if line.startswith(('{"ready"', '{"answer"')) else {}
      is_ready = is_ready or _READY in content
      if _ANSWER in content:
        yield content[_ANSWER]
        remaining -= 1


@contextlib.contextmanager
def _process(program: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
  """Starts a child that finds this very package, and ends it."""
  path = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
  with subprocess.Popen(
    [sys.executable, *program],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=log,
    env=environment,
    text=True,
    encoding="utf-8",
  ) as child:
    try:
      yield child
    finally:
      child.kill()


def _lines_of(child: subprocess.Popen[str], requests: Sequence[Any]) -> queue.Queue[str | None]:
  """Feeds the child its requests; returns a queue of the lines it writes, None at their end."""
  lines: queue.Queue[str | None] = queue.Queue()

  def transfer() -> None:
    assert child.stdin and child.stdout
    with contextlib.suppress(OSError):  # It may have died by now.
      json.dump(requests, child.stdin)
      child.stdin.close()
    with contextlib.suppress(ValueError):  # The parent may have closed it.
      for line in child.stdout:
        lines.put(line)
    lines.put(None)

  threading.Thread(target=transfer, daemon=True).start()
  return lines


def _name_of(status: int) -> str:
  """Returns what ended a process, in a word."""
  if status == -signal.SIGABRT:
    return "abort"
  try:
    return signal.Signals(-status).name
  except ValueError:
    return f"exit {status}"


def _reason(log: IO[bytes]) -> str | None:
  """Returns what TensorFlow said last before it ended the process, if it did."""
  _, found, reason = _tail(log).rpartition("Check failed:")
  return f"Check failed: {reason.splitlines()[0].strip()}" if found and reason.strip() else None


def _tail(log: IO[bytes], length: int = 4000) -> str:
  log.seek(0)
  return log.read()[-length:].decode(errors="replace")
