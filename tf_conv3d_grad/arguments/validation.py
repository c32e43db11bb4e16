"""What each argument of the op must be, and the exception that says otherwise.

TensorFlow's kernels abort the process on some bad values, so nothing reaches them that has not
passed here. A `Problem` comes out, with a Python integer for every size that is known.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.arguments import checks
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.axis import Axis, output_length
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT
from tf_conv3d_grad.problem.sizes import Size

DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
PADDINGS = ("SAME", "VALID")
DATA_FORMATS = tuple(OF_DATA_FORMAT)

_Dimension = tf.compat.v1.Dimension

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def validate(
  input_sizes: Any,
  filter: Any,  # noqa: A002 - the raw op's name for it
  out_backprop: Any,
  strides: Any,
  padding: Any,
  data_format: Any,
  dilations: Any,
) -> tuple[Problem, tf.Tensor, tf.Tensor]:
  """Checks a call of the op.

  Returns:
    The problem, with scalar tensors for the sizes that are known only at run time, and the two
    tensors, of one dtype and of rank 5, from which nothing is computed unless all rules hold.

  Raises:
    tf.errors.InvalidArgumentError: For a bad value or dtype when executing eagerly.
    ValueError: For a value known to be bad when building a graph.
    TypeError: For a bad dtype when building a graph; for an attribute of the wrong Python type.
  """
  padding = _choice("padding", padding, PADDINGS)
  data_format = _choice("data_format", NDHWC if data_format is None else data_format, DATA_FORMATS)
  strides = _window("strides", strides, data_format)
  dilations = _window("dilations", [1] * 5 if dilations is None else dilations, data_format)
  filter, out_backprop = _matching(filter, out_backprop)  # noqa: A001

  rules = checks.Checks()
  filter = _of_rank_5("filter", filter, rules)  # noqa: A001
  out_backprop = _of_rank_5("out_backprop", out_backprop, rules)
  input_shape = _input_shape(input_sizes, rules)
  attributes = Attributes(data_format, padding, strides, dilations)
  problem = _problem(input_shape, filter, out_backprop, attributes, rules)
  filter, out_backprop = rules.guard(filter, out_backprop)  # noqa: A001
  filter = _with_known(filter, problem.filter_shape)  # noqa: A001
  out_backprop = _with_known(out_backprop, problem.out_backprop_shape)
  return _guarded(problem, rules), filter, out_backprop


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
  """Returns a string attribute."""
  if isinstance(value, bytes):
    value = value.decode(errors="replace")
  if not isinstance(value, str):
    raise TypeError(f"{name} must be one of {_listed(allowed)}, got {value!r}")
  if value not in allowed:
    checks.fail(f"{name} must be one of {_listed(allowed)}, got {value!r}")
  return value


def _listed(allowed: Sequence) -> str:
  return " or ".join(repr(item) for item in allowed)


def _window(name: str, values: Any, data_format: str) -> tuple[int, int, int]:
  """Returns the three spatial numbers of `strides` or `dilations`."""
  if not isinstance(values, (list, tuple)) or not all(map(_is_number, values)):
    raise TypeError(f"{name} must be a list of 5 integers, got {values!r}")
  if len(values) != 5:
    checks.fail(f"{name} must be a list of 5 integers, got {len(values)}: {list(values)}")
  if not all(isinstance(n, int) or (math.isfinite(n) and int(n) == n) for n in values):
    checks.fail(f"{name} must be integers, got {list(values)}")
  batch, spatial, channels = OF_DATA_FORMAT[data_format].split([int(n) for n in values])
  if batch != 1 or channels != 1:
    checks.fail(
      f"{name} must be 1 for batch and channels, got {list(values)} with data_format {data_format}"
    )
  if not all(1 <= value <= _INT32_MAX for value in spatial):
    checks.fail(f"{name} must be between 1 and {_INT32_MAX}, got {list(values)}")
  depth, height, width = spatial
  return depth, height, width


def _is_number(value: Any) -> bool:
  if isinstance(value, int):  # the others take longer to tell
    return True
  return isinstance(value, (numbers.Real, np.bool_)) and not tf.is_tensor(value)


def _matching(filter: Any, out_backprop: Any) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: A002
  """Returns `filter` and `out_backprop` as tensors of one dtype, that of the first tensor."""
  dtype = None
  for value in (filter, out_backprop):
    if tf.is_tensor(value) or isinstance(value, tf.Variable):
      dtype = getattr(value, "dtype", None)
      break
  filter = _converted("filter", filter, dtype)  # noqa: A001
  out_backprop = _converted("out_backprop", out_backprop, filter.dtype)
  return filter, out_backprop


def _converted(name: str, value: Any, dtype: tf.DType | None) -> tf.Tensor:
  dtype = None if dtype is None else tf.as_dtype(dtype)
  given = getattr(value, "dtype", None)
  if dtype is not None and tf.is_tensor(value) and given is not None and given != dtype:
    checks.fail_dtype(f"{name} must have the dtype of filter, {dtype.name}, got {given.name}")
  try:
    tensor = tf.convert_to_tensor(value, dtype, name=name)
  except (TypeError, ValueError, OverflowError, tf.errors.OpError) as error:
    kind = TypeError if isinstance(error, TypeError) else ValueError
    raise kind(f"{name} must be convertible to a tensor, got {_brief(value)}: {error}") from None
  if tensor.dtype not in DTYPES:
    names = ", ".join(dtype.name for dtype in DTYPES)
    checks.fail_dtype(f"{name} must have one of the dtypes {names}, got {tensor.dtype.name}")
  return tensor


def _brief(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f"{text[:77]}..."


def _of_rank_5(name: str, tensor: tf.Tensor, rules: checks.Checks) -> tf.Tensor:
  """Returns `tensor` with a static rank of 5."""
  rank = tensor.shape.rank
  if rank is None:
    rules.equal(tf.rank(tensor), 5, f"{name} must have 5 dimensions: got {{}}", tf.rank(tensor))
    return _with_shape(tensor, [None] * 5, rules)
  rules.equal(rank, 5, f"{name} must have 5 dimensions: got shape {{}}", tensor.shape.as_list())
  return tensor


def _with_shape(tensor: tf.Tensor, shape: list, rules: checks.Checks) -> tf.Tensor:
  """Returns `tensor` with a static shape that the rules so far have made sure of."""
  (tensor,) = rules.guard(tensor)
  tensor = tf.identity(tensor)
  tensor.set_shape(shape)
  return tensor


def _with_known(tensor: tf.Tensor, shape: list[Size]) -> tf.Tensor:
  """Returns `tensor` with the static shape that the other arguments have settled."""
  static = sizes.static(shape)
  if tensor.shape.as_list() == static:
    return tensor
  tensor = tf.identity(tensor)
  tensor.set_shape(static)
  return tensor


def _input_shape(input_sizes: Any, rules: checks.Checks) -> list[Size]:
  """Returns the five numbers of `input_sizes`."""
  needed = "input_sizes must be a vector of 5 integers"
  input_sizes = _without_objects(input_sizes, needed)
  values = _static_vector(input_sizes)
  if values is None:
    vector = _integer_tensor(input_sizes, needed)
    partial = tf.get_static_value(vector, partial=True)
    if vector.shape.rank is None:
      rules.equal(tf.rank(vector), 1, f"{needed}: got {{}} dimensions", tf.rank(vector))
      vector = _with_shape(vector, [None], rules)
    rules.equal(vector.shape.rank, 1, f"{needed}: got shape {{}}", vector.shape.as_list())
    (length,) = sizes.shape_of(vector)
    rules.equal(length, 5, f"{needed}: got {{}}", length)
    vector = tf.cast(_with_shape(vector, [5], rules), tf.int64)
    known = [None] * 5 if partial is None else list(partial)
    values = [vector[i] if size is None else int(size) for i, size in enumerate(known)]
  for size in values:
    rules.true(size >= 0, "input_sizes must not be negative: got {}", values, given=1)
  return values


def _without_objects(input_sizes: Any, needed: str) -> Any:
  """Returns `input_sizes`, a list for a shape or an array of objects, with integers for dimensions.

  Dimensions are what the shapes of TensorFlow 1 are made of.
  """
  if isinstance(input_sizes, tf.TensorShape):
    plain = [None] if input_sizes.rank is None else input_sizes.as_list()
  else:
    is_objects = isinstance(input_sizes, np.ndarray) and input_sizes.dtype == object
    plain = input_sizes.tolist() if is_objects else input_sizes
    if not isinstance(plain, (list, tuple)) or _Dimension not in map(type, plain):
      return plain
    plain = [size.value if type(size) is _Dimension else size for size in plain]
  if any(size is None for size in plain):
    checks.fail(f"{needed}, got {_brief(input_sizes)}")
  return plain


def _static_vector(input_sizes: Any) -> list[int] | None:
  """Returns `input_sizes` as integers, None if that needs a tensor."""
  if isinstance(input_sizes, (list, tuple)) and len(input_sizes) == 5:
    if all(type(n) is int and 0 <= n <= _INT64_MAX for n in input_sizes):
      return list(input_sizes)  # the rest of this takes a tenth of a small call's time
  if isinstance(input_sizes, (list, tuple)) and any(map(tf.is_tensor, input_sizes)):
    return None
  if isinstance(input_sizes, tf.Variable):
    if not tf.executing_eagerly():
      return None
    input_sizes = input_sizes.read_value()
  if tf.is_tensor(input_sizes):
    if input_sizes.dtype not in (tf.int32, tf.int64):
      checks.fail_dtype(
        "input_sizes must have one of the dtypes int32, int64, "
        f"got {getattr(input_sizes.dtype, 'name', input_sizes.dtype)}"
      )
    value = tf.get_static_value(input_sizes)
    if value is None:
      return None
    array = np.asarray(value)
  else:
    if input_sizes is None:
      raise ValueError("input_sizes must be a vector of 5 integers, got None")
    if isinstance(input_sizes, (list, tuple)) and any(
      isinstance(size, int) and not -_INT64_MAX <= size <= _INT64_MAX for size in input_sizes
    ):
      raise ValueError(f"input_sizes must fit into int64, got {_brief(input_sizes)}")
    try:
      array = np.asarray(input_sizes)
    except ValueError as error:
      raise ValueError(
        f"input_sizes must be a vector of 5 integers, got {_brief(input_sizes)}: {error}"
      ) from None
    if array.dtype.kind == "f" and isinstance(input_sizes, np.ndarray):
      # The raw op takes an array of whole floats, though not a list of them.
      with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
      if np.array_equal(whole, array):
        array = whole
    if array.dtype.kind not in "iu":
      checks.fail_dtype(
        f"input_sizes must have one of the dtypes int32, int64, got {_brief(input_sizes)}"
      )
  if array.shape != (5,):
    checks.fail(
      f"input_sizes must be a vector of 5 integers, got shape {list(array.shape)}: "
      f"{_brief(array.tolist())}"
    )
  return [int(size) for size in array]


def _integer_tensor(input_sizes: Any, needed: str) -> tf.Tensor:
  try:
    tensor = tf.convert_to_tensor(input_sizes, name="input_sizes")
  except (TypeError, ValueError, OverflowError, tf.errors.OpError) as error:
    raise ValueError(f"{needed}, got {_brief(input_sizes)}: {error}") from None
  if tensor.dtype not in (tf.int32, tf.int64):
    checks.fail_dtype(
      f"input_sizes must have one of the dtypes int32, int64, got {tensor.dtype.name}"
    )
  return tensor


def _problem(
  input_shape: list[Size],
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
  attributes: Attributes,
  rules: checks.Checks,
) -> Problem:
  """Returns the problem after stating every rule about two arguments that must agree."""
  data_format, padding, strides, dilations = attributes
  filter_shape = sizes.shape_of(filter)
  out_shape = sizes.shape_of(out_backprop)
  batch, input_lengths, in_channels = OF_DATA_FORMAT[data_format].split(input_shape)
  out_batch, output_lengths, out_channels = OF_DATA_FORMAT[data_format].split(out_shape)
  *taps, filter_in, filter_out = filter_shape

  _cells("input_sizes", input_shape, rules)
  rules.equal(
    out_batch, batch,
    "out_backprop must have the batch size of input_sizes: got {}, needed {}", out_batch, batch,
  )  # fmt: skip
  rules.equal(
    out_channels, filter_out,
    "out_backprop must have as many channels as the last dimension of filter: got {}, needed {}",
    out_channels, filter_out,
  )  # fmt: skip
  # A filter of no in channels fits a result of none only.
  divisor = sizes.maximum(filter_in, 1)
  rules.equal(
    in_channels % divisor, 0,
    "input_sizes must have a multiple of the in channels of filter: got {}, "
    "needed a multiple of {}",
    in_channels, filter_in,
  )  # fmt: skip
  _when_both_or_neither(in_channels, filter_in, rules)
  groups = sizes.maximum(in_channels // divisor, 1)
  rules.equal(
    filter_out % groups, 0,
    "filter must have out channels divisible by the number of groups: got {} out channels, "
    "needed a multiple of {}, the channels of input_sizes over the in channels of filter",
    filter_out, groups,
  )  # fmt: skip

  names = ("depth", "height", "width")
  for name, n, k, o, stride, dilation in zip(
    names, input_lengths, taps, output_lengths, strides, dilations
  ):
    needed = output_length(n, k, stride, dilation, padding)
    rules.equal(
      o, needed,
      f"out_backprop must have the {name} that input_sizes, filter, strides, dilations and padding "
      f"give: got {{}}, needed {{}} for {name} {{}} of input_sizes, {{}} taps, stride {stride}, "
      f"dilation {dilation}, {padding}", o, needed, n, k,
    )  # fmt: skip
  return Problem.of_shapes(out_backprop.dtype, attributes, filter_shape, input_shape, out_shape)


def _when_both_or_neither(in_channels: Size, filter_in: Size, rules: checks.Checks) -> None:
  """Requires that the result has channels if and only if the filter has in channels."""
  message = "input_sizes must have channels only if filter has in channels: got {}, filter has {}"
  if sizes.is_known(in_channels, filter_in):
    # TensorFlow takes a result of no channels with any filter, and gives it back empty.
    rules.true(in_channels == 0 or filter_in > 0, message, in_channels, filter_in)
  else:
    holds = tf.logical_or(tf.equal(in_channels, 0), tf.greater(filter_in, 0))
    rules.true(holds, message, in_channels, filter_in)


def _cells(name: str, shape: list[Size], rules: checks.Checks) -> None:
  """Requires that the number of cells fits into TensorFlow's 64-bit count."""
  message = f"{name} must have fewer than 2^63 cells: got {{}}"
  if sizes.is_known(*shape):
    rules.true(math.prod(size for size in shape if size) <= _INT64_MAX, message, shape)
  else:
    cells = tf.reduce_prod(tf.cast(tf.maximum(sizes.as_tensor(shape), 1), tf.float64))
    rules.true(cells < 2.0**63, message, shape)


def _guarded(problem: Problem, rules: checks.Checks) -> Problem:
  """Returns the problem with sizes that are there only once every rule has held."""
  if problem.is_static:
    return problem

  def guarded(size: Size) -> Size:
    return size if sizes.is_known(size) else rules.guard(size)[0]

  def guarded_axis(axis: Axis) -> Axis:
    return dataclasses.replace(
      axis,
      input=guarded(axis.input),
      output=guarded(axis.output),
      taps=guarded(axis.taps),
      pad=guarded(axis.pad),
    )

  depth, height, width = map(guarded_axis, problem.axes)
  return problem.replace(
    batch=guarded(problem.batch),
    axes=(depth, height, width),
    in_channels=guarded(problem.in_channels),
    filter_in_channels=guarded(problem.filter_in_channels),
    out_channels=guarded(problem.out_channels),
  )
