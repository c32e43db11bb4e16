"""A node of a 3-D pooling in the form that TensorFlow's CPU kernels take."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.conversion import refusals
from tf_conv3d_grad.conversion.graphs import Node
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT, rearranged

# The names of the inputs. One that is no volume is the shape of one.
_INPUTS: dict[str, tuple[str, ...]] = {
  "MaxPool3D": ("input",),
  "AvgPool3D": ("input",),
  "MaxPool3DGrad": ("orig_input", "orig_output", "grad"),
  "AvgPool3DGrad": ("orig_input_shape", "grad"),
  "MaxPool3DGradGrad": ("orig_input", "orig_output", "grad"),
}
_MOST_CELLS = 2**62
_INT32_MAX = 2**31 - 1
_SHAPE = "orig_input_shape"


@dataclasses.dataclass(frozen=True)
class Pooling:
  """What a node computes. It is called with the node's inputs.

  Attributes:
    op: The operation's name.
    data_format: "NDHWC" or "NCDHW".
    padding: "SAME" or "VALID".
    ksize: The lengths of the window.
    strides: The strides.
    dtype: The dtype of its volumes.
    shapes: Of each input what is known of its shape, None if not even the rank is.
  """

  op: str
  data_format: str
  padding: str
  ksize: tuple[int, int, int]
  strides: tuple[int, int, int]
  dtype: tf.DType
  shapes: tuple[Any, ...]

  @classmethod
  def of(cls, node: Node) -> Pooling:
    """Returns what a node computes.

    Raises:
      ModelError: If its attributes are malformed.
    """
    shapes = [
      (5,) if name == _SHAPE else refusals.shape_of_volume(node, node.input_shape(place))
      for place, name in enumerate(_INPUTS[node.op])
    ]
    return cls(
      op=node.op,
      data_format=node.text("data_format", NDHWC),
      padding=refusals.padding(node),
      ksize=refusals.spatial(node, "ksize"),
      strides=refusals.spatial(node, "strides"),
      dtype=node.dtype(),
      shapes=tuple(shapes),
    )

  @property
  def label(self) -> str:
    """A name for the function that computes it."""
    return f"{self.op}_{self.data_format}_{self.dtype.name}".lower()

  @property
  def signature(self) -> list[tf.TensorSpec]:
    """What the node's inputs are."""
    return [
      tf.TensorSpec(shape, tf.int32 if name == _SHAPE else self.dtype)
      for name, shape in zip(_INPUTS[self.op], self.shapes)
    ]

  def check(self) -> None:
    """Checks what is known: TensorFlow ends the process over some shapes that no tensor has.

    Raises:
      ValueError: If there are no such tensors.
    """
    for shape in self.shapes:
      if math.prod(length for length in shape if length is not None) > _MOST_CELLS:
        raise ValueError(f"its tensors must have at most {_MOST_CELLS} values, got {shape}")
    if max(*self.ksize, *self.strides) > _INT32_MAX:
      raise ValueError(f"ksize and strides must be at most {_INT32_MAX}")

  def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
    """Returns the result, computed with channels last, and halves in float32."""
    given, wanted = OF_DATA_FORMAT[self.data_format], OF_DATA_FORMAT[NDHWC]
    dtype = tf.float32 if self.dtype == tf.float16 else self.dtype
    tensors = {}
    for name, tensor in zip(_INPUTS[self.op], inputs):
      if name == _SHAPE:
        order = wanted.arranged(given.batch, given.spatial, given.channels)
        tensors[name] = tf.gather(tensor, order)
      else:
        tensors[name] = tf.cast(rearranged(tensor, given, wanted), dtype)
    return rearranged(tf.cast(self._raw(NDHWC, tensors), self.dtype), wanted, given)

  def as_it_was(self, *inputs: tf.Tensor) -> tf.Tensor:
    """Returns the result of TensorFlow's own operation."""
    return self._raw(self.data_format, dict(zip(_INPUTS[self.op], inputs)))

  def _raw(self, data_format: str, tensors: dict[str, tf.Tensor]) -> tf.Tensor:
    layout = OF_DATA_FORMAT[data_format]
    return getattr(tf.raw_ops, self.op)(
      **tensors,
      ksize=layout.arranged(1, self.ksize, 1),
      strides=layout.arranged(1, self.strides, 1),
      padding=self.padding,
      data_format=data_format,
    )
