"""The results of a run: one JSON file, written anew after every race."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from benchmarks.results import rounded

NAME = "steps.json"
# How much is kept of why a training failed.
_WHY = 160


class Results:
  """What has been measured so far.

  Attributes:
    about: The machine and the versions.
    races: By network and dtype, as `unet3d float32`, what `race.race` returned.
  """

  def __init__(self, folder: pathlib.Path, about: dict[str, Any]) -> None:
    """Begins an empty one that is kept in `folder`."""
    self.folder = folder
    self.about = about
    self.races: dict[str, dict[str, dict[str, Any]]] = {}

  @classmethod
  def load(cls, folder: pathlib.Path) -> Results | None:
    """Returns what `save` has written, or None if there is nothing."""
    path = folder / NAME
    if not path.exists():
      return None
    content = json.loads(path.read_text(encoding="utf-8"))
    results = cls(folder, content["about"])
    results.races = content["races"]
    return results

  def save(self) -> None:
    """Writes the file; whoever reads it meanwhile sees the old one or the new one."""
    lines = []
    for name, outcomes in self.races.items():
      kept = (f"{json.dumps(who)}: {_dumped(outcome)}" for who, outcome in outcomes.items())
      lines.append(f"{json.dumps(name)}: {{\n" + ",\n".join(kept) + "\n}")
    text = f'{{\n"about": {_dumped(self.about)},\n"races": {{\n' + ",\n".join(lines) + "\n}\n}\n"
    self.folder.mkdir(parents=True, exist_ok=True)
    partial = self.folder / f"{NAME}.part"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, self.folder / NAME)


def _dumped(value: dict[str, Any]) -> str:
  if "failed" in value:
    value = {"failed": value["failed"][:_WHY]}
  return json.dumps(rounded(value), ensure_ascii=False)
