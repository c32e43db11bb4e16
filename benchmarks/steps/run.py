"""The driver: trains the networks, keeps the results and says what came of it."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Sequence

from rich.console import Console

from benchmarks import machine, plots, report, terminal
from benchmarks.steps import arguments, plot, race, summary, tables
from benchmarks.steps.pool import Pool
from benchmarks.steps.results import NAME, Results
from benchmarks.workers import Workers


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark; returns the exit status, 0 unless a patched training went wrong."""
  options = arguments.parse(argv)
  console = terminal.console()
  found = _start(options)
  if not options.report:
    started = time.monotonic()
    busy = found.about["machine"]["load"] or 0
    if busy > machine.BUSY_LOAD:
      console.print(f"[yellow]The machine is busy (load {busy:.2f} a core): figures will be off.")
    settings = {"TF_ENABLE_ONEDNN_OPTS": "0"} if options.no_onednn else {}
    pool = Pool(Workers(dict(options.python), settings))
    try:
      _measure(options, found, pool, console)
    finally:
      pool.close()
      found.about["minutes"] += (time.monotonic() - started) / 60
      found.save()
  terminal.show(tables.overview(found), tables.remarks(found), console)
  plot.draw(found, found.folder / plots.FOLDER)
  report.write(found.folder)
  written = f"{NAME}, RESULTS.md, {plots.FOLDER}/{plot.NAME}.png"
  console.print(f"Written to {os.path.relpath(found.folder)}: {written}")
  wrong = [who for _, who, _ in (*summary.failed(found.races), *summary.different(found.races))]
  return int(any(who.startswith("patched/") for who in wrong))


def _start(options: argparse.Namespace) -> Results:
  """Returns the results to add to: with --resume or --report those of the last run, if any."""
  found = Results.load(options.out) if options.resume or options.report else None
  about = {"machine": None, "workers": {}, "minutes": 0}
  if found is None:
    found = Results(options.out, {**about, "machine": machine.describe()})
  return found


def _measure(options: argparse.Namespace, found: Results, pool: Pool, console: Console) -> None:
  """Trains what has not been trained yet, and saves after every network."""
  pace = race.QUICK if options.quick else race.Pace()
  races = {
    f"{network} {dtype}": [
      who for who in options.contestants if who not in found.races.get(f"{network} {dtype}", {})
    ]
    for network, dtype in options.races
  }
  with terminal.progress_bar(console) as bar:
    task = bar.add_task("", total=sum(map(len, races.values())))
    done = itertools.count()
    for name, contestants in races.items():
      if not contestants:
        continue

      def tick(contestant: str, name: str = name) -> None:
        bar.update(task, description=f"{name}, {contestant}", completed=next(done))

      outcomes = race.race(*name.split(), contestants, pool, pace, tick)
      found.races.setdefault(name, {}).update(outcomes)
      found.about["workers"].update(pool.about)
      found.save()
      console.print(tables.one_line(name, outcomes), highlight=False, markup=False)
    bar.update(task, description="done", completed=next(done))
