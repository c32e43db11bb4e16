"""Which nodes TensorFlow's CPU kernels refuse, of those that can be rewritten."""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.arguments.validation import DTYPES
from tf_conv3d_grad.conversion.errors import ModelError
from tf_conv3d_grad.conversion.graphs import Node
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT
from tf_conv3d_grad.problem.layout import NCDHW, NDHWC, OF_DATA_FORMAT, Layout
from tf_conv3d_grad.tensorflow.environment import Environment

CONVOLUTIONS = {function.op: function for function in functions.ALL}
POOLINGS = ("MaxPool3D", "AvgPool3D", "MaxPool3DGrad", "AvgPool3DGrad", "MaxPool3DGradGrad")
# oneDNN's kernels take these with channels first too.
_ONEDNN_POOLINGS = ("MaxPool3D", "AvgPool3D", "AvgPool3DGrad")
_POOLED = (tf.float16, tf.bfloat16, tf.float32)
# Any CPU: what is not refused here runs with oneDNN and without.
ANY_CPU = Environment("CPU", onednn=False, in_xla=False, mode=False, onednn_bfloat16=False)


def reason(node: Node, environment: Environment = ANY_CPU) -> str | None:
  """Returns why a CPU refuses a node, None if it does not, or nothing can be done about it.

  Args:
    node: The node.
    environment: What is known of the CPU.

  Raises:
    ModelError: If the node's attributes are malformed.
  """
  if node.op in CONVOLUTIONS:
    return _of_convolution(node, environment)
  if node.op in POOLINGS:
    return _of_pooling(node, environment)
  return None


def has_no_kernel(node: Node) -> bool:
  """Returns whether a node has no kernel for CPUs, nor is rewritten."""
  return node.op.startswith("Xla") or (node.op in POOLINGS and node.dtype() not in _POOLED)


def layout(node: Node) -> Layout:
  """Returns where the dimensions of a 3-D node's tensors are.

  Raises:
    ModelError: If its data format is none.
  """
  data_format = node.text("data_format", NDHWC)
  if data_format not in OF_DATA_FORMAT:
    raise ModelError(f"{node} has the data_format {data_format!r}, which no kernel takes")
  return OF_DATA_FORMAT[data_format]


def padding(node: Node) -> str:
  """Returns the padding of a 3-D node.

  Raises:
    ModelError: If it is neither "SAME" nor "VALID".
  """
  text = node.text("padding", "")
  if text not in ("SAME", "VALID"):
    raise ModelError(f"{node} has the padding {text!r}; it must be SAME or VALID")
  return text


def shape_of_volume(node: Node, recorded: list[int | None] | None) -> tuple[int | None, ...]:
  """Returns what can be relied on of the shape that was recorded of a volume of a 3-D node's."""
  if recorded is None or len(recorded) != 5:
    return (None,) * 5
  if node.graph.has_right_shapes:
    return tuple(recorded)
  batch, _, channels = layout(node).split(recorded)
  return tuple(layout(node).arranged(batch, [None] * 3, channels))


def spatial(node: Node, attribute: str) -> tuple[int, int, int]:
  """Returns what an attribute of a 3-D node says of depth, height and width.

  Raises:
    ModelError: If it is malformed.
  """
  values = node.integers(attribute, [1] * 5)
  if len(values) != 5 or min(values) < 1:
    raise ModelError(f"{node} has the {attribute} {values}; they must be 5 positive integers")
  _, (depth, height, width), _ = layout(node).split(values)
  return depth, height, width


def _of_convolution(node: Node, environment: Environment) -> str | None:
  dtype = node.dtype()
  if dtype not in DTYPES:
    return None
  is_onednn = environment.is_onednn(dtype)
  reasons = []
  if layout(node) == OF_DATA_FORMAT[NCDHW] and not is_onednn:
    reasons.append("channels first")
  if max(spatial(node, "dilations")) > 1 and not is_onednn:
    reasons.append("dilated")
  groups = _groups(node)
  if groups is None:
    reasons.append("maybe grouped")
  elif groups > 1:
    reasons.append(f"{groups} groups")
  return ", ".join(reasons) or None


def _of_pooling(node: Node, environment: Environment) -> str | None:
  dtype = node.dtype()
  if dtype not in _POOLED:
    return None
  reasons = []
  is_onednn = environment.onednn and node.op in _ONEDNN_POOLINGS and dtype != tf.float16
  if layout(node) == OF_DATA_FORMAT[NCDHW] and not is_onednn:
    reasons.append("channels first")
  if dtype == tf.float16:
    reasons.append("half")
  return ", ".join(reasons) or None


def _groups(node: Node) -> int | None:
  """Returns how many groups a convolution has, None if that is not known."""
  function = CONVOLUTIONS[node.op]
  of_input = node.shape if function is BACKPROP_INPUT else node.input_shape(0)
  of_filter = node.shape if function is BACKPROP_FILTER else node.input_shape(1)
  if of_input is None or of_filter is None or not len(of_input) == len(of_filter) == 5:
    return None
  channels, of_group = of_input[layout(node).channels], of_filter[3]
  if channels is None or of_group is None:
    return None
  return channels // of_group if of_group else 1
