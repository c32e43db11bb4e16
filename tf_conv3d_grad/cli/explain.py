"""What a call would run, and why."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from tf_conv3d_grad.cli import arguments, console

if TYPE_CHECKING:
  from tf_conv3d_grad.conformance.case import Case

_MODES: dict[str, bool | str] = {"true": True, "false": False, "auto": "auto"}


@click.command(epilog="tf-conv3d-grad explain mb1_id64_ic32oc32_k3s1d2_ncdhw_f16_bwd_w")
@click.argument("case", type=arguments.CASE)
@click.option(
  "--mode",
  type=click.Choice(list(_MODES)),
  help="The jit_compile mode. Unless given it is that of TF_CONV3D_GRAD_JIT_COMPILE, or auto.",
)
def explain(case: Case, mode: str | None) -> None:
  """Says what a call would run, and why, without running it.

  In the table, "called" is what a call in eager code runs, and "called, instead" are the
  alternatives. The other lines are the same for a call in a tf.function, and in one with
  jit_compile=True.
  """
  import tensorflow as tf

  import tf_conv3d_grad

  specified: dict[str, Any] = {
    name: tf.TensorSpec(case.shape_of(name), case.dtype) for name in case.direction.operands
  }
  if case.direction.sizes:
    specified[case.direction.sizes] = list(case.result_shape)
  in_mode = tf_conv3d_grad.jit_compile(_MODES[mode]) if mode else contextlib.nullcontext()
  with in_mode:
    explanation = tf_conv3d_grad.explain(
      op=getattr(tf_conv3d_grad, case.direction.op), **specified, **case.attributes()
    )
  # Rich colours the numbers where there are colours.
  console.new_console().print(str(explanation), markup=False, soft_wrap=True)
