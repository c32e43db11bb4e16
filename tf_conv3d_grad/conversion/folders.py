"""A SavedModel converted, from folder to folder."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from tf_conv3d_grad.conversion import comparison, files, rewriting
from tf_conv3d_grad.conversion.comparison import Signature
from tf_conv3d_grad.conversion.errors import ModelError
from tf_conv3d_grad.conversion.rewriting import Change
from tf_conv3d_grad.tensorflow.environment import Environment


@dataclasses.dataclass(frozen=True)
class Converted:
  """A converted model that has not got its place yet.

  Attributes:
    changes: What was changed.
    left: The nodes, in words, that no CPU runs and that stay as they are.
    signatures: What can be called in it.
    original: A folder with the model as it was, which runs here.
    folder: A folder with the converted model.
    publish: Gives the converted model its place.
  """

  changes: Sequence[Change]
  left: Sequence[str]
  signatures: Sequence[Signature]
  original: pathlib.Path
  folder: pathlib.Path
  publish: Callable[[], None]


@contextlib.contextmanager
def convert(source: pathlib.Path, destination: pathlib.Path) -> Iterator[Converted]:
  """Converts a SavedModel. Unless it is published in the block, nothing is left of it.

  Args:
    source: The folder of the SavedModel.
    destination: A folder to be made.

  Raises:
    ModelError: If the model is malformed, or the destination exists.
  """
  files.require_free(destination)
  if source.resolve() in destination.absolute().resolve().parents:
    raise ModelError(f"{destination} must not be inside of {source}")
  model = files.read(source)
  runnable = type(model)()
  runnable.CopyFrom(model)
  changes: list[Change] = []
  for meta_graph in model.meta_graphs:
    changes += rewriting.convert(meta_graph)
  if changes:
    for meta_graph in runnable.meta_graphs:
      rewriting.compile_refused(meta_graph, _here())
  with files.beside(destination) as folder:
    if changes:
      files.write(runnable, source, folder / "original", linked=True)
      files.write(model, source, folder / "converted")
    else:  # to the byte
      files.copy(source, folder / "converted")
    yield Converted(
      changes,
      [each for meta_graph in model.meta_graphs for each in rewriting.without_kernel(meta_graph)],
      [each for meta_graph in model.meta_graphs for each in comparison.signatures(meta_graph)],
      folder / "original",
      folder / "converted",
      lambda: files.publish(folder / "converted", destination),
    )


def _here() -> Environment:
  """Returns this machine's CPU, whatever else it has."""
  return dataclasses.replace(Environment.here(tf.bfloat16), device="CPU")
