"""The three functions of a convolution, as values.

With x the input, w the filter and y the output, a convolution is one trilinear form

    sum over cells o and taps q of  y[o] . x[o * stride + q * dilation - pad] . w[q]

and each of the three functions is its derivative in one of the tensors: it takes the other two and
has the shape of that one. So the derivative of a function in one of its operands is the function
whose result that operand is, of the other operand and the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tf_conv3d_grad.problem.definition import Problem

# The three tensors, by what they are to the convolution.
FILTER = "filter"
INPUT = "input"
OUTPUT = "output"


class Function(NamedTuple):
  """One of the three functions of a convolution.

  Attributes:
    name: Its name, in every lowering.
    operands: The two tensors that it takes, in this order.
    result: The tensor whose shape it returns.
    asked_by: The public op's argument that says how large the result is to be.
  """

  name: str
  operands: tuple[str, str]
  result: str
  asked_by: str

  def shape(self, problem: Problem) -> list:
    """Returns the shape of the result."""
    return shape(self.result, problem)

  def of(self, lowering: Any) -> Any:
    """Returns what a lowering has under this function's name."""
    return getattr(lowering, self.name)


CONV3D = Function("conv3d", (FILTER, INPUT), OUTPUT, "input")
BACKPROP_INPUT = Function("backprop_input", (FILTER, OUTPUT), INPUT, "input_sizes")
BACKPROP_FILTER = Function("backprop_filter", (INPUT, OUTPUT), FILTER, "filter_sizes")

BY_RESULT = {function.result: function for function in (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER)}


def shape(tensor: str, problem: Problem) -> list:
  """Returns the shape of the filter, the input or the output of a problem."""
  if tensor == FILTER:
    return problem.filter_shape
  return problem.input_shape if tensor == INPUT else problem.out_backprop_shape


def group_dimension(tensor: str, problem: Problem) -> int:
  """Returns which dimension of the filter, the input or the output is split by groups."""
  return 4 if tensor == FILTER else problem.layout.channels
