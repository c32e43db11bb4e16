"""Makes Keras's 3-D convolutions call `tf.nn.convolution` instead of compiling each call.

TensorFlow's CPU kernels refuse 3-D convolutions with channels first and grouped ones. So Keras
makes a new `tf.function(jit_compile=True)` at every call of one. The ops of this package take them.
With the patch on, Keras's function and tf_keras's method call `tf.nn.convolution`, which is
compiled where the model is.

Keras adds a layer's bias along the width, channels first, where the result is as wide as it has
channels. That is mended here as well, or an eager call and a graph would differ: in a graph
TensorFlow's optimizer joins bias and convolution, and adds along the channels.

Keras is not imported here. It may be imported before `patch_tensorflow` or after it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import tensorflow as tf

try:
  import wrapt as _wrapt
except ImportError:  # though it is a dependency of TensorFlow's
  wrapt: Any = None
else:
  wrapt = _wrapt

_FORMATS = {"channels_last": "NDHWC", "channels_first": "NCDHW"}


@contextlib.contextmanager
def replaced() -> Iterator[None]:
  """Where Keras's and tf_keras's convolutions call `tf.nn.convolution` directly.

  That is for all threads, and for a Keras that is imported within, too.
  """
  global _undo
  _await_imports()
  with contextlib.ExitStack() as undo:
    try:
      with _lock:
        _undo = undo
        for name in _REPLACE:
          if name in sys.modules and not _is_being_imported(name):
            _apply(name, sys.modules[name])
      yield
    finally:
      with _lock:
        _undo = None
        _done.clear()
        undo.close()


# What undoes the replacements; None while there are none.
_undo: contextlib.ExitStack | None = None
_done: set[str] = set()  # the packages they were made in
_awaited: set[str] = set()  # those with a hook
# Never held while a module is imported, or while another lock is taken: hooks run under Python's.
_lock = threading.RLock()


def _await_imports() -> None:
  """Has `_apply` called with each package that is imported from now on."""
  missing = [name for name in _REPLACE if name not in sys.modules and name not in _awaited]
  if missing and wrapt is None:
    _warn("there is no wrapt", "a Keras that is imported later stays as it is")
    _awaited.update(missing)  # once
    return
  for name in missing:
    _awaited.add(name)
    wrapt.register_post_import_hook(_imported, name)
  for name in _REPLACE:
    if _is_being_imported(name) and name not in _awaited:
      importlib.import_module(name)  # by another thread: this waits for it


def _is_being_imported(name: str) -> bool:
  return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


def _imported(package: ModuleType) -> None:
  with _lock:
    _apply(package.__name__, package)


def _apply(name: str, package: ModuleType) -> None:
  """Replaces a package's convolution, if that is wanted and not done."""
  if _undo is None or name in _done:
    return
  _done.add(name)
  for owner, attribute, replacement in _REPLACE[name](package):
    _undo.callback(setattr, owner, attribute, vars(owner)[attribute])
    setattr(owner, attribute, tf.autograph.experimental.do_not_convert(replacement))


# What to replace: owner, name and replacement.
_Replacements = Iterator[tuple[Any, str, Callable[..., Any]]]


def _keras(package: ModuleType) -> _Replacements:
  """Yields what to replace in Keras 3."""
  try:
    if package.config.backend() != "tensorflow":
      return
    nn = sys.modules["keras.src.backend.tensorflow.nn"]
    yield nn, "conv", _conv(package, nn.conv)
  except (AttributeError, KeyError):
    _warn(
      f"Keras {_version(package)} has no keras.src.backend.tensorflow.nn.conv",
      "it compiles 3-D convolutions with channels first or groups by themselves, as it did",
    )
  try:
    numpy = sys.modules["keras.src.backend.tensorflow.numpy"]
    yield numpy, "add", _add(numpy.add)
  except (AttributeError, KeyError):
    _warn(
      f"Keras {_version(package)} has no keras.src.backend.tensorflow.numpy.add",
      "a bias with channels first is added as it was",
    )


def _conv(package: ModuleType, original: Callable[..., Any]) -> Callable[..., Any]:
  """Returns Keras's convolution without the compilation of its own."""

  @functools.wraps(original)
  def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
  ) -> Any:
    form = _FORMATS.get(str(data_format or package.config.image_data_format()))
    if form is not None and isinstance(padding, str) and _is_volume(inputs):
      result = tf.nn.convolution(
        inputs, kernel, strides, padding.upper(), data_format=form, dilations=dilation_rate
      )
      if result.shape.num_elements() != 0:
        return result
      inputs = tf.convert_to_tensor(inputs)  # Keras asks it for its shape
    # Another rank; or an empty result, which versions of Keras refuse or not.
    return original(inputs, kernel, strides, padding, data_format, dilation_rate)

  return conv


def _add(original: Callable[..., Any]) -> Callable[..., Any]:
  """Returns Keras's addition, which takes a vector along the channels for what it is."""

  @functools.wraps(original)
  def add(x1: Any, x2: Any) -> Any:
    if _is_volume(x1) and _is_volume(x2) and x1.dtype == x2.dtype and x1.shape[1] is not None:
      channels = x1.shape[1]
      # Keras asks first whether the vector is as long as the last axis, and adds along that.
      if x1.shape[4] == channels and tuple(x2.shape) == (1, channels, 1, 1, 1):
        return tf.nn.bias_add(x1, tf.reshape(x2, [channels]), data_format="NCDHW")
    return original(x1, x2)

  return add


def _tf_keras(package: ModuleType) -> _Replacements:
  """Yields what to replace in tf_keras, which is Keras 2."""
  name = "_jit_compiled_convolution_op"
  try:
    owner = sys.modules["tf_keras.src.layers.convolutional.base_conv"].Conv
    original = vars(owner)[name]
  except (AttributeError, KeyError):
    _warn(
      f"tf_keras {_version(package)} has no Conv.{name}",
      "it compiles grouped 3-D convolutions by themselves, as it did",
    )
    return

  def convolution_op(self: Any, inputs: Any, kernel: Any) -> Any:
    if self.rank == 3:
      return self.convolution_op(inputs, kernel)
    return original.__get__(self, type(self))(inputs, kernel)

  yield owner, name, convolution_op


_REPLACE: dict[str, Callable[[ModuleType], _Replacements]] = {
  "keras": _keras,
  "tf_keras": _tf_keras,
}


def _is_volume(inputs: Any) -> bool:
  """Returns whether a tensor has three spatial axes, beside its batch and its channels."""
  try:
    return len(inputs.shape) == 5
  except (AttributeError, TypeError, ValueError):  # no tensor, or one of unknown rank
    return False


def _version(package: ModuleType) -> str:
  return str(getattr(package, "__version__", "without a version"))


def _warn(what: str, consequence: str) -> None:
  warnings.warn(f"tf_conv3d_grad: {what}; {consequence}", stacklevel=2)
