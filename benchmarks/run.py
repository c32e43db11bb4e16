"""The driver: races cases, makes the studies, keeps the results and says what came of it."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from benchmarks import (
  arguments,
  cases,
  first_call,
  machine,
  memory,
  plots,
  race,
  report,
  results,
  rows,
  scaling,
  summary,
  tables,
  terminal,
)
from benchmarks.workers import WorkerError, Workers
from tf_conv3d_grad.conformance.case import Case


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark; returns the exit status, 0 unless the op failed somewhere."""
  options = arguments.parse(argv)
  console = terminal.console()
  if options.list:
    for name in arguments.chosen_cases(options):
      console.print(f"{name}  [dim]{', '.join(cases.themes(name))}[/]", highlight=False)
    return 0
  if options.report:
    _publish(results.Results.load(options.out), console)
    return 0
  started = time.monotonic()
  found = _start(options)
  busy = found.about["machine"]["load"] or 0
  if busy > machine.BUSY_LOAD:
    console.print(f"[yellow]The machine is busy (load {busy:.2f} a core): the figures will be off.")
  workers = Workers(dict(options.python))
  pace = race.QUICK if options.quick else race.Pace()
  found.about["hopeless_s"] = pace.hopeless_s
  try:
    _measure(options, pace, found, workers, console)
  finally:
    workers.close()
    found.about["minutes"] += (time.monotonic() - started) / 60
    found.save()
  _publish(found, console)
  return int(any(line.failed for line in summary.lines(found.cases)))


def _publish(found: results.Results, console: Console) -> None:
  """Shows the results on the terminal, draws them, and writes the report."""
  terminal.show(tables.overview(found), tables.remarks(found), console)
  plots.draw(found, found.folder / plots.FOLDER)
  report.write(found.folder)
  console.print(f"Written to {os.path.relpath(found.folder)}: {results.NAME}, RESULTS.md, plots/")


def _start(options: argparse.Namespace) -> results.Results:
  """Returns the results to add to: those of the last run with --resume, otherwise none."""
  if options.resume:
    try:
      return results.Results.load(options.out)
    except FileNotFoundError:
      pass
  return results.Results(options.out, {"machine": machine.describe(), "workers": {}, "minutes": 0})


def _measure(
  options: argparse.Namespace,
  pace: race.Pace,
  found: results.Results,
  workers: Workers,
  console: Console,
) -> None:
  """Fills in what has not been measured yet, and saves after every step."""
  races = _races(options, found, workers)
  studies = {
    name: study
    for name, study in _studies(options, pace, workers).items()
    if name in options.studies and name not in found.studies
  }
  total = len(races) + sum(steps for steps, _ in studies.values())
  with terminal.progress_bar(console) as bar:
    task = bar.add_task("", total=total)
    done = itertools.count()

    def tick(what: str) -> None:
      bar.update(task, description=what, completed=next(done))

    for name, contestants in races.items():
      tick(name)
      case = Case.parse(name)
      found.cases.setdefault(name, {}).update(race.race(case, contestants, workers, pace))
      found.about["workers"].update(workers.about)
      found.save()
      console.print(tables.one_line(case, found.cases[name]), highlight=False, markup=False)
    workers.close()
    for name, (_, study) in studies.items():
      try:
        found.studies[name] = study(tick)
      except WorkerError as error:
        console.print(f"[red]The study {name} was given up: {error}")
      found.save()
    bar.update(task, description="done", completed=total)


def _races(
  options: argparse.Namespace, found: results.Results, workers: Workers
) -> dict[str, list[str]]:
  """Returns by case the contestants, of those cases for which not all of them have been timed."""
  races, absent = {}, set()
  for name in arguments.chosen_cases(options):
    contestants = rows.contestants(Case.parse(name), options.rows)
    present = [who for who in contestants if workers.can_have(who.split("/")[0])]
    absent |= {who.split("/")[0] for who in contestants} - {who.split("/")[0] for who in present}
    if not found.cases.get(name, {}).keys() >= set(present):
      races[name] = present
  found.about["absent"] = sorted(absent)
  return races


def _studies(
  options: argparse.Namespace, pace: race.Pace, workers: Workers
) -> dict[str, tuple[int, Callable[[Callable[[str], None]], Any]]]:
  """Returns by name how many steps a study takes, and the study."""
  quick = options.quick
  return {
    "first-call": (first_call.steps(quick), lambda tick: first_call.run(workers, quick, tick)),
    "memory": (memory.steps(quick), lambda tick: memory.run(workers, quick, tick)),
    "scaling": (scaling.steps(quick), lambda tick: scaling.run(workers, quick, tick, pace)),
  }
