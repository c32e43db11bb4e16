"""One network, several trainings, in turns: every round each of them takes a few steps."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.steps.pool import Pool
from benchmarks.workers import WorkerError

# How many steps' losses are compared: enough for two updates, so gradients count as well. Rounding
# errors grow tenfold a step in ResNeXt and X3D: after five steps TensorFlow's own losses, compiled
# and not, are 2e-4 apart.
COMPARED = 3
# What the others are compared to where a training has no counterpart that ran.
REFERENCE = "as-it-is/last"
# A turn takes about this long. Its first step is not timed where steps are short: the others have
# just had the caches, and their threads may still be spinning.
_TURN_S = 0.3
_MOST_A_TURN = 8
_WARM_UP_BELOW_S = 0.2


@dataclasses.dataclass(frozen=True)
class Pace:
  """How long a race may take.

  Attributes:
    seconds: How long each training is timed.
    least: The fewest steps, unless
    long_s: is what the training has taken in all: then one step after the first is enough.
    most: The most steps.
    patience_s: When to give up on a turn.
  """

  seconds: float = 2
  least: int = 5
  long_s: float = 8
  most: int = 40
  patience_s: float = 90


QUICK = Pace(seconds=0.5, least=3, long_s=4, most=8, patience_s=40)


def race(
  network: str,
  dtype: str,
  contestants: Sequence[str],
  pool: Pool,
  pace: Pace,
  tick: Callable[[str], None] = lambda contestant: None,
) -> dict[str, dict[str, Any]]:
  """Returns what came of each training, as JSON can hold it.

  Args:
    network: A name in `NETWORKS`.
    dtype: A dtype policy of Keras.
    contestants: Names as worker/way.
    pool: Where they are trained.
    pace: How long it may take.
    tick: Told whose first step is next.

  Returns:
    By contestant: why it `failed` (an error, a crash, no answer in time); or `median_s`, the median
    seconds of a step but the first, `first_s`, the first's, `steps`, how many were timed, and
    `differs`: by how much its losses differ from those of TensorFlow as it is in the same way, or
    from `REFERENCE`'s where that failed, relative to the first loss.
  """
  runners = [_Runner(name, network, dtype, pool, pace) for name in contestants]
  for runner in runners:
    tick(runner.name)
    runner.begin()
  order = random.Random(0)
  while any(runner.wants_more for runner in runners):
    order.shuffle(runners)
    for runner in runners:
      if runner.wants_more:
        runner.take_turn()
  pool.forget()
  by_name = {runner.name: runner for runner in runners}
  return {name: by_name[name].outcome(_reference(name, by_name)) for name in contestants}


class _Runner:
  """One training in one race."""

  def __init__(self, name: str, network: str, dtype: str, pool: Pool, pace: Pace) -> None:
    self.name = name
    self.losses: list[float] = []
    self._network, self._dtype, self._pool, self._pace = network, dtype, pool, pace
    self._first_s = 0.0
    self._taken_s = 0.0
    self._seconds: list[float] = []
    self._failed: str | None = None

  @property
  def wants_more(self) -> bool:
    """Whether it is to have another turn."""
    if self._failed or len(self._seconds) >= self._pace.most:
      return False
    if not self._seconds:
      return True
    if self._taken_s >= self._pace.long_s:
      return False
    return len(self._seconds) < self._pace.least or sum(self._seconds) < self._pace.seconds

  def begin(self) -> None:
    """Builds the model and takes the first step."""
    way = self.name.split("/")[1]
    answer = self._ask("begin", network=self._network, dtype=self._dtype, way=way)
    if answer:
      self._first_s = self._taken_s = answer["first_s"]
      self.losses = [answer["loss"]]

  def take_turn(self) -> None:
    """Takes a few steps more."""
    expected_s = min(self._seconds, default=self._first_s)
    steps = min(max(round(_TURN_S / expected_s), 1), _MOST_A_TURN)
    warm_up = int(expected_s < _WARM_UP_BELOW_S)
    answer = self._ask("train", steps=steps + warm_up)
    if answer:
      self._taken_s += sum(answer["seconds"])
      self._seconds += answer["seconds"][warm_up:]
      self.losses += answer["losses"]

  def outcome(self, reference: _Runner | None) -> dict[str, Any]:
    """Returns what came of it, as JSON can hold it."""
    if self._failed:
      return {"failed": self._failed}
    found = {
      "median_s": statistics.median(self._seconds),
      "first_s": self._first_s,
      "steps": len(self._seconds),
    }
    if reference is not None and reference.losses:
      found["differs"] = difference(self.losses, reference.losses)
    return found

  def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
    """Returns the answer; a failure is remembered, and the answer then empty."""
    try:
      answer = self._pool.get(self.name).ask(do, self._pace.patience_s, **arguments)
    except WorkerError as error:
      self._pool.drop(self.name)
      answer = {"failed": str(error)}
    self._failed = self._failed or answer.pop("failed", None)
    return {} if self._failed else answer


def difference(losses: Sequence[float], reference: Sequence[float]) -> float:
  """Returns the largest difference of the first `COMPARED` losses over the first loss."""
  pairs = list(zip(losses, reference))[:COMPARED]
  largest = max(abs(ours - theirs) for ours, theirs in pairs)
  relative = largest / abs(reference[0])
  return relative if relative < float("inf") else 1e9  # JSON has neither infinity nor NaN.


def _reference(name: str, runners: dict[str, _Runner]) -> _Runner | None:
  """Returns whose losses a training's are compared to: PyTorch's weights are others."""
  worker, way = name.split("/")
  if worker == "torch-steps":
    return None
  for candidate in (f"as-it-is/{way}", REFERENCE):
    if candidate in runners and runners[candidate].losses and candidate != name:
      return runners[candidate]
  return None
