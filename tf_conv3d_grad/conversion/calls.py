"""Functions traced here, as calls that can be put into any graph."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# What begins the names in a function. TensorFlow may put a function's nodes in the place of a call,
# below the call's name, where the model may have nodes of its own.
_SCOPE = "tf_conv3d_grad"
# Attributes that a node keeps whatever computes it: where it is, and what is known of it.
_KEPT = ("_output_shapes", "_class")


@dataclasses.dataclass(frozen=True)
class Call:
  """A call of a traced function.

  Attributes:
    node: A NodeDef of the call.
    functions: FunctionDefs: that of the function, and those that it calls.
    operations: OpDefs of the operations in them.
  """

  node: Any
  functions: tuple[Any, ...]
  operations: tuple[Any, ...]

  def put_in_place_of(self, definition: Any) -> None:
    """Makes a NodeDef this call, of the same inputs."""
    definition.op = self.node.op
    for name in list(definition.attr):
      if name not in _KEPT:
        del definition.attr[name]
    for name, value in self.node.attr.items():
      definition.attr[name].CopyFrom(value)


def is_traced_here(function: Any) -> bool:
  """Returns whether a FunctionDef is one of a conversion."""
  return all(node.name.startswith(f"{_SCOPE}/") for node in function.node_def)


def trace(
  compute: Callable[..., tf.Tensor],
  signature: Sequence[tf.TensorSpec],
  label: str,
  is_compiled: bool = False,
) -> Call:
  """Returns the call of a function.

  Args:
    compute: The function; it takes tensors, returns one, and has no state.
    signature: What the tensors are.
    label: A part of its name. The rest follows from what it computes.
    is_compiled: Whether XLA is to compile it, as a whole and for itself.
  """
  traced = tf.function(compute, autograph=False, jit_compile=True if is_compiled else None)
  with tf.Graph().as_default() as graph:
    inputs = [tf.compat.v1.placeholder(each.dtype, each.shape) for each in signature]
    result = traced(*inputs)
    exported = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True)
  node = next(node for node in exported.graph_def.node if node.name == result.op.name)
  functions = list(exported.graph_def.library.function)
  for function in functions:
    _put_in_scope(function)
  _rename([node], functions, label)
  operations = tuple(exported.meta_info_def.stripped_op_list.op)
  return Call(node, tuple(functions), operations)


def _put_in_scope(function: Any) -> None:
  """Gives the nodes and arguments of a FunctionDef names that no model has, in place."""
  names = {argument.name: f"{_SCOPE}_{argument.name}" for argument in function.signature.input_arg}
  names.update({node.name: f"{_SCOPE}/{node.name}" for node in function.node_def})

  def renamed(tensor: str) -> str:
    control = "^" if tensor.startswith("^") else ""
    name, colon, output = tensor.removeprefix("^").partition(":")
    return f"{control}{names[name]}{colon}{output}"

  for argument in function.signature.input_arg:
    argument.name = names[argument.name]
  for node in function.node_def:
    node.name = names[node.name]
    node.input[:] = map(renamed, node.input)
  for returned in (function.ret, function.control_ret):
    for key in list(returned):
      returned[key] = renamed(returned[key])


def _rename(nodes: list[Any], functions: list[Any], label: str) -> None:
  """Gives functions names that follow from what they compute, in place."""
  # TensorFlow numbers functions through the process: in order, and without names, they are the
  # same in every run.
  functions.sort(key=lambda function: int(function.signature.name.rpartition("_")[2]))
  numbers = {function.signature.name: str(i) for i, function in enumerate(functions)}
  _replace_names(nodes, functions, numbers)
  content = b"".join(function.SerializeToString(deterministic=True) for function in functions)
  digest = hashlib.sha256(content).hexdigest()[:16]
  names = {str(i): f"__inference_{label}_{digest}_{i}" for i in range(len(functions))}
  _replace_names(nodes, functions, names)


def _replace_names(nodes: list[Any], functions: list[Any], names: dict[str, str]) -> None:
  for function in functions:
    function.signature.name = names[function.signature.name]
  for node in [*nodes, *(node for function in functions for node in function.node_def)]:
    for value in node.attr.values():
      for called in [value.func] if value.WhichOneof("value") == "func" else value.list.func:
        called.name = names[called.name]
