"""What this TensorFlow build does with every kind of call, beside what this package's ops do."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tf_conv3d_grad.cli import arguments, console

if TYPE_CHECKING:
  from rich.console import Console

  from tf_conv3d_grad.cli.trial import Outcome, Trial
  from tf_conv3d_grad.conformance.direction import Direction

_LEAST_SIZE, _SIZE = 3, 12
_CHANNELS = 8


@click.command()
@click.option(
  "--size",
  type=click.IntRange(min=_LEAST_SIZE),
  default=_SIZE,
  show_default=True,
  help="Depth, height and width of the volume.",
)
@click.option(
  "--dir",
  "directions",
  type=arguments.DIRECTIONS,
  default=arguments.ALL_DIRECTIONS,
  show_default=True,
  metavar="DIR,...",
  help="Which ops: fwd is Conv3D, bwd_d Conv3DBackpropInputV2, bwd_w Conv3DBackpropFilterV2.",
)
@click.option("--json", "json_file", type=arguments.OUTPUT_FILE, help="Write everything to a file.")
@click.pass_context
def report(
  context: click.Context, size: int, directions: tuple[Direction, ...], json_file: str | None
) -> None:
  """Shows what TensorFlow's ops and this package's make of every kind of call.

  TensorFlow's own op and this package's get the same calls: every dtype and format, dilated or not,
  grouped or not, and a few malformed ones. The calls are made eagerly, in a tf.function (graph),
  and in one with jit_compile=True (jit). They run in child processes, so that a call that ends its
  process is shown like any other.

  The exit status is 0 if every valid call of this package's ops gives the right result and every
  malformed one raises an exception, and 1 if not.
  """
  console.import_tensorflow()
  from tf_conv3d_grad.cli import machine, report_tables
  from tf_conv3d_grad.cli.trial import ERROR, OURS, RIGHT

  output = console.new_console()
  facts = machine.facts()
  for line in machine.lines(facts):
    console.print_line(output, line)
  valid = _perform(_valid_trials(size, directions), "valid calls", output)
  for table in report_tables.of_valid_calls(valid):
    output.print(table)
  for line in report_tables.legend(valid):
    console.print_line(output, line)
  output.print()
  malformed = _perform(_malformed_trials(directions), "malformed calls", output)
  for table in report_tables.of_malformed_calls(malformed):
    output.print(table)
  console.print_line(output, report_tables.summary(valid, malformed))
  if json_file:
    calls = [
      {**dataclasses.asdict(trial), **dataclasses.asdict(outcome)}
      for trial, outcome in valid + malformed
    ]
    with open(json_file, "w", encoding="utf-8") as file:
      json.dump({"machine": facts, "calls": calls}, file, indent=2)
  ours = [(trial, outcome.status) for trial, outcome in valid + malformed if trial.op == OURS]
  context.exit(int(any(status != (RIGHT if trial.case else ERROR) for trial, status in ours)))


def _valid_trials(size: int, directions: tuple[Direction, ...]) -> list[Trial]:
  from tf_conv3d_grad.cli.trial import OURS, STOCK, WAYS, Trial
  from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, Case

  trials = []
  kinds = itertools.product(
    directions, DTYPES.values(), DATA_FORMATS, (False, True), (False, True)
  )
  for direction, dtype, data_format, dilated, grouped in kinds:
    case = Case(
      batch=1,
      input_size=(size,) * 3,
      in_channels=_CHANNELS,
      out_channels=_CHANNELS,
      taps=(3, 3, 3),
      strides=(1, 1, 1),
      dilations=(2, 2, 2) if dilated else (1, 1, 1),
      groups=2 if grouped else 1,
      data_format=data_format,
      dtype=dtype,
      direction=direction,
    )
    trials += [
      Trial(op, way, direction.op, case=str(case)) for way in WAYS for op in (STOCK, OURS)
    ]
  return trials


def _malformed_trials(directions: tuple[Direction, ...]) -> list[Trial]:
  from tf_conv3d_grad.cli import malformed
  from tf_conv3d_grad.cli.trial import OURS, STOCK, Trial

  return [
    Trial(op, "compiled" if name in malformed.COMPILED else "eager", each.op, malformed=name)
    for op in (OURS, STOCK)
    for each in directions
    for name in malformed.CALLS[each.op]
  ]


def _perform(
  trials: Sequence[Trial], title: str, output: Console
) -> list[tuple[Trial, Outcome]]:
  """Makes the calls behind a progress bar."""
  from tf_conv3d_grad.cli import trial as making

  calls = []
  with console.progress_bar(output) as bar:
    task = bar.add_task(title, total=len(trials))
    for trial, outcome in making.perform_all(trials):
      calls.append((trial, outcome))
      bar.update(task, advance=1, description=f"{title}: {trial.case or trial.malformed}")
  return calls
