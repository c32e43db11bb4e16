"""The trainers' side of the conversation: a training is begun, and goes on when asked to.

Requests, with what is answered besides `{"failed": ...}`:

  {"do": "about"}                              versions
  {"do": "begin", "network": N, "dtype": T, "way": W}
                                               first_s, loss, parameters; builds the model and takes
                                               the first step, which traces and compiles
  {"do": "train", "steps": S}                  seconds and losses, one of each a step
  {"do": "forget"}                             {}; drops the model
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, Protocol

from benchmarks.steps.networks import NETWORKS, Network

# A training step: returns the loss before it.
Step = Callable[[], float]


class Trainer(Protocol):
  """What a trainer's program has to offer."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""

  def begin(self, network: Network, dtype: str, way: str) -> tuple[Step, int]:
    """Returns a step of a new model, always of the same weights, and how many parameters it has."""

  def forget(self) -> None:
    """Called when the model is not needed any more."""


class Session:
  """One request a method, for `protocol.answer`."""

  def __init__(self, trainer: Trainer) -> None:
    self._trainer = trainer
    self._step: Step | None = None

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return self._trainer.about()

  def begin(self, network: str, dtype: str, way: str) -> dict[str, Any]:
    """Builds a model and takes the first step."""
    step, parameters = self._trainer.begin(NETWORKS[network], dtype, way)
    first_s, loss = _timed(step)
    self._step = step
    return {"first_s": first_s, "loss": loss, "parameters": parameters}

  def train(self, steps: int) -> dict[str, Any]:
    """Takes steps."""
    seconds, losses = zip(*(_timed(self._step) for _ in range(steps)))
    return {"seconds": seconds, "losses": losses}

  def forget(self) -> dict[str, Any]:
    """Drops the model."""
    self._step = None
    self._trainer.forget()
    gc.collect()
    return {}


def _timed(step: Step) -> tuple[float, float]:
  start = time.perf_counter()
  loss = step()
  return time.perf_counter() - start, loss
