"""The results of a run: one JSON file, written anew after every case."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

NAME = "results.json"


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
    results.cases, results.studies = content["cases"], content["studies"]
    return results

  def save(self) -> None:
    """Writes the file; whoever reads it meanwhile sees the old one or the new one."""
    self.folder.mkdir(parents=True, exist_ok=True)
    content = {"about": self.about, "cases": self.cases, "studies": self.studies}
    partial = self.folder / f"{NAME}.part"
    partial.write_text(json.dumps(_rounded(content), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, self.folder / NAME)


def _rounded(value: Any) -> Any:
  """Returns the same with four significant digits a number: the rest is noise."""
  if isinstance(value, dict):
    return {key: _rounded(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_rounded(item) for item in value]
  return float(f"{value:.4g}") if isinstance(value, float) else value
