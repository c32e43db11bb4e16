"""The contestants' side of the conversation: a JSON object a line in, one out.

Requests, with what is answered besides `{"failed": ...}`:

  {"do": "about"}                                    versions
  {"do": "load", "folder": F, "problem": P}          {}; F has P's operands, a file each: filter.npy
  {"do": "prepare", "contestant": C}                 first_s, and error against F's expected.npy
  {"do": "sample", "contestant": C, "calls": N, "expected_s": S}
                                                     seconds of one call, the mean of N; S is what
                                                     one should take
  {"do": "peak", "contestant": C}                    bytes added at the peak of a call, and error
  {"do": "forget"}                                   {}; drops tensors and functions

Standard output belongs to the conversation; what libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks import sampling
from benchmarks.peers import peak

# Messages show files of this checkout, wherever that is.
_ROOT = f"{pathlib.Path(__file__).resolve().parents[2]}{os.sep}"


class Peer(Protocol):
  """What a contestant's program has to offer."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""

  def prepare(
    self, contestant: str, problem: dict[str, Any], operands: dict[str, np.ndarray]
  ) -> Callable[[], Any]:
    """Returns a call without arguments that returns once its result is there.

    Args:
      contestant: Who is to compute it.
      problem: What `benchmarks.problem.describe` returns.
      operands: The tensors by name, in the order of the op's arguments; float32 or float64.
    """

  def to_numpy(self, result: Any, problem: dict[str, Any]) -> np.ndarray:
    """Returns a call's result in the problem's data format, as NumPy float32 or float64."""


def serve(peer: Peer) -> None:
  """Answers requests until there are no more."""
  answer(_Session(peer))


def answer(session: Any) -> None:
  """Answers requests by calling the method of the session that each names."""
  with os.fdopen(os.dup(1), "w") as answers:
    os.dup2(2, 1)
    for line in sys.stdin:
      request = json.loads(line)
      try:
        reply = getattr(session, request.pop("do"))(**request)
      except Exception as error:  # Refusals are results here; the driver decides what they mean.
        text = " ".join(str(error).replace(_ROOT, "").split())
        reply = {"failed": f"{type(error).__name__}: {text[:300]}"}
      print(json.dumps(reply), file=answers, flush=True)


class _Session:
  """One request a method."""

  def __init__(self, peer: Peer) -> None:
    self._peer = peer
    self.forget()

  def about(self) -> dict[str, Any]:
    return self._peer.about()

  def load(self, folder: str, problem: dict[str, Any]) -> dict[str, Any]:
    self.forget()
    self._folder, self._problem = pathlib.Path(folder), problem
    self._operands = {name: np.load(self._folder / f"{name}.npy") for name in problem["operands"]}
    return {}

  def prepare(self, contestant: str) -> dict[str, Any]:
    call = self._peer.prepare(contestant, self._problem, self._operands)
    start = time.perf_counter()
    result = call()
    first_s = time.perf_counter() - start
    self._calls[contestant] = call
    return {"first_s": first_s, **self._compared(result)}

  def sample(self, contestant: str, calls: int, expected_s: float) -> dict[str, Any]:
    return {"seconds": sampling.sample(self._calls[contestant], calls, expected_s)}

  def peak(self, contestant: str) -> dict[str, Any]:
    call = self._peer.prepare(contestant, self._problem, self._operands)
    self._operands = {}
    added, result = peak.added_by(call)
    return {"added": added, **self._compared(result)}

  def forget(self) -> dict[str, Any]:
    self._calls: dict[str, Callable[[], Any]] = {}
    self._operands: dict[str, np.ndarray] = {}
    return {}

  def _compared(self, result: Any) -> dict[str, float]:
    expected = self._folder / "expected.npy"
    if not expected.exists():
      return {}
    return {"error": relative_error(self._peer.to_numpy(result, self._problem), np.load(expected))}


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
  """Returns the relative error in the 2-norm; JSON has no infinity, so a wrong shape is 1e9."""
  if result.shape != expected.shape:
    return 1e9
  error = np.linalg.norm(result.astype(np.float64).ravel() - expected.ravel())
  error = float(error / np.linalg.norm(expected.ravel()))
  return error if np.isfinite(error) else 1e9
