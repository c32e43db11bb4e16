"""Reading a SavedModel, and writing another that has the same variables and assets."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from tf_conv3d_grad.conversion.errors import ModelError
from tf_conv3d_grad.tensorflow import private

GRAPHS = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"
_SCHEMA_VERSION = 1
# A protocol buffer holds no more.
_MOST_BYTES = 2**31 - 1
_FOREIGN = {
  "saved_model.cpb": "a SavedModel in several chunks, which is not supported",
  "saved_model.pbtxt": "a SavedModel in text form, which is not supported",
}


def read(folder: pathlib.Path) -> Any:
  """Returns the protocol buffer of a SavedModel.

  Args:
    folder: The SavedModel's.

  Raises:
    ModelError: If there is none, or none that can be read.
  """
  path = folder / GRAPHS
  if not path.is_file():
    raise ModelError(_instead(folder))
  size = path.stat().st_size
  if size > _MOST_BYTES:
    raise ModelError(f"{path} must be at most {_MOST_BYTES} bytes, got {size}")
  model = private.new_saved_model()
  try:
    model.ParseFromString(path.read_bytes())
  except DecodeError:
    raise ModelError(f"{path} is not the graph of a SavedModel, or is damaged") from None
  if model.saved_model_schema_version != _SCHEMA_VERSION or not model.meta_graphs:
    raise ModelError(
      f"{path} must be a SavedModel of version {_SCHEMA_VERSION} with a graph, got version "
      f"{model.saved_model_schema_version} with {len(model.meta_graphs)}"
    )
  return model


def _instead(folder: pathlib.Path) -> str:
  """Returns what is wrong with a path that is not a SavedModel's."""
  if folder.suffix in (".keras", ".h5", ".hdf5") and folder.is_file():
    return (
      f"{folder} is a file of Keras's and no SavedModel: load it with keras.saving.load_model, and "
      "use it with tf_conv3d_grad.patch_tensorflow(), or export it and convert what is exported"
    )
  for name, what in _FOREIGN.items():
    if (folder / name).exists():
      return f"{folder} is {what}"
  if not folder.exists():
    return f"there is no {folder}"
  return f"{folder} is no SavedModel: it has no file {GRAPHS}"


def require_free(destination: pathlib.Path) -> None:
  """Checks that nothing is where a model is to be written.

  Raises:
    ModelError: If something is.
  """
  if os.path.lexists(destination):
    raise ModelError(f"{destination} exists already")


@contextlib.contextmanager
def beside(destination: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder beside a destination that is there while the block runs.

  Raises:
    ModelError: If no folder can be made there.
  """
  try:
    folder = tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.absolute().parent)
  except OSError as error:
    raise ModelError(f"cannot write beside {destination}: {error.strerror}") from None
  try:
    yield pathlib.Path(folder)
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def write(model: Any, source: pathlib.Path, folder: pathlib.Path, linked: bool = False) -> None:
  """Writes a SavedModel into a new folder.

  Args:
    model: Its protocol buffer.
    source: The SavedModel that everything else is of.
    folder: The folder, which must not exist.
    linked: Whether files are to be linked to, where that can be, instead of copied.

  Raises:
    ModelError: If the model is too large to be one, or a file is none that can be copied.
  """
  try:
    graphs = model.SerializeToString(deterministic=True)
  except (EncodeError, ValueError):
    raise ModelError(f"the converted graph is larger than {_MOST_BYTES} bytes") from None
  copy(source, folder, without=(GRAPHS, _FINGERPRINT), linked=linked)
  (folder / GRAPHS).write_bytes(graphs)
  if (source / _FINGERPRINT).exists():
    # That of the source would be another model's. Without one a model loads as well.
    private.write_fingerprint(str(folder))


def copy(
  source: pathlib.Path, folder: pathlib.Path, without: Sequence[str] = (), linked: bool = False
) -> None:
  """Copies a folder.

  Args:
    source: The folder.
    folder: The copy, which must not exist.
    without: Names of files that are left out.
    linked: Whether files are to be linked to, where that can be, instead of copied.

  Raises:
    ModelError: If a file is none that can be copied.
  """
  try:
    shutil.copytree(
      source,
      folder,
      ignore=shutil.ignore_patterns(*without),
      copy_function=_link if linked else shutil.copy2,
    )
  except shutil.Error as error:
    _, _, what = error.args[0][0]
    raise ModelError(f"cannot copy {source}: {what}") from None
  for path, _, _ in os.walk(folder):  # a model may be in folders that nobody may write into
    os.chmod(path, os.stat(path).st_mode | stat.S_IRWXU)


def _link(source: str, destination: str) -> None:
  try:
    os.symlink(os.path.abspath(source), destination)
  except (OSError, NotImplementedError):  # Windows allows it to some only
    shutil.copy2(source, destination)


def publish(folder: pathlib.Path, destination: pathlib.Path) -> None:
  """Gives a finished SavedModel its place.

  Raises:
    ModelError: If something else has taken it.
  """
  require_free(destination)
  folder.rename(destination)
