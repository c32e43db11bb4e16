"""Puts the ops in the place of TensorFlow's own, and takes them out again.

Everything in TensorFlow that computes such an op from Python looks up one function in one module.
That function is replaced, and so are the public names of the raw ops and the three registered
gradients. The patch belongs to the process, not to a thread: TensorFlow has one of each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import tensorflow as tf

from tf_conv3d_grad.ops import derivatives
from tf_conv3d_grad.ops.call import checked
from tf_conv3d_grad.ops.conv3d import conv3d
from tf_conv3d_grad.ops.conv3d_backprop_filter import conv3d_backprop_filter_v2
from tf_conv3d_grad.ops.conv3d_backprop_input import conv3d_backprop_input_v2
from tf_conv3d_grad.patching import convolutions, keras_convolutions, registered_gradients
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.tensorflow import private

OPS: dict[str, tuple[Callable[..., tf.Tensor], Function]] = {
  "conv3d": (conv3d, CONV3D),
  "conv3d_backprop_input_v2": (conv3d_backprop_input_v2, BACKPROP_INPUT),
  "conv3d_backprop_filter_v2": (conv3d_backprop_filter_v2, BACKPROP_FILTER),
}


def patch_tensorflow() -> Patch:
  """Puts the three ops in the place of TensorFlow's, wherever TensorFlow calls them.

  The patch covers:

  - `Conv3D`, `Conv3DBackpropInputV2` and `Conv3DBackpropFilterV2` in `tf.raw_ops` and
    `tf.compat.v1.raw_ops`;
  - `tf.nn.conv3d` and `tf.nn.conv3d_transpose`, and for 5-D tensors `tf.nn.convolution` and
    `tf.nn.conv_transpose`;
  - the registered gradients of the three operations;
  - with these, the layers `Conv3D`, `Conv3DTranspose` and `ConvLSTM3D` of Keras 3 and tf_keras.

  In a graph, a call that TensorFlow's own kernel computes just as this package would stays
  TensorFlow's operation. A `tf.function` keeps what it has traced: these ops if the patch was on,
  TensorFlow's if not. The gradient of a function is traced when it is first taken.

  A plain call holds for all threads until `unpatch_tensorflow()`. Calling it again changes nothing.
  In a `with` statement the patch holds until the block ends, with an exception or without.
  TensorFlow is patched as long as a block is open in any thread, or a plain call has not been
  undone.

  Returns:
    A context manager, for the `with` statement.

  Example:
    >>> volume = tf.ones([1, 4, 8, 8, 8], tf.float64)
    >>> filter = tf.ones([3, 3, 3, 4, 2], tf.float64)
    >>> with tf_conv3d_grad.patch_tensorflow():
    ...   tf.nn.conv3d(volume, filter, [1] * 5, "SAME", data_format="NCDHW").shape
    TensorShape([1, 2, 8, 8, 8])
  """
  with _lock:
    _state.lasting += 1
    try:
      _state.apply()
    except BaseException:
      _state.lasting -= 1
      raise
    return Patch(_state.epoch)


def unpatch_tensorflow() -> None:
  """Undoes every plain call of `patch_tensorflow`. Without one it does nothing.

  Blocks of `with patch_tensorflow():` that are open, here or in other threads, keep the patch until
  the last of them ends. After that TensorFlow has exactly the functions and registry entries back
  that it had.

  Example:
    >>> original = tf.raw_ops.Conv3D
    >>> _ = tf_conv3d_grad.patch_tensorflow()
    >>> tf.raw_ops.Conv3D is original
    False
    >>> tf_conv3d_grad.unpatch_tensorflow()
    >>> tf.raw_ops.Conv3D is original
    True
  """
  with _lock:
    _state.lasting = 0
    _state.epoch += 1
    _state.apply()


class Patch:
  """What `patch_tensorflow` returns. A `with` statement turns that plain call into a block."""

  def __init__(self, epoch: int) -> None:
    self._epoch: int | None = epoch

  def __enter__(self) -> Patch:
    with _lock:
      _state.blocks += 1
      try:
        _state.apply()
      except BaseException:
        _state.blocks -= 1
        raise
      if self._epoch == _state.epoch:
        _state.lasting -= 1
      self._epoch = None
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    with _lock:
      _state.blocks -= 1
      _state.apply()


class _State:
  """How many plain calls and open blocks want the patch, and what undoes it.

  Attributes:
    lasting: Plain calls since the last `unpatch_tensorflow`.
    epoch: Calls of `unpatch_tensorflow`, which tell whether a plain call still counts.
    blocks: Open `with` blocks.
  """

  def __init__(self) -> None:
    self.lasting = 0
    self.epoch = 0
    self.blocks = 0
    self._undo: contextlib.ExitStack | None = None

  def apply(self) -> None:
    """Makes TensorFlow patched or not, as wanted."""
    wanted = bool(self.lasting or self.blocks)
    if wanted and self._undo is None:
      self._undo = _install()
    elif not wanted and self._undo is not None:
      undo, self._undo = self._undo, None
      undo.close()


_lock = threading.RLock()
_state = _State()


def _install() -> contextlib.ExitStack:
  """Replaces TensorFlow's functions, all or none.

  Returns:
    What puts them back when closed.
  """
  with contextlib.ExitStack() as undo:
    # TensorFlow keeps forward-mode derivatives, compiled from the gradients that were registered.
    undo.callback(private.forget_forward_mode)
    entry = functools.cache(_entry)  # what was one function under several names stays one
    for op in OPS:
      for module, name in private.op_attributes(op):
        original = getattr(module, name)
        undo.callback(setattr, module, name, original)
        setattr(module, name, entry(op, original))
    for module, name in private.convolution_attributes():
      original = getattr(module, name)
      undo.callback(setattr, module, name, original)
      setattr(module, name, convolutions.replacement(original))
    undo.enter_context(keras_convolutions.replaced())
    registry = private.gradient_registry()
    for op_type, gradient in registered_gradients.REGISTERED.items():
      if op_type in registry:
        undo.callback(registry.__setitem__, op_type, registry[op_type])
        registry[op_type] = {**registry[op_type], "type": gradient}
    private.forget_forward_mode()
    return undo.pop_all()


def _entry(name: str, original: Callable[..., tf.Tensor]) -> Any:
  """Returns an op, by its name in Python, as the replacement of TensorFlow's `original`."""

  @functools.wraps(original)
  def in_its_place(*args: Any, **kwargs: Any) -> tf.Tensor:
    # This package's own calls of `tf.nn.conv3d_transpose` arrive here as well.
    if private.calling_tensorflow():
      return original(*args, **kwargs)
    return called(name, *args, **kwargs)

  return tf.autograph.experimental.do_not_convert(in_its_place)


def called(op_name: str, /, *args: Any, **kwargs: Any) -> tf.Tensor:
  """Returns what a call of TensorFlow's does while it is patched.

  Args:
    op_name: Which of `OPS` is called.
    *args: The op's arguments, by position, and
    **kwargs: by name.
  """
  op, function = OPS[op_name]
  if tf.executing_eagerly():
    return op(*args, **kwargs)
  given = _signature(op).bind(*args, **kwargs)
  given.apply_defaults()
  return checked(function, derivatives.in_the_place_of_tensorflow, **given.arguments)


_signature = functools.cache(inspect.signature)
