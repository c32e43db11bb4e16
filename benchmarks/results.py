"""The results of a run: one JSON file, written anew after every case."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

NAME = "results.json"
# What is kept of a contestant that ran, in this order.
_KEPT = ("median_s", "first_s", "error")
# How much is kept of why one failed.
_WHY = 120


class Results:
  """What has been measured so far.

  Attributes:
    about: The machine and the versions.
    cases: By case, by contestant: see `race.race`.
    studies: By study, what it returned.
  """

  def __init__(self, folder: pathlib.Path, about: dict[str, Any]) -> None:
    """Begins an empty one that is kept in `folder`."""
    self.folder = folder
    self.about = about
    self.cases: dict[str, dict[str, dict[str, Any]]] = {}
    self.studies: dict[str, Any] = {}

  @classmethod
  def load(cls, folder: pathlib.Path) -> Results:
    """Returns what `save` has written.

    Raises:
      FileNotFoundError: If there is nothing.
    """
    content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    results = cls(folder, content["about"])
    results.studies = content["studies"]
    results.cases = {
      case: {
        contestant: {"failed": kept} if isinstance(kept, str) else dict(zip(_KEPT, kept))
        for contestant, kept in zip(content["contestants"], row)
        if kept is not None
      }
      for case, row in content["cases"].items()
    }
    return results

  def save(self) -> None:
    """Writes the file; whoever reads it meanwhile sees the old one or the new one.

    Of each case it has a list, one item a contestant: a list of `_KEPT`, or why it failed.
    """
    contestants = tuple(dict.fromkeys(who for outcomes in self.cases.values() for who in outcomes))
    cases = {
      case: [_kept(outcomes.get(contestant)) for contestant in contestants]
      for case, outcomes in self.cases.items()
    }
    about = {"about": self.about, "studies": self.studies, "contestants": contestants}
    lines = [f"{json.dumps(key)}: {_dumped(value)}" for key, value in about.items()]
    rows = [f"{json.dumps(case)}: {_dumped(row)}" for case, row in cases.items()]
    lines.append('"cases": {\n' + ",\n".join(rows) + "\n}")
    self.folder.mkdir(parents=True, exist_ok=True)
    partial = self.folder / f"{NAME}.part"
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(partial, self.folder / NAME)


def _kept(outcome: dict[str, Any] | None) -> Any:
  if outcome is None:
    return None
  return outcome["failed"][:_WHY] if "failed" in outcome else [outcome[key] for key in _KEPT]


def _dumped(value: Any) -> str:
  return json.dumps(rounded(value), separators=(",", ":"))


def rounded(value: Any) -> Any:
  """Returns the same with four significant digits a number: the rest is noise."""
  if isinstance(value, dict):
    return {key: rounded(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [rounded(item) for item in value]
  return float(f"{value:.4g}") if isinstance(value, float) else value
