"""Calls made in child processes, so that one that ends its process is an outcome like others.

`python -m tf_conv3d_grad.cli.children` is the child. It reads the calls to make from its standard
input, as JSON, and writes one line of JSON when it is ready and one after each call.
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
from collections.abc import Iterator, Sequence
from typing import IO

from tf_conv3d_grad.cli.trial import DIED, TIMEOUT, Outcome, Trial, perform

# For one call, and for importing TensorFlow, on a busy machine.
_PATIENCE_SECONDS = 120.0
_CHILD = (sys.executable, "-m", "tf_conv3d_grad.cli.children")
_READY = '{"ready": true}'


def perform_all(
  trials: Sequence[Trial],
  program: Sequence[str] = _CHILD,
  patience: float = _PATIENCE_SECONDS,
) -> Iterator[tuple[Trial, Outcome]]:
  """Makes calls in a child process, and in another one after each call that it dies of.

  Args:
    trials: The calls.
    program: The command line of the child.
    patience: How many seconds a call may take.

  Yields:
    Each call with its outcome, in order.

  Raises:
    RuntimeError: If a child dies before it makes a call.
  """
  done = 0
  while done < len(trials):
    for outcome in _perform_in_one_child(trials[done:], program, patience):
      yield trials[done], outcome
      done += 1


def _perform_in_one_child(
  trials: Sequence[Trial], program: Sequence[str], patience: float
) -> Iterator[Outcome]:
  """Yields the outcomes of calls up to, and including, the first that the child dies of."""
  with tempfile.TemporaryFile() as log, _process(program, log) as child:
    lines = _lines_of(child, trials)
    is_ready = False
    remaining = len(trials)
    while remaining:
      try:
        line = lines.get(timeout=patience)
      except queue.Empty:
        child.kill()
        if not is_ready:
          raise RuntimeError(f"the child process was not ready within {patience:g} s") from None
        yield Outcome(TIMEOUT, message=f"no result within {patience:g} s")
        return
      if line is None:
        status = child.wait()
        if not is_ready:
          raise RuntimeError(f"the child process ended at once: {_tail(log)}")
        yield Outcome(DIED, error=_name_of(status), message=_reason(log))
        return
      if line.strip() == _READY:
        is_ready = True
      elif line.startswith('{"status"'):
        yield Outcome(**json.loads(line))
        remaining -= 1


@contextlib.contextmanager
def _process(program: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
  """Starts a child that finds this very package, and ends it."""
  path = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
  with subprocess.Popen(
    program,
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


def _lines_of(child: subprocess.Popen[str], trials: Sequence[Trial]) -> queue.Queue[str | None]:
  """Feeds the child its calls; returns a queue of the lines it writes, None at their end."""
  lines: queue.Queue[str | None] = queue.Queue()

  def transfer() -> None:
    assert child.stdin and child.stdout
    with contextlib.suppress(OSError):  # It may have died by now.
      json.dump([dataclasses.asdict(trial) for trial in trials], child.stdin)
      child.stdin.close()
    with contextlib.suppress(ValueError):  # The parent may have closed it.
      for line in child.stdout:
        lines.put(line)
    lines.put(None)

  threading.Thread(target=transfer, daemon=True).start()
  return lines


def _name_of(status: int) -> str:
  """Returns the signal that ended a process, or its exit status, as text."""
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


def _main() -> None:
  trials = [Trial(**fields) for fields in json.load(sys.stdin)]
  print(_READY, flush=True)
  for trial in trials:
    print(json.dumps(dataclasses.asdict(perform(trial))), flush=True)


if __name__ == "__main__":
  _main()
