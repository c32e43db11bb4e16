"""The ops against the float64 oracle and TensorFlow's own, on given and random cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tf_conv3d_grad.cli import arguments, console

if TYPE_CHECKING:
  from tf_conv3d_grad.cli.check_results import Result
  from tf_conv3d_grad.conformance.case import Case
  from tf_conv3d_grad.conformance.differential import Report
  from tf_conv3d_grad.conformance.direction import Direction

_CASES = 100
_LEAST_SIZE, _MAX_SIZE = 2, 12
# TensorFlow keeps what it has compiled, some megabytes for each case. More cases than these are run
# in child processes, as many in each.
_PER_PROCESS = 200
# A broken build fails everywhere: the first few failures are shrunk, the others just counted.
_MOST_SHRUNK = 5
_ATTEMPTS = 100


@click.command(
  epilog="tf-conv3d-grad check --cases 1000 --seed 7 --dir fwd,bwd_w\n\n"
  "tf-conv3d-grad check mb1_id8_ic2oc3_k3s2d1_ndhwc_f32 --seed 7 --ways eager"
)
@click.argument("given", metavar="[CASE]...", nargs=-1, type=arguments.CASE)
@click.option(
  "--cases",
  type=click.IntRange(min=0),
  metavar="N",
  help=f"Draw N random cases; {_CASES} unless a CASE is given.",
)
@click.option(
  "--seed",
  type=click.IntRange(min=0),
  default=0,
  show_default=True,
  metavar="S",
  help="Seed of the CASEs' tensors. The i-th random case has the seed S + i.",
)
@click.option(
  "--max-size",
  type=click.IntRange(min=_LEAST_SIZE),
  default=_MAX_SIZE,
  show_default=True,
  help=f"Largest length of an axis; random cases grow from {_LEAST_SIZE} to it.",
)
@click.option(
  "--dir",
  "directions",
  type=arguments.DIRECTIONS,
  default=arguments.ALL_DIRECTIONS,
  show_default=True,
  metavar="DIR,...",
  help="Directions of the random cases: fwd is Conv3D, bwd_d Conv3DBackpropInputV2, bwd_w "
  "Conv3DBackpropFilterV2.",
)
@click.option(
  "--ways",
  metavar="WAY,...",
  help="Ways of calling, or all: eager, graph, compiled (these three unless given), "
  "unknown-sizes, unknown-ranks, compiled-unknown-batch, always, never.",
)
@click.option("--json", "json_file", type=arguments.OUTPUT_FILE, help="Write everything to a file.")
@click.option("--junit-xml", type=arguments.OUTPUT_FILE, help="Write a test case for each CASE.")
@click.pass_context
def check(
  context: click.Context,
  given: tuple[Case, ...],
  cases: int | None,
  seed: int,
  max_size: int,
  directions: tuple[Direction, ...],
  ways: str | None,
  json_file: str | None,
  junit_xml: str | None,
) -> None:
  """Compares the ops to a float64 oracle and to TensorFlow's own.

  Every CASE is called in several ways. A case that fails is shrunk as far as it still fails, and
  printed as one line that runs it again. The exit status is 0 if all cases pass, and 1 if not.
  """
  console.import_tensorflow()
  from tf_conv3d_grad.cli import check_results, check_runs, machine

  chosen = _chosen_ways(ways)
  if cases is None:
    cases = 0 if given else _CASES
  problems = [(case, seed) for case in given] + list(_random(cases, seed, max_size, directions))
  output = console.new_console()
  facts = machine.facts()
  for line in machine.lines(facts):
    console.print_line(output, line)

  results: list[Result] = []
  failed = 0
  with console.progress_bar(output) as bar:
    task = bar.add_task("", total=len(problems))
    for result in check_runs.run(problems, chosen, _PER_PROCESS):
      bar.update(task, advance=1, description=str(result.report.case))
      if not result.report.passed:
        failed += 1
        # What ended another process would end this one.
        is_shrunk = failed <= _MOST_SHRUNK and not result.died
        smallest = _shrunk(result.report, chosen) if is_shrunk else result.report
        result = dataclasses.replace(result, smallest=smallest)
        console.print_line(output, f"FAILED {smallest}", "red")
      elif given:
        console.print_line(output, str(result.report))
      results.append(result)

  output.print(check_results.table(results))
  console.print_line(
    output, check_results.summary(results), "bold red" if failed else "bold green"
  )
  if json_file:
    check_results.write_json(json_file, facts, results)
  if junit_xml:
    check_results.write_junit_xml(junit_xml, facts, results)
  context.exit(int(failed > 0))


def _chosen_ways(text: str | None) -> tuple[str, ...]:
  from tf_conv3d_grad.conformance.differential import DEFAULT_WAYS, WAYS

  if text is None:
    return DEFAULT_WAYS
  ways = WAYS if text == "all" else tuple(text.split(","))
  unknown = [way for way in ways if way not in WAYS]
  if unknown:
    raise click.BadParameter(
      f"must be all or among {', '.join(WAYS)}, got {', '.join(map(repr, unknown))}",
      param_hint="--ways",
    )
  return ways


def _random(
  cases: int, seed: int, max_size: int, directions: tuple[Direction, ...]
) -> Iterator[tuple[Case, int]]:
  """Yields random cases of growing size and of each direction in turn, with their seeds."""
  import numpy as np

  from tf_conv3d_grad.conformance.case import random_case

  for number in range(cases):
    size = _LEAST_SIZE + (max_size - _LEAST_SIZE) * number // max(cases - 1, 1)
    rng = np.random.default_rng(seed + number)
    direction = directions[number % len(directions)]
    yield random_case(rng, max_size=size, direction=direction), seed + number


def _shrunk(report: Report, ways: tuple[str, ...]) -> Report:
  """Returns the report of the smallest case found that fails in one of the same ways."""
  from tf_conv3d_grad.conformance import differential, shrinking

  # Without any, it is TensorFlow's own op that the oracle disagrees with.
  ways = report.failed_ways or ways

  def run(case: Case) -> Report:
    return differential.run(case, report.seed, ways=ways)

  return run(shrinking.shrink(report.case, lambda case: not run(case).passed, _ATTEMPTS))
