"""A SavedModel rewritten so that a CPU runs it."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tf_conv3d_grad.cli import arguments, console

if TYPE_CHECKING:
  from rich.table import Table

  from tf_conv3d_grad.conversion.comparison import Comparison
  from tf_conv3d_grad.conversion.folders import Converted
  from tf_conv3d_grad.conversion.rewriting import Change

_LENGTH = 16
# For one signature, in which XLA may compile every convolution.
_PATIENCE_SECONDS = 1800.0


@click.command(epilog="tf-conv3d-grad convert my_model my_model_for_cpus")
@click.argument("saved_model", type=click.Path(path_type=pathlib.Path))
@click.argument("out", type=click.Path(path_type=pathlib.Path))
@click.option(
  "--compare/--no-compare",
  default=True,
  show_default=True,
  help="Run the signatures of both models on random inputs.",
)
@click.option(
  "--length",
  type=click.IntRange(min=1),
  default=_LENGTH,
  show_default=True,
  metavar="N",
  help="Length of the axes of those inputs whose length the model leaves open.",
)
@click.option("--json", "json_file", type=arguments.OUTPUT_FILE, help="Write everything to a file.")
@click.pass_context
def convert(
  context: click.Context,
  saved_model: pathlib.Path,
  out: pathlib.Path,
  compare: bool,
  length: int,
  json_file: str | None,
) -> None:
  """Rewrites a SavedModel so that what CPUs refuse in it runs there.

  Of the SavedModel in the folder SAVED_MODEL a new one is made in the folder OUT. 3-D convolutions
  and poolings that TensorFlow's CPU kernels refuse become calls of functions that these kernels
  take. Functions that XLA compiles only because of them are no longer compiled. Variables, assets
  and signatures stay what they are. The new model needs neither this package nor XLA.

  Both models are run, which runs what is in them: use --no-compare with a model that you do not
  trust.

  The exit status is 1 if the results differ, 2 if the model cannot be converted; then nothing is
  written.
  """
  console.import_tensorflow()
  from tf_conv3d_grad.cli import machine
  from tf_conv3d_grad.conversion import comparison, folders
  from tf_conv3d_grad.conversion.errors import ModelError

  output = console.new_console()
  try:
    with folders.convert(saved_model, out) as converted:
      if any(change.is_rewritten for change in converted.changes):
        output.print(_table_of_changes(converted.changes))
      console.print_line(output, _summary(converted.changes))
      for node in converted.left:
        console.print_line(output, f"no CPU runs it, and it stays: {node}", "yellow")
      comparisons = []
      if compare and converted.changes:
        comparisons = _compared(converted, length)
        if comparisons:
          output.print(_table_of_comparisons(comparisons))
        else:
          console.print_line(output, "there is no signature to compare", "yellow")
      bad = (comparison.DIFFERS, comparison.FAILS)
      wrong = [each for each in comparisons if each.status in bad]
      if json_file:
        _write_json(json_file, machine.facts(), converted, comparisons)
      if not wrong:
        converted.publish()
  except ModelError as error:
    raise _Refused(str(error)) from None
  if wrong:
    console.print_line(output, f"{out} is not written: {_named(wrong)}", "bold red")
    context.exit(1)
  console.print_line(output, f"{out} is written", "bold green")


class _Refused(click.ClickException):
  """A model that cannot be converted."""

  exit_code = 2


def _compared(converted: Converted, length: int) -> list[Comparison]:
  """Returns what comes of each signature; what ends its process is an outcome too."""
  from tf_conv3d_grad.conformance import children
  from tf_conv3d_grad.conversion import comparison

  dtypes = sorted({change.dtype for change in converted.changes if change.dtype})
  found = []
  output = console.new_console()
  with children.Children(comparison.compare, _PATIENCE_SECONDS) as processes:
    with console.progress_bar(output) as bar:
      for each in bar.track(converted.signatures, description="comparing"):
        folders = str(converted.original), str(converted.folder)
        outcome = processes.call(*folders, each, length, dtypes)
        if isinstance(outcome, children.Ended):
          message = f"the process that ran it ended: {outcome}"
          outcome = comparison.Comparison(each.name, comparison.NOT_COMPARED, message=message)
        found.append(outcome)
  return found


def _summary(changes: Sequence[Change]) -> str:
  from tf_conv3d_grad.conversion.rewriting import DEVICE, FUNCTION

  if not changes:
    return "CPUs refuse nothing in it that can be rewritten: it is copied as it is"
  counts = collections.Counter("node" if each.is_rewritten else each.op for each in changes)
  parts = (
    (counts["node"], "operations rewritten"),
    (counts[FUNCTION], "functions no longer compiled by XLA"),
    (counts[DEVICE], "operations no longer bound to a GPU"),
  )
  return ", ".join(f"{count} {what}" for count, what in parts if count)


def _table_of_changes(changes: Sequence[Change]) -> Table:
  headings = ("operation", "dtype", "result", "refused as", "node", "times")
  table = _new_table("What CPUs refuse", headings)
  # A function and the signature that was made of it have the same nodes.
  rows = collections.Counter(
    (change.op, change.dtype, change.shape, change.reason, change.place)
    for change in changes
    if change.is_rewritten
  )
  for row, count in rows.items():
    table.add_row(*row, str(count))
  return table


def _table_of_comparisons(comparisons: Sequence[Comparison]) -> Table:
  from tf_conv3d_grad.conversion.comparison import AGREES

  table = _new_table("Results of both models", ("signature", "", "error", "allowed", ""))
  for each in comparisons:
    table.add_row(
      each.signature,
      each.status if each.status == AGREES else f"[red]{each.status}[/]",
      "" if each.error is None else f"{each.error:.1e}",
      "" if each.allowed is None else f"{each.allowed:.1e}",
      each.message,
    )
  return table


def _new_table(title: str, headings: Sequence[str]) -> Table:
  from rich import box
  from rich.table import Table

  table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
  for heading in headings:
    table.add_column(heading, overflow="fold")
  return table


def _named(comparisons: Sequence[Comparison]) -> str:
  return "; ".join(
    f"{each.signature} {each.status}{f' {each.message}' if each.message else ''}"
    for each in comparisons
  )


def _write_json(
  path: str, facts: dict[str, Any], converted: Converted, comparisons: Sequence[Comparison]
) -> None:
  from tf_conv3d_grad.cli import check_results

  content = {
    "machine": facts,
    "changes": [dataclasses.asdict(change) for change in converted.changes],
    "left": converted.left,
    "comparisons": [
      {**dataclasses.asdict(each), "error": check_results.finite(each.error)}
      for each in comparisons
    ],
  }
  with open(path, "w", encoding="utf-8") as file:
    json.dump(content, file, indent=2)
