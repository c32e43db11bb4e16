"""One call of oneDNN's: a static convolution, given its problem."""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.lowering import shifts
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.layout import Layout
from tf_conv3d_grad.tensorflow import xla_onednn


def paddings(problem: Problem) -> list[tuple[int, int]]:
  """Returns the padding in front of and behind each axis of a convolution.

  It is negative where the convolution reaches none of so many cells of the input, or, behind, where
  a stride skips them.
  """
  return [(axis.pad, axis.padded - axis.pad) for axis in problem.axes]


def at_least_one_sample(tensor: tf.Tensor, problem: Problem) -> tf.Tensor:
  """Returns a tensor of a problem, with a sample of zeros if the run finds that it has none.

  XLA compiles no loop over nothing.
  """
  if sizes.is_known(problem.batch):
    return tensor
  return shifts.pad(tensor, problem.layout.batch, 0, sizes.maximum(1 - problem.batch, 0))


def convolution(
  problem: Problem,
  layouts: tuple[Layout, Layout, Layout],
  filter: tf.Tensor,  # noqa: A002
  input: tf.Tensor,  # noqa: A002
  dtype: tf.DType | None = None,
) -> tf.Tensor:
  """Returns a problem's convolution, of tensors in the layouts of `xla_onednn.convolution`.

  It is of the operands' dtype, or of another one that is named.
  """
  of_input, _, of_output = layouts
  pads = paddings(problem)
  cut = {
    dimension: (min(front, 0), axis.input + min(front, 0) + min(behind, 0))
    for dimension, axis, (front, behind) in zip(of_input.spatial, problem.axes, pads)
    # What a stride skips behind its last step oneDNN skips as well.
    if front < 0 or behind <= -axis.stride
  }
  return xla_onednn.convolution(
    shifts.refit(input, cut) if cut else input,
    filter,
    of_output.arranged(problem.batch, [axis.output for axis in problem.axes], problem.out_channels),
    layouts,
    [(max(front, 0), max(behind, 0)) for front, behind in pads],
    problem.strides,
    problem.dilations,
    problem.groups,
    dtype or input.dtype,
  )
