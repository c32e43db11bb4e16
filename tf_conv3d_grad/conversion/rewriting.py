"""A MetaGraphDef with what a CPU refuses in it rewritten."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Union

from tf_conv3d_grad.conversion import calls, compiled_functions, graphs, refusals
from tf_conv3d_grad.conversion.calls import Call
from tf_conv3d_grad.conversion.convolutions import Convolution
from tf_conv3d_grad.conversion.errors import ModelError
from tf_conv3d_grad.conversion.graphs import Node
from tf_conv3d_grad.conversion.poolings import Pooling
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.environment import Environment

FUNCTION, DEVICE = "function", "device"
_Operation = Union[Convolution, Pooling]


@dataclasses.dataclass(frozen=True)
class Change:
  """What was changed: a node that was rewritten, unless `op` says otherwise.

  Attributes:
    op: The node's operation; `FUNCTION` for a function that is no longer compiled, `DEVICE` for a
      node that is no longer to run on a GPU.
    name: The name.
    function: The function that a node is in; empty for the main graph.
    caller: One of the nodes that call the function, if there are any.
    reason: Why a CPU refuses the node.
    shape: What is known of the shape of the node's result, as text.
    dtype: The name of its dtype.
  """

  op: str
  name: str
  function: str = ""
  caller: str = ""
  reason: str = ""
  shape: str = ""
  dtype: str = ""

  @property
  def is_rewritten(self) -> bool:
    """Whether it is a node that was rewritten."""
    return self.op not in (FUNCTION, DEVICE)

  @property
  def place(self) -> str:
    """Where the node is, for people: Keras's functions of single layers are all named alike."""
    return "/".join(filter(None, [self.caller.rpartition("/")[0], self.name]))


def convert(meta_graph: Any) -> list[Change]:
  """Rewrites what a CPU refuses, in place, and returns what was changed.

  Args:
    meta_graph: A MetaGraphDef.

  Raises:
    ModelError: If something in it is malformed.
  """
  undone = compiled_functions.undo(meta_graph)
  changes = [Change(FUNCTION, name) for name in sorted(undone)]
  return changes + _unpin(meta_graph) + _rewrite(meta_graph, refusals.ANY_CPU, is_compiled=False)


def compile_refused(meta_graph: Any, environment: Environment) -> list[Change]:
  """Has XLA compile what the CPU refuses, in place, and returns what was changed.

  So the model runs here, and computes what it was made to.

  Args:
    meta_graph: A MetaGraphDef.
    environment: What is known of the CPU.

  Raises:
    ModelError: If something in it is malformed.
  """
  return _unpin(meta_graph) + _rewrite(meta_graph, environment, is_compiled=True)


def without_kernel(meta_graph: Any) -> list[str]:
  """Returns the nodes, in words, that no CPU runs and nothing here rewrites."""
  uncompiled = compiled_functions.uncompiled(graphs.of(meta_graph))
  return [
    str(node) for graph in uncompiled for node in graph.nodes if refusals.has_no_kernel(node)
  ]


def _unpin(meta_graph: Any) -> list[Change]:
  """Lets nodes run on any device that were made for a GPU, in place."""
  changes = []
  for graph in graphs.of(meta_graph):
    for node in graph.nodes:
      if "GPU:" in node.definition.device.upper():
        node.definition.device = ""
        changes.append(Change(DEVICE, node.name, graph.name))
  return changes


def _rewrite(meta_graph: Any, environment: Environment, is_compiled: bool) -> list[Change]:
  all_graphs = graphs.of(meta_graph)
  has_right_shapes = not any(_infers_wrong_shape(node) for g in all_graphs for node in g.nodes)
  callers = {name: node.name for g in all_graphs for node in g.nodes for name in node.calls()}
  # First all is read: shapes of nodes are those of others' inputs.
  changes, traced, replaced = [], {}, []
  for graph in compiled_functions.uncompiled(all_graphs):
    if graph.function is not None and calls.is_traced_here(graph.function):
      continue
    graph.has_right_shapes = has_right_shapes
    for node in graph.nodes:
      reason = refusals.reason(node, environment)
      if reason is None:
        continue
      operation = _operation(node)
      if operation not in traced:
        traced[operation] = _traced(operation, node, is_compiled)
      replaced.append((node, traced[operation]))
      changes.append(_change(node, callers.get(graph.name, ""), reason))
  for node, call in replaced:
    call.put_in_place_of(node.definition)
  _add(meta_graph, {call.node.attr["f"].func.name: call for call in traced.values()}.values())
  return changes


def _infers_wrong_shape(node: Node) -> bool:
  return node.op in refusals.CONVOLUTIONS and private.infers_wrong_shape(
    node.text("padding", ""), refusals.spatial(node, "dilations")
  )


def _operation(node: Node) -> _Operation:
  return Convolution.of(node) if node.op in refusals.CONVOLUTIONS else Pooling.of(node)


def _traced(operation: _Operation, node: Node, is_compiled: bool) -> Call:
  try:
    operation.check()
    if is_compiled:
      return calls.trace(operation.as_it_was, operation.signature, operation.label, True)
    return calls.trace(operation, operation.signature, operation.label)
  except Exception as error:  # Sizes that no tensor has end in errors of many types.
    message = str(error).partition("\n")[0] or type(error).__name__
    raise ModelError(f"{node} cannot be valid: {message}") from None


def _add(meta_graph: Any, new: Iterable[Call]) -> None:
  """Adds the functions of calls to a model's library, and their operations to its list."""
  library = meta_graph.graph_def.library.function
  names = {function.signature.name for function in library}
  operations = meta_graph.meta_info_def.stripped_op_list.op
  listed = {operation.name for operation in operations}
  for call in new:
    for function in call.functions:
      if function.signature.name not in names:
        library.add().CopyFrom(function)
    # A model that lists none is read as one that has the operations of whoever reads it.
    operations.extend(each for each in call.operations if listed and each.name not in listed)
    listed.update(each.name for each in call.operations if listed)


def _change(node: Node, caller: str, reason: str) -> Change:
  lengths = node.shape
  dtype = node.dtype()
  return Change(
    op=node.op,
    name=node.name,
    function=node.graph.name,
    caller=caller,
    reason=reason,
    shape="" if lengths is None else "x".join("?" if n is None else str(n) for n in lengths),
    dtype=dtype.name if dtype else "",
  )
