"""What oneDNN's kernels cannot be given, wherever they are called.

Found with TensorFlow 2.21 by random small calls over memory full of NaNs.
"""

from __future__ import annotations

from tf_conv3d_grad.problem import geometry, sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT, Function

# Strides and dilations that the kernels are given: their 32-bit arithmetic overflows on larger
# ones, and takes the process down.
MAX_STEP = 2**15


def is_beyond(function: Function, problem: Problem) -> bool:
  """Returns whether the filter is known to reach beyond both ends of an axis.

  oneDNN's bfloat16 kernels of the convolution and of its gradient in the filter then read memory
  that nobody has written, and the latter writes beyond its own.
  """
  return function is not BACKPROP_INPUT and any(
    sizes.is_known(axis.taps, axis.input)
    and geometry.extent(axis.taps, axis.dilation) > axis.input
    for axis in problem.axes
  )


def is_one_wide(function: Function, problem: Problem) -> bool:
  """Returns whether several taps are known to meet a single cell of the output's width.

  With one in channel oneDNN's kernels, of the same two functions, then read memory that nobody has
  written.
  """
  width = problem.axes[2]
  return (
    function is not BACKPROP_INPUT
    and sizes.is_known(problem.filter_in_channels, width.taps, width.output)
    and problem.filter_in_channels == 1
    and width.taps > 1
    and width.output == 1
  )
