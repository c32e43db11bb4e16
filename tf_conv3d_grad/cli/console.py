"""What the commands print with: a console, a bar, and TensorFlow without its log lines."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

import click
from rich import progress
from rich.console import Console

# Tables are as wide as they need to be where nothing limits the width of the output.
_WIDTH_OF_FILES = 160
# Lines of TensorFlow's native log that tell nothing about the run.
_LOG_LINE = re.compile(
  rb"WARNING: All log messages before absl|I\d{4} |I tensorflow/|To enable the following instr"
)


def new_console() -> Console:
  """Returns a console on the standard output: coloured on a terminal, plain elsewhere."""
  console = Console()
  if not console.is_terminal and "COLUMNS" not in os.environ:
    console = Console(width=_WIDTH_OF_FILES)
  return console


def progress_bar(console: Console) -> progress.Progress:
  """Returns a bar that vanishes when done, and shows only on a terminal."""
  return progress.Progress(
    progress.BarColumn(30),
    progress.MofNCompleteColumn(),
    progress.TimeElapsedColumn(),
    progress.TextColumn("{task.description}"),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )


def print_line(console: Console, text: str, style: str | None = None) -> None:
  """Prints one line as it is: never broken, so that it can be copied."""
  console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def import_tensorflow() -> None:
  """Imports TensorFlow and the op, quietly.

  Raises:
    click.ClickException: If TensorFlow cannot be imported; says what to install.
  """
  # Read when TensorFlow is imported.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    with _without_log_lines():
      # First, for its word on what to install.
      import tf_conv3d_grad.api  # noqa: F401, I001
      import tensorflow as tf
  except ImportError as error:
    raise click.ClickException(str(error)) from None
  # It warns of functions that are traced often, which is what trying things out does.
  tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
  """Holds back what is written to the standard error, then writes all but `_LOG_LINE`s.

  TensorFlow's native code writes to the file descriptor, some of it before its log level is read.
  """
  sys.stderr.flush()
  stderr = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)
      held.seek(0)
      for line in held:
        if not _LOG_LINE.search(line):
          os.write(2, line)
