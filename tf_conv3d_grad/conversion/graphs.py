"""The nodes of a MetaGraphDef: in its main graph and in the functions of its library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

# A saved node lacks what its operation has for a default.
_DEFAULT_DTYPES = {("MaxPool3DGrad", "T"): tf.float32}


class Node:
  """A node, with what is known of it.

  Attributes:
    definition: Its NodeDef.
    graph: The `Graph` that it is in.
  """

  def __init__(self, definition: Any, graph: Graph) -> None:
    self.definition = definition
    self.graph = graph

  def __str__(self) -> str:
    place = f" of function {self.graph.name}" if self.graph.name else ""
    return f"{self.op} {self.name}{place}"

  @property
  def op(self) -> str:
    """The name of its operation."""
    return self.definition.op

  @property
  def name(self) -> str:
    """Its own name."""
    return self.definition.name

  def dtype(self, attribute: str = "T") -> tf.DType | None:
    """Returns an attribute that is a dtype, None if there is none."""
    if attribute not in self.definition.attr:
      return _DEFAULT_DTYPES.get((self.op, attribute))
    number = self.definition.attr[attribute].type
    try:
      return tf.as_dtype(number)
    except TypeError:
      return None

  def text(self, attribute: str, default: str) -> str:
    """Returns an attribute that is a string."""
    if attribute not in self.definition.attr:
      return default
    return self.definition.attr[attribute].s.decode(errors="replace")

  def integers(self, attribute: str, default: list[int]) -> list[int]:
    """Returns an attribute that is a list of integers."""
    if attribute not in self.definition.attr:
      return default
    return list(self.definition.attr[attribute].list.i)

  @property
  def data_inputs(self) -> list[str]:
    """Its inputs that are tensors."""
    return [each for each in self.definition.input if not each.startswith("^")]

  def input_shape(self, place: int) -> list[int | None] | None:
    """Returns what is known of an input's shape, None if not even the rank is."""
    inputs = self.data_inputs
    return self.graph.shape(inputs[place]) if place < len(inputs) else None

  @property
  def shape(self) -> list[int | None] | None:
    """What is known of its first output's shape."""
    return _shape(_recorded(self.definition.attr), 0)

  def calls(self) -> list[str]:
    """Returns the names of the functions that it may call."""
    names = []
    for value in self.definition.attr.values():
      kind = value.WhichOneof("value")
      if kind == "func":
        names.append(value.func.name)
      elif kind == "list":
        names += [function.name for function in value.list.func]
    return names


class Graph:
  """The main graph, or a function.

  Attributes:
    name: The function's name; empty for the main graph.
    nodes: Its nodes.
    has_right_shapes: Whether the lengths that are recorded of volumes can be relied on.
  """

  def __init__(self, meta_graph: Any, function: Any = None) -> None:
    """Views a graph of a MetaGraphDef: the main one, or that of one of its FunctionDefs."""
    self.function = function
    self.name = "" if function is None else function.signature.name
    self._operations = {op.name: op for op in meta_graph.meta_info_def.stripped_op_list.op}
    definitions = meta_graph.graph_def.node if function is None else function.node_def
    self.nodes = [Node(definition, self) for definition in definitions]
    self._by_name = {node.name: node for node in self.nodes}
    # See `private.infers_wrong_shape`: such shapes may be recorded, and those of what follows.
    self.has_right_shapes = True

  def is_marked(self, attribute: str) -> bool:
    """Returns whether it is a function with an attribute that is true."""
    attributes = {} if self.function is None else self.function.attr
    return attribute in attributes and attributes[attribute].b

  def shape(self, tensor: str) -> list[int | None] | None:
    """Returns what was recorded of a tensor's shape when the model was saved.

    Args:
      tensor: As an input of a node names it.
    """
    name, *place = tensor.split(":")
    node = self._by_name.get(name)
    if node is not None:
      return _shape(_recorded(node.definition.attr), self._index(node, place))
    if self.function is None:
      return None
    for number, argument in enumerate(self.function.signature.input_arg):
      if argument.name == name:
        return _shape(_recorded(self.function.arg_attr[number].attr), 0)
    return None

  def _index(self, node: Node, place: list[str]) -> int | None:
    """Returns which of a node's outputs "node", "node:1" or in a function "node:output:1" is."""
    number = place[-1] if place else "0"
    if len(place) > 2 or not number.isdecimal():
      return None
    if len(place) < 2:
      return int(number)
    name, first = place[0], 0
    operation = self._operations.get(node.op)
    for output in operation.output_arg if operation else ():
      if output.name == name:
        return first + int(number)
      if output.number_attr or output.type_list_attr:
        return None
      first += 1
    return int(number) if len(_recorded(node.definition.attr)) == 1 else None


def of(meta_graph: Any) -> list[Graph]:
  """Returns the main graph of a MetaGraphDef, and the functions of its library."""
  library = meta_graph.graph_def.library.function
  return [Graph(meta_graph), *(Graph(meta_graph, function) for function in library)]


def reached(graphs: Iterable[Graph], start: Iterable[str]) -> Iterator[Graph]:
  """Yields some graphs, and all that they call, each once.

  Args:
    graphs: All that there are.
    start: The names of those to begin with.
  """
  by_name = {graph.name: graph for graph in graphs}
  waiting, seen = list(start), set()
  while waiting:
    graph = by_name.get(waiting.pop())
    if graph is None or graph.name in seen:
      continue
    seen.add(graph.name)
    yield graph
    waiting += [name for node in graph.nodes for name in node.calls()]


def _recorded(attributes: Any) -> Any:
  return attributes["_output_shapes"].list.shape if "_output_shapes" in attributes else []


def _shape(shapes: Any, index: int | None) -> list[int | None] | None:
  if index is None or index >= len(shapes) or shapes[index].unknown_rank:
    return None
  return [None if dimension.size < 0 else dimension.size for dimension in shapes[index].dim]
