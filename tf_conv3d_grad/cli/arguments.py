"""Types of arguments that the commands share, and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tf_conv3d_grad.cli import console

if TYPE_CHECKING:
  from tf_conv3d_grad.conformance.case import Case
  from tf_conv3d_grad.conformance.direction import Direction


class CaseType(click.ParamType):
  """A case in the short notation."""

  name = "case"

  def convert(
    self, value: Any, param: click.Parameter | None, ctx: click.Context | None
  ) -> Case:
    """Returns the `Case` that the text stands for."""
    console.import_tensorflow()
    from tf_conv3d_grad.conformance.case import Case

    try:
      return value if isinstance(value, Case) else Case.parse(value)
    except ValueError as error:
      self.fail(str(error), param, ctx)


class DirectionsType(click.ParamType):
  """Some of the three directions, each once."""

  name = "directions"

  def convert(
    self, value: Any, param: click.Parameter | None, ctx: click.Context | None
  ) -> tuple[Direction, ...]:
    """Returns the directions whose names stand in the text."""
    console.import_tensorflow()
    from tf_conv3d_grad.conformance.direction import DIRECTIONS

    if isinstance(value, tuple):
      return value
    names = list(dict.fromkeys(value.split(",")))
    unknown = [name for name in names if name not in DIRECTIONS]
    if unknown:
      self.fail(
        f"must be among {', '.join(DIRECTIONS)}, got {', '.join(map(repr, unknown))}", param, ctx
      )
    return tuple(DIRECTIONS[name] for name in names)


CASE = CaseType()
DIRECTIONS = DirectionsType()
ALL_DIRECTIONS = "fwd,bwd_d,bwd_w"
OUTPUT_FILE = click.Path(dir_okay=False, writable=True)
