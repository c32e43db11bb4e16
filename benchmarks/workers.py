"""The driver's side of the conversation with the contestants' programs."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent

_START_PATIENCE_S = 180
_LOG_TAIL = 400

# Program, environment of its own (None for this one), and environment variables.
_PROGRAMS: dict[str, tuple[str, str | None, dict[str, str]]] = {
  "tf": ("peers.tensorflow_peer", None, {}),
  "eigen": ("peers.tensorflow_peer", None, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
  "torch": ("peers.torch_peer", ".venv-torch", {}),
  "jax": ("peers.jax_peer", ".venv-jax", {"JAX_PLATFORMS": "cpu"}),
  # Of the benchmark of training steps.
  "as-it-is": ("steps.keras_trainer", None, {}),
  "patched": ("steps.keras_trainer --patched", None, {}),
  "torch-steps": ("steps.torch_trainer", ".venv-torch", {}),
}
# Settings of the caller's that would change what is measured.
_FOREIGN = ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "XLA_FLAGS", "OMP_NUM_THREADS")

NAMES = tuple(_PROGRAMS)


class WorkerError(Exception):
  """The program crashed, or did not answer in time; it has been ended."""


class Worker:
  """One running program."""

  def __init__(self, name: str, python: str, settings: dict[str, str]) -> None:
    program, _, own = _PROGRAMS[name]
    self.name = name
    self.folder: pathlib.Path | None = None  # of the case whose tensors it holds
    self._log = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
      [python, "-m", *f"benchmarks.{program}".split()],
      cwd=ROOT,
      env=_environment({**own, **settings}),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._log,
      text=True,
    )
    self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=self._listen, daemon=True).start()
    self.about = self.ask("about", patience_s=_START_PATIENCE_S)

  @property
  def pid(self) -> int:
    """The process id."""
    return self._process.pid

  def ask(self, do: str, patience_s: float = 60, **arguments: Any) -> dict[str, Any]:
    """Returns the answer to a request.

    Raises:
      WorkerError: If none came within `patience_s` seconds.
    """
    try:
      print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
      answer = self._answers.get(timeout=patience_s)
    except queue.Empty:
      self.close(kill=True)
      raise WorkerError(f"no answer within {patience_s:.0f} s") from None
    except OSError:
      answer = ""
    if not answer:
      self.close(kill=True)
      raise WorkerError(f"ended with status {self._process.returncode}: {self._tail()}")
    return json.loads(answer)

  def close(self, kill: bool = False) -> None:
    """Ends the program."""
    if kill:
      self._process.kill()
    elif self._process.poll() is None:
      self._process.stdin.close()
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def _listen(self) -> None:
    for line in self._process.stdout:
      self._answers.put(line)
    self._answers.put("")

  def _tail(self) -> str:
    self._log.seek(0)
    return " ".join(self._log.read().decode(errors="replace").split())[-_LOG_TAIL:]


class Workers:
  """Programs by name, each started when first needed and again after it has ended."""

  def __init__(
    self, pythons: dict[str, str] | None = None, settings: dict[str, str] | None = None
  ) -> None:
    """Sets where the programs' interpreters are.

    Args:
      pythons: Interpreters by worker, instead of those of `make bench-peers`.
      settings: Environment variables of all programs.
    """
    self._settings = settings or {}
    self._pythons = {name: find_python(name, pythons or {}) for name in NAMES}
    self._running: dict[str, Worker] = {}
    self.about: dict[str, dict[str, Any]] = {}
    self.absent: dict[str, str] = {}

  def get(self, name: str) -> Worker | None:
    """Returns the running worker, or None if it cannot be had: `absent` says why."""
    if name in self.absent:
      return None
    if name not in self._running:
      try:
        self._running[name] = self.fresh(name)
      except (WorkerError, OSError) as error:
        self.absent[name] = str(error)
        return None
      self.about[name] = self._running[name].about
    return self._running[name]

  def can_have(self, name: str) -> bool:
    """Returns whether the worker's interpreter is there."""
    return self._pythons[name] is not None

  def fresh(self, name: str) -> Worker:
    """Returns a new worker of the caller's own.

    Raises:
      WorkerError: If it cannot be started.
    """
    python = self._pythons[name]
    if python is None:
      raise WorkerError(f"no {_PROGRAMS[name][1]}, which make bench-peers creates")
    return Worker(name, python, self._settings)

  def drop(self, name: str) -> None:
    """Forgets a worker that has ended; the next `get` starts another."""
    self._running.pop(name, None)

  def forget_tensors(self) -> None:
    """Has every running program drop what it holds of the last case."""
    for name, worker in tuple(self._running.items()):
      worker.folder = None
      try:
        worker.ask("forget")
      except WorkerError:
        self.drop(name)

  def close(self) -> None:
    """Ends the running programs."""
    while self._running:
      self._running.popitem()[1].close()


def find_python(name: str, pythons: dict[str, str]) -> str | None:
  """Returns the interpreter that runs a worker, or None if its environment is not there."""
  folder = _PROGRAMS[name][1]
  if name in pythons:
    return pythons[name]
  if folder is None:
    return sys.executable
  for python in (ROOT / folder / "bin" / "python", ROOT / folder / "Scripts" / "python.exe"):
    if python.exists():
      return str(python)
  return None


def _environment(settings: dict[str, str]) -> dict[str, str]:
  environment = {
    key: value
    for key, value in os.environ.items()
    if key not in _FOREIGN and not key.startswith("TF_CONV3D_GRAD_")
  }
  return {"TF_CPP_MIN_LOG_LEVEL": "2", **environment, **settings}
