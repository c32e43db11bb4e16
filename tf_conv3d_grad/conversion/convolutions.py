"""A node of one of the three convolutions, as this package computes it."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conversion import refusals
from tf_conv3d_grad.conversion.graphs import Node
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions, sizes
from tf_conv3d_grad.problem.axis import output_length
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import CONV3D, FILTER, INPUT, OUTPUT
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT
from tf_conv3d_grad.tensorflow import memory, private

# The tensors of a convolution, in the order in which its operations take those that they take. In
# the place of its result an operation takes that one's sizes, and `Conv3D` takes nothing.
_ROLES = (INPUT, FILTER, OUTPUT)
_Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Convolution:
  """What a node computes, as far as it is known. It is called with the node's inputs.

  Attributes:
    op: The operation's name.
    attributes: Its attributes.
    dtype: The dtype of its tensors.
    sizes_dtype: The dtype of its result's sizes, if it takes them.
    shapes: Of input, filter and output what is known: integers, and None for the rest.
    shows_shape: Whether the shape of the result may be inferred. Where others are recorded wrong,
      TensorFlow would find that they disagree.
  """

  op: str
  attributes: Attributes
  dtype: tf.DType
  sizes_dtype: tf.DType
  shapes: tuple[_Shape, _Shape, _Shape]
  shows_shape: bool

  @classmethod
  def of(cls, node: Node) -> Convolution:
    """Returns what a node computes.

    Raises:
      ModelError: If its attributes are malformed.
    """
    result = refusals.CONVOLUTIONS[node.op].result
    shapes = []
    for place, role in enumerate(_ROLES):
      known = node.shape if role == result else node.input_shape(place)
      if role == FILTER:
        shapes.append(tuple(known) if known is not None and len(known) == 5 else (None,) * 5)
      else:
        shapes.append(refusals.shape_of_volume(node, known))
    return cls(
      op=node.op,
      attributes=Attributes(
        node.text("data_format", NDHWC),
        refusals.padding(node),
        refusals.spatial(node, "strides"),
        refusals.spatial(node, "dilations"),
      ),
      dtype=node.dtype(),
      sizes_dtype=node.dtype("Tshape") or tf.int32,
      shapes=(shapes[0], shapes[1], shapes[2]),
      shows_shape=node.graph.has_right_shapes,
    )

  @property
  def label(self) -> str:
    """A name for the function that computes it."""
    return f"{self.op}_{self.attributes.data_format}_{self.dtype.name}".lower()

  @property
  def signature(self) -> list[tf.TensorSpec]:
    """What the node's inputs are."""
    function = refusals.CONVOLUTIONS[self.op]
    return [
      tf.TensorSpec([5], self.sizes_dtype)
      if role == function.result
      else tf.TensorSpec(shape, self.dtype)
      for role, shape in zip(_ROLES, self.shapes)
      if (role, function) != (OUTPUT, CONV3D)
    ]

  def check(self) -> None:
    """Checks what is known: TensorFlow ends the process over some shapes that no tensor has.

    Raises:
      ValueError: If there is no such call.
    """
    function = refusals.CONVOLUTIONS[self.op]
    with tf.Graph().as_default():
      given: dict[str, Any] = {
        function.argument(role): tf.compat.v1.placeholder(self.dtype, shape)
        for role, shape in zip(_ROLES, self.shapes)
        if role in function.operands
      }
      if function is not CONV3D:
        known = self.shapes[_ROLES.index(function.result)]
        length = tf.compat.v1.placeholder(tf.int64, [])
        given[function.asked_by] = tf.stack([length if n is None else n for n in known])
      validation.validate(function, **given, **self.attributes.arguments())

  def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
    """Returns the result, computed by operations that every CPU runs."""
    function = refusals.CONVOLUTIONS[self.op]
    tensors = dict(zip(_ROLES, inputs))
    shapes = {
      role: sizes.shape_of(tensor)
      for role, tensor in tensors.items()
      if role != function.result
    }
    known = self.shapes[_ROLES.index(function.result)]
    if function is CONV3D:
      shapes[OUTPUT] = self._output_shape(shapes[INPUT], shapes[FILTER])
    else:
      asked = tf.cast(tensors[function.result], tf.int64)
      shapes[function.result] = [
        asked[place] if length is None else length for place, length in enumerate(known)
      ]
    problem = Problem.of_shapes(
      self.dtype, self.attributes, shapes[FILTER], shapes[INPUT], shapes[OUTPUT]
    )
    offer = policy.choose(function, problem, refusals.ANY_CPU)
    operands = [tensors[name] for name in function.operands]
    with memory.unprobed():
      result = offer.lowering.prepared(function, problem, offer.plan)(*operands)
    if not self.shows_shape:
      return tf.raw_ops.PlaceholderWithDefault(input=result, shape=[None] * 5)
    result.set_shape(sizes.static(functions.shape(function.result, problem)))
    return result

  def _output_shape(self, of_input: list, of_filter: list) -> list:
    _, padding, strides, dilations = self.attributes
    layout = OF_DATA_FORMAT[self.attributes.data_format]
    batch, lengths, _ = layout.split(of_input)
    axes = zip(lengths, of_filter, strides, dilations)
    outputs = [output_length(n, k, s, d, padding) for n, k, s, d in axes]
    return layout.arranged(batch, outputs, of_filter[4])

  def as_it_was(self, *inputs: tf.Tensor) -> tf.Tensor:
    """Returns the result of TensorFlow's own operation."""
    function = refusals.CONVOLUTIONS[self.op]
    names = [
      function.asked_by if role == function.result else function.argument(role) for role in _ROLES
    ]
    return private.raw_op(self.op)(**dict(zip(names, inputs)), **self.attributes.arguments())
