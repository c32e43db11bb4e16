"""Functions that XLA compiles only because TensorFlow's CPU kernels would refuse what is in them.

Keras compiles each 3-D convolution with channels first, and each grouped one, for itself. On a CPU
that is slow, and what is compiled is not fused with what is around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tf_conv3d_grad.conversion import graphs, refusals
from tf_conv3d_grad.conversion.graphs import Graph

_MARK = "_XlaMustCompile"
# TensorFlow sets it with the mark: XLA is to see a call.
_NOT_INLINED = "_noinline"


def undo(meta_graph: Any) -> set[str]:
  """Has functions no longer compiled, of those that need not be.

  That is where something in them is refused uncompiled which can be rewritten, and nothing has no
  kernel at all.

  Args:
    meta_graph: A MetaGraphDef, which is changed in place.

  Returns:
    The names of the functions.
  """
  all_graphs = graphs.of(meta_graph)
  undone = set()
  for name in _compiled(all_graphs):
    nodes = [node for graph in graphs.reached(all_graphs, [name]) for node in graph.nodes]
    if any(map(refusals.reason, nodes)) and not any(map(refusals.has_no_kernel, nodes)):
      undone.add(name)
  for graph in all_graphs:
    if graph.name in undone:
      _unmark(graph.function, _MARK, _NOT_INLINED)
    for node in graph.nodes:
      if undone.intersection(node.calls()):
        _unmark(node.definition, _MARK)
  for each in meta_graph.object_graph_def.nodes:
    # What is loaded is a function around these, which would be compiled with all in it.
    if undone.intersection(each.function.concrete_functions):
      each.function.function_spec.ClearField("jit_compile")
  return undone


def uncompiled(all_graphs: Sequence[Graph]) -> list[Graph]:
  """Returns the graphs that run outside of functions that XLA compiles."""
  compiled = _compiled(all_graphs)
  called = {name for graph in all_graphs for node in graph.nodes for name in node.calls()}
  start = [graph.name for graph in all_graphs if graph.name not in called | compiled]
  reached = set()
  while start:
    name = start.pop()
    if name in reached or name in compiled:
      continue
    reached.add(name)
    start += [
      called for graph in all_graphs if graph.name == name
      for node in graph.nodes if not _is_marked(node.definition) for called in node.calls()
    ]  # fmt: skip
  return [graph for graph in all_graphs if graph.name in reached]


def _compiled(all_graphs: Iterable[Graph]) -> set[str]:
  """Returns the names of the functions that are marked, or are called by marked nodes."""
  names = set()
  for graph in all_graphs:
    if graph.is_marked(_MARK):
      names.add(graph.name)
    names.update(name for node in graph.nodes if _is_marked(node.definition)
                 for name in node.calls())  # fmt: skip
  return names


def _is_marked(definition: Any) -> bool:
  return _MARK in definition.attr and definition.attr[_MARK].b


def _unmark(definition: Any, *attributes: str) -> None:
  for attribute in attributes:
    definition.attr.pop(attribute, None)
