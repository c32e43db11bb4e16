"""Types of arguments that the commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tf_conv3d_grad.cli import console

if TYPE_CHECKING:
  from tf_conv3d_grad.conformance.case import Case


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


CASE = CaseType()
OUTPUT_FILE = click.Path(dir_okay=False, writable=True)
