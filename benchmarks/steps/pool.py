"""The trainings' programs: one each, so that one which crashes or hangs takes no other with it."""

from __future__ import annotations

from typing import Any

from benchmarks.workers import Worker, WorkerError, Workers


class Pool:
  """Running programs by contestant, each started when first needed and again after it has ended.

  Attributes:
    about: Versions and settings, by worker.
  """

  def __init__(self, workers: Workers) -> None:
    """Sets where to start programs."""
    self._workers = workers
    self._running: dict[str, Worker] = {}
    self.about: dict[str, dict[str, Any]] = {}

  def get(self, contestant: str) -> Worker:
    """Returns the program of a contestant, worker/way.

    Raises:
      WorkerError: If it cannot be started.
    """
    if contestant not in self._running:
      name = contestant.split("/")[0]
      self._running[contestant] = self._workers.fresh(name)
      self.about[name] = self._running[contestant].about
    return self._running[contestant]

  def drop(self, contestant: str) -> None:
    """Forgets a program that has ended."""
    self._running.pop(contestant, None)

  def forget(self) -> None:
    """Has every program drop its model."""
    for contestant, worker in tuple(self._running.items()):
      try:
        worker.ask("forget")
      except WorkerError:
        self.drop(contestant)

  def close(self) -> None:
    """Ends the programs."""
    while self._running:
      self._running.popitem()[1].close()
