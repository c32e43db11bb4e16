"""The three functions of a convolution, as values.

With x the input, w the filter and y the output, a convolution is one trilinear form

    sum over cells o and taps q of  y[o] . x[o * stride + q * dilation - pad] . w[q]

Each of the three functions is the derivative of this form in one of the tensors. It takes the other
two tensors and returns the shape of that one. So the derivative of a function in one of its
operands is another function: the one that returns that operand's shape, of the other operand and
the gradient.
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
    op: The name of TensorFlow's operation, and of the public op.
    operands: The two tensors that it takes, in this order.
    padded: The operand that is surrounded by padding.
    result: The tensor whose shape it returns.
    asked_by: The public op's argument that says how large the result has to be.
  """

  name: str
  op: str
  operands: tuple[str, str]
  padded: str
  result: str
  asked_by: str

  def shape(self, problem: Problem) -> list:
    """Returns the shape of the result."""
    return shape(self.result, problem)

  def of(self, lowering: Any) -> Any:
    """Returns what a lowering has under this function's name."""
    return getattr(lowering, self.name)

  def argument(self, tensor: str) -> str:
    """Returns the public op's argument that says how large one of the three tensors is."""
    if tensor == self.result:
      return self.asked_by
    return "out_backprop" if tensor == OUTPUT else tensor

  def arguments(self, first: Any, second: Any, result_sizes: Any) -> dict[str, Any]:
    """Returns the operands, and the result's sizes where the op asks for them, by their names."""
    operands = {self.argument(name): value for name, value in zip(self.operands, (first, second))}
    return {self.asked_by: result_sizes, **operands}


CONV3D = Function("conv3d", "Conv3D", (FILTER, INPUT), INPUT, OUTPUT, "input")
BACKPROP_INPUT = Function(
  "backprop_input", "Conv3DBackpropInputV2", (FILTER, OUTPUT), OUTPUT, INPUT, "input_sizes"
)
BACKPROP_FILTER = Function(
  "backprop_filter", "Conv3DBackpropFilterV2", (INPUT, OUTPUT), INPUT, FILTER, "filter_sizes"
)

ALL = (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER)
BY_RESULT = {function.result: function for function in ALL}


def shape(tensor: str, problem: Problem) -> list:
  """Returns the shape of the filter, the input or the output of a problem."""
  if tensor == FILTER:
    return problem.filter_shape
  return problem.input_shape if tensor == INPUT else problem.out_backprop_shape


def group_dimension(tensor: str, problem: Problem) -> int:
  """Returns which dimension of the filter, the input or the output is split by groups."""
  return 4 if tensor == FILTER else problem.layout.channels
