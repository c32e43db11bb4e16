"""Refuses results that no memory can hold, before anything is allocated for them.

Some of TensorFlow's kernels write through a null pointer if the allocation of their result failed.
So the size of an eager call's result is compared with the memory there is. And before such a kernel
runs, its result is allocated once without being written. That takes microseconds and fails with
TensorFlow's own exception. A graph asks only at run time: it may run on another machine than it was
traced on.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.sizes import Size
from tf_conv3d_grad.tensorflow import private

try:
  import resource
except ImportError:  # Windows
  resource = None  # type: ignore[assignment]

# Smaller results are not looked at: they cost less than looking, and fit wherever TensorFlow does.
_LARGE = 64 << 20

_INT32_MAX = 2**31 - 1
_ROW = 2**20
# What is allocated and not written is of integers: of floats, `enable_check_numerics` would find
# NaNs in it.
_INTEGER = {2: tf.int16, 4: tf.int32, 8: tf.int64}

_tracing = threading.local()
_CGROUP = pathlib.Path("/sys/fs/cgroup")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def require(name: str, shape: list[Size], dtype: tf.DType) -> None:
  """Refuses a tensor that is larger than all memory of this process.

  Args:
    name: The name of what asks for the tensor.
    shape: Its shape. A shape that is not fully known is not checked.
    dtype: Its dtype.

  Raises:
    tf.errors.ResourceExhaustedError: If there is less memory.
  """
  asked = _bytes(shape, dtype)
  if asked is None or asked < _LARGE:
    return
  there_are = total()
  if there_are is not None and asked > there_are:
    raise tf.errors.ResourceExhaustedError(
      None,
      None,
      f"{name} must have a size that fits into memory: got {list(shape)} of {dtype.name}, "
      f"{_readable(asked)} ({asked} bytes), there are {_readable(there_are)} ({there_are} bytes)",
    )


def is_small(shape: list[Size], dtype: tf.DType) -> bool:
  """Returns whether a tensor is known to be so small that it fits wherever TensorFlow does."""
  asked = _bytes(shape, dtype)
  return asked is not None and asked < _LARGE


def total() -> int | None:
  """Returns the bytes of memory that this process may have at most, None if nothing tells.

  That is the machine's memory without swap space, or less where the process's container (control
  group) or its address space (`ulimit -v`) is limited to less.
  """
  limits = [_physical(), *_container_limits(), _address_space()]
  return min((limit for limit in limits if limit is not None), default=None)


def allocatable(
  compute: Callable[..., tf.Tensor], shape: list[Size], dtype: tf.DType
) -> Callable[..., tf.Tensor]:
  """Returns `compute`, a kernel on the CPU, which runs only if its result can be allocated.

  Args:
    compute: Takes tensors, returns one of the given shape and dtype.
    shape: The result's shape, as far as it is known.
    dtype: The result's dtype.
  """
  if getattr(_tracing, "unprobed", False) or is_small(shape, dtype):
    return compute

  def where_allocatable(*operands: tf.Tensor) -> tf.Tensor:
    probe = tf.raw_ops.Empty(shape=_folded(shape), dtype=_INTEGER[dtype.size])
    if tf.executing_eagerly():
      del probe
      return compute(*operands)
    with tf.control_dependencies([probe]):
      # One that is not known ahead of time is enough.
      unknown = [each for each in operands if not each.shape.is_fully_defined()][:1]
      waiting = [
        _not_ahead_of_time(each) if not unknown or each is unknown[0] else each for each in operands
      ]
    return compute(*waiting)

  return where_allocatable


@contextlib.contextmanager
def unprobed() -> Iterator[None]:
  """Where nothing asks for memory first.

  The allocation has a state, so TensorFlow's optimizer does not take a function with one apart.
  """
  before = getattr(_tracing, "unprobed", False)
  _tracing.unprobed = True
  try:
    yield
  finally:
    _tracing.unprobed = before


def _not_ahead_of_time(tensor: tf.Tensor) -> tf.Tensor:
  """Returns `tensor`, of which no optimizer computes anything unchecked, be it a constant."""
  if tensor.shape.is_fully_defined():
    # What has a state is not computed ahead of time, and an allocation, if of no cells, has one.
    nothing = tf.raw_ops.Empty(shape=[0], dtype=tf.int64)
    return tf.reshape(tensor, tf.concat([sizes.as_tensor(tensor.shape.as_list()), nothing], 0))
  return tf.identity(tensor)


def zeros(shape: list[Size], dtype: tf.DType) -> tf.Tensor:
  """Returns zeros, which are made when a graph runs and not when it is optimized.

  TensorFlow's optimizer turns zeros of a known shape into a constant, of any size, and where that
  cannot be allocated says that the graph is invalid.
  """
  if is_small(shape, dtype) or tf.executing_eagerly():
    return tf.zeros(sizes.as_tensor(shape), dtype)
  unknown = private.unknown_to_the_optimizer(sizes.as_tensor(shape))
  result = tf.fill(unknown, tf.zeros([], dtype))
  result.set_shape(sizes.static(shape))
  return result


def _folded(shape: list[Size]) -> tf.Tensor:
  """Returns a shape of about as many cells with two dimensions, each of which fits into int32."""
  if sizes.is_known(*shape):
    cells = math.prod(shape)
    return tf.constant([min(-(-cells // _ROW), _INT32_MAX), min(cells, _ROW)], tf.int32)
  # As few operations as can be: small networks have them in front of every convolution.
  known = math.prod(size for size in shape if sizes.is_known(size))
  rows, columns = min(-(-known // _ROW), _INT32_MAX), min(known, _ROW)
  unknown = [size for size in shape if not sizes.is_known(size)]
  folded = sizes.as_tensor([*unknown, rows, columns])
  return tf.cast(tf.minimum(folded, np.int64(_INT32_MAX)), tf.int32)


def _bytes(shape: list[Size], dtype: tf.DType) -> int | None:
  return math.prod(shape) * dtype.size if sizes.is_known(*shape) else None


def _physical() -> int | None:
  try:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  except (AttributeError, ValueError, OSError):  # Windows; a name that the system does not know
    return None


def _container_limits() -> Iterable[int]:
  """Yields the limits of the process's control groups, of either version of Linux's."""
  yield from _limits(_CGROUP, "memory.max")
  yield from _limits(_CGROUP / "memory", "memory.limit_in_bytes")


def _limits(root: pathlib.Path, file: str) -> Iterable[int]:
  """Yields the limits of the process's group and those above it, which hold for it as well."""
  folders = [root]
  try:
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
  except OSError:
    return
  for line in lines:
    _, controllers, group = line.split(":", 2)
    if controllers in ("", "memory"):
      parts = [part for part in group.split("/") if part]
      folders += [root.joinpath(*parts[: count + 1]) for count in range(len(parts))]
  for folder in folders:
    try:
      yield int((folder / file).read_text())
    except (OSError, ValueError):  # no such group; "max", which is no limit
      continue


def _address_space() -> int | None:
  if not hasattr(resource, "RLIMIT_AS"):
    return None
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  return None if limit == resource.RLIM_INFINITY else limit


def _readable(count: int) -> str:
  power = min((max(count, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
  number = f"{count / 2 ** (10 * power):.1f}"
  return f"{number[:-2] if number.endswith('.0') else number} {_UNITS[power]}"
