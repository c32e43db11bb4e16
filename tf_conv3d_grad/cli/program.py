"""The commands, under one name."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from tf_conv3d_grad import __version__
from tf_conv3d_grad.cli.check import check
from tf_conv3d_grad.cli.convert import convert
from tf_conv3d_grad.cli.demo import demo
from tf_conv3d_grad.cli.explain import explain
from tf_conv3d_grad.cli.report import report

_SETTINGS = {"help_option_names": ["-h", "--help"]}


class Program(click.Group):
  """A group of commands that ends in one sentence where disk or memory is full."""

  def main(self, *args: Any, **extra: Any) -> Any:
    """Runs a command line and exits."""
    try:
      try:
        return super().main(*args, **extra)
      finally:
        sys.stdout.flush()
    except OSError as error:
      place = f": {error.filename}" if error.filename else ""
      _exit(f"{error.strerror or error}{place}")
    except MemoryError as error:
      _exit(f"not enough memory: {error}")


def _exit(reason: str) -> NoReturn:
  # The rest of the output cannot be written either. Python would try, and complain.
  with contextlib.suppress(OSError, ValueError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  with contextlib.suppress(OSError):
    click.echo(f"Error: {reason}", err=True)
  sys.exit(1)


@click.group(cls=Program, context_settings=_SETTINGS, no_args_is_help=True)
@click.version_option(__version__)
def program() -> None:
  """Shows what the ops of a 3-D convolution do on this machine: TensorFlow's and this package's.

  And converts finished models, so that CPUs run them.

  A CASE is one call, written as one word: mb1_id32_ic16oc32g2_k3s2d1_ncdhw_f16_valid is a batch of
  1, an input of 32^3 cells, 16 in channels, 32 out channels, 2 groups, a filter of 3x3x3 taps,
  stride 2, dilation 1, channels first, float16, VALID padding. Axes that differ are written k3x1x2.
  Without g there is one group. Without _valid the padding is SAME. The dtypes are f16, bf16, f32
  and f64.

  With _fwd at the end the op is Conv3D, with _bwd_w Conv3DBackpropFilterV2, and with neither
  Conv3DBackpropInputV2.
  """


for command in (report, check, explain, demo, convert):
  program.add_command(command)
