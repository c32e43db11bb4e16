"""Eager calls that were made before: checked and planned once, then looked up.

A small eager call takes the kernel 50 microseconds; checking it takes Python longer than that. So
the second call with the same shapes, dtypes and attributes goes straight to what the first one
found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.execution import execute
from tf_conv3d_grad.planning import autotune
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow import mode, private
from tf_conv3d_grad.tensorflow.cache import Cache
from tf_conv3d_grad.tensorflow.environment import Environment

# Each holds a few hundred bytes.
CAPACITY = 4096

_LISTS = (list, tuple)
_INTEGERS = {int}

_cache: Cache[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = Cache(CAPACITY)


def find(
  input_sizes: Any,
  filter: Any,  # noqa: A002
  out_backprop: Any,
  strides: Any,
  padding: Any,
  data_format: Any,
  dilations: Any,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
  """Returns the function of `filter` and `out_backprop` that computes a call, checked and planned.

  Returns:
    None where the call has to be checked each time: while building a graph or recording a gradient,
    and for arguments that are not eager tensors and lists of integers.

  Raises:
    The exceptions of `validation.validate`.
  """
  if not tf.executing_eagerly() or private.is_recording():
    return None
  tensor = _eager_tensor()
  if type(filter) is not tensor or type(out_backprop) is not tensor:
    return None
  # Of a list with a tensor in it no key can be made, and other values than integers are no hit.
  if type(strides) not in _LISTS or type(dilations) not in _LISTS:
    return None
  if type(input_sizes) is tensor or type(input_sizes) is np.ndarray:
    if input_sizes.dtype not in (tf.int32, tf.int64):
      return None
    input_sizes = np.asarray(input_sizes).tolist()
    if type(input_sizes) is not list:
      return None
  elif type(input_sizes) not in _LISTS or {*map(type, input_sizes)} != _INTEGERS:
    return None
  key = (
    tuple(input_sizes),
    tuple(strides),
    tuple(dilations),
    padding,
    data_format,
    filter.dtype,
    out_backprop.dtype,
    private.shape_tuple(filter),
    private.shape_tuple(out_backprop),
    mode.current(),
    autotune.is_on(),
    private.has_gpu() and private.device_type(filter, out_backprop),
  )

  def prepare() -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    problem, _, _ = validation.validate(
      input_sizes, filter, out_backprop, strides, padding, data_format, dilations
    )
    environment = Environment.here(problem.dtype, filter, out_backprop)
    return execute.prepared(BACKPROP_INPUT, problem, environment)

  try:
    return _cache.get(key, prepare)
  except TypeError:
    if _is_hashable(key):
      raise
    return None  # an attribute that cannot be hashed, which is not of the right type either


def forget() -> None:
  """Forgets all calls: the next one of each kind, or derivative of one, is planned anew."""
  _cache.clear()
  execute.forget()


def _is_hashable(key: tuple) -> bool:
  try:
    hash(key)
  except TypeError:
    return False
  return True


@functools.cache
def _eager_tensor() -> Any:
  return type(tf.constant(0))
