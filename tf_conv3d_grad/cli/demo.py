"""Layers that TensorFlow lacks on the CPU, with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tf_conv3d_grad.cli import console

if TYPE_CHECKING:
  import numpy as np
  from rich.table import Table
  from rich.text import Text

  from tf_conv3d_grad.conformance.case import Case

_LEAST_SIZE, _SIZE = 3, 12
# Layer and way of calling. A layer is what follows the size in a case's notation.
_CALLS = (
  ("dilated, NCDHW", "ic16oc16_k3s1d2_ncdhw", "eager"),
  ("dilated, NCDHW", "ic16oc16_k3s1d2_ncdhw", "compiled"),
  ("grouped, NDHWC", "ic16oc16g4_k3s1d1_ndhwc", "eager"),
)


@click.command()
@click.option(
  "--size",
  type=click.IntRange(min=_LEAST_SIZE),
  default=_SIZE,
  show_default=True,
  help="Depth, height and width of the volume.",
)
def demo(size: int) -> None:
  """Runs layers that TensorFlow lacks on the CPU, with their gradients.

  The layers are transposed convolutions in all four dtypes, called eagerly and with
  jit_compile=True (jit): dilated ones with channels first, and grouped ones. TensorFlow's own op is
  shown beside this package's. Results and gradients are compared to a float64 oracle.
  """
  console.import_tensorflow()
  from tf_conv3d_grad.cli import machine
  from tf_conv3d_grad.conformance.case import DTYPES, Case

  output = console.new_console()
  for line in machine.lines(machine.facts()):
    console.print_line(output, line)
  table = _new_table(size)
  problems = [(call, dtype) for call in _CALLS for dtype in DTYPES]
  with console.progress_bar(output) as bar:
    for (layer, notation, way), dtype in bar.track(problems, description="demo"):
      case = Case.parse(f"mb1_id{size}_{notation}_{dtype}")
      name = f"{layer}, jit" if way == "compiled" else layer
      table.add_row(name, case.dtype, *_cells(case, way))
  output.print(table)


def _new_table(size: int) -> Table:
  from rich import box
  from rich.table import Table

  table = Table(
    title=f"Milliseconds of a layer, {size}^3 cells with 16 channels",
    caption="error: an exception of TensorFlow's; wrong: not what the oracle says.",
    title_justify="left",
    caption_justify="left",
    box=box.SIMPLE_HEAD,
  )
  for heading in ("\nlayer", "\ndtype"):
    table.add_column(heading)
  for heading in ("TensorFlow\nresult", "\ngradient", "this op\nresult", "\ngradient"):
    table.add_column(heading, justify="right", no_wrap=True)
  return table


def _cells(case: Case, way: str) -> list[Text]:
  """Returns result and gradient of TensorFlow's own op, then of this one, each in a word."""
  from tf_conv3d_grad.api import Conv3DBackpropInputV2
  from tf_conv3d_grad.cli import report_tables, trial
  from tf_conv3d_grad.conformance import differential, oracle
  from tf_conv3d_grad.tensorflow import private

  arguments = case.arguments()
  filter, out_backprop = arguments["filter"], arguments["out_backprop"]
  upstream = _upstream(case)
  result = oracle.conv3d_backprop_input(case, filter, out_backprop)
  gradients = (
    oracle.conv3d_backprop_filter(case, upstream, out_backprop),
    oracle.conv3d(case, upstream, filter),
  )
  cells = []
  for op in (private.raw_backprop_input, Conv3DBackpropInputV2):
    for call, exact in ((op, (result,)), (_gradients_of(op, upstream), gradients)):
      # Gradients have no tolerance but TensorFlow's own.
      judge = trial.judge_of(case, exact, differential.RAW_TOLERANCE)
      outcome = trial.attempt(trial.in_way(call, arguments, way), judge)
      cells.append(report_tables.cell(outcome))
  return cells


def _upstream(case: Case) -> np.ndarray:
  """Returns a gradient of the layer's result."""
  import numpy as np
  import tensorflow as tf

  values = np.random.default_rng(1).uniform(-1, 1, case.input_sizes)
  return values.astype(tf.as_dtype(case.dtype).as_numpy_dtype)


def _gradients_of(op: Callable[..., Any], upstream: np.ndarray) -> Callable[..., Any]:
  """Returns a function that gives an op's gradients in `filter` and `out_backprop`."""
  import tensorflow as tf

  def call(filter: tf.Tensor, out_backprop: tf.Tensor, **constants: Any) -> Any:
    with tf.GradientTape() as tape:
      tape.watch((filter, out_backprop))
      result = op(filter=filter, out_backprop=out_backprop, **constants)
    return tape.gradient(result, (filter, out_backprop), output_gradients=tf.constant(upstream))

  return call
