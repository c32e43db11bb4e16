"""What each argument of the three ops must be, and the exception that says otherwise.

TensorFlow's kernels abort the process on some bad values. So every argument is checked here before
it reaches them. The result is a `Problem`, with a Python integer for every size that is known.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.arguments import checks
from tf_conv3d_grad.problem import functions, geometry, sizes
from tf_conv3d_grad.problem.axis import Axis, output_length
from tf_conv3d_grad.problem.definition import Attributes, Problem
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT, FILTER, INPUT, OUTPUT, Function
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT
from tf_conv3d_grad.problem.sizes import Size
from tf_conv3d_grad.tensorflow import private

DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
PADDINGS = ("SAME", "VALID")
DATA_FORMATS = tuple(OF_DATA_FORMAT)
_SPATIAL = ("depth", "height", "width")

_Dimension = tf.compat.v1.Dimension

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def validate(
  function: Function,
  *,
  strides: Any,
  padding: Any,
  data_format: Any = NDHWC,
  dilations: Any = None,
  **given: Any,
) -> tuple[Problem, tf.Tensor, tf.Tensor]:
  """Checks a call of an op.

  Args:
    function: Which function of a convolution the op computes.
    strides: The op's argument.
    padding: The op's argument.
    data_format: The op's argument.
    dilations: The op's argument.
    **given: The op's other arguments by name: the two tensors, and the sizes of the result where
      the op has such an argument.

  Returns:
    The problem, with scalar tensors for the sizes that are known only at run time, and the two
    tensors in the function's order, of one dtype and of rank 5, from which nothing is computed
    unless all rules hold.

  Raises:
    tf.errors.InvalidArgumentError: For a bad value or dtype when executing eagerly.
    ValueError: For a value known to be bad when building a graph.
    TypeError: For a bad dtype when building a graph; for an attribute of the wrong Python type.
  """
  padding = _choice("padding", padding, PADDINGS)
  data_format = _choice("data_format", NDHWC if data_format is None else data_format, DATA_FORMATS)
  strides = _window("strides", strides, data_format)
  dilations = _window("dilations", [1] * 5 if dilations is None else dilations, data_format)
  attributes = Attributes(data_format, padding, strides, dilations)

  rules = checks.Checks()
  names = [function.argument(operand) for operand in function.operands]
  tensors = _matching(names, [given[name] for name in names])
  have_ranks = [tensor.shape.rank is not None for tensor in tensors]
  tensors = [_of_rank_5(name, tensor, rules) for name, tensor in zip(names, tensors)]
  shapes = {
    operand: sizes.shape_of(tensor, has_rank, unstacks=function is not functions.BACKPROP_INPUT)
    for operand, tensor, has_rank in zip(function.operands, tensors, have_ranks)
  }
  if function.asked_by not in names:
    shapes[function.result] = _vector_of_sizes(function.asked_by, given[function.asked_by], rules)
  problem = _problem(function, tensors[0].dtype, attributes, shapes, rules)
  tensors = [
    _with_known(tensor, functions.shape(operand, problem))
    for operand, tensor in zip(function.operands, rules.guard(*tensors))
  ]
  first, second = tensors
  return _guarded(problem, rules), first, second


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
  values = _without_eager_tensors(values)
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


def _without_eager_tensors(values: Any) -> Any:
  """Returns numbers in the place of eager tensors, and a list in that of a shape.

  Eager TensorFlow takes both as attributes, and a graph neither.
  """
  if isinstance(values, tf.TensorShape) and values.rank is not None:
    return values.as_list()
  if not isinstance(values, (list, tuple)) or not tf.executing_eagerly():
    return values
  if not any(map(_is_tensor, values)):
    return values
  return [int(value) if _is_integer_tensor(value) else value for value in values]


def _is_tensor(value: Any) -> bool:
  """Returns what `tf.is_tensor` does, which takes 8 us for a number."""
  return not isinstance(value, int) and tf.is_tensor(value)


def _is_integer_tensor(value: Any) -> bool:
  return tf.is_tensor(value) and value.dtype.is_integer and value.shape.rank == 0


def _is_number(value: Any) -> bool:
  if isinstance(value, int):  # the others take longer to tell
    return True
  return isinstance(value, (numbers.Real, np.bool_)) and not tf.is_tensor(value)


def _matching(names: list[str], values: list[Any]) -> list[tf.Tensor]:
  """Returns the operands as tensors of the dtype of the first one that is a tensor already."""
  dtype = None
  for value in values:
    if tf.is_tensor(value) or isinstance(value, tf.Variable):
      dtype = getattr(value, "dtype", None)
      break
  tensors: list[tf.Tensor] = []
  for name, value in zip(names, values):
    tensors.append(_converted(name, value, dtype, names[0]))
    dtype = tensors[0].dtype
  return tensors


def _converted(name: str, value: Any, dtype: tf.DType | None, like: str) -> tf.Tensor:
  dtype = None if dtype is None else tf.as_dtype(dtype)
  given = getattr(value, "dtype", None)
  if dtype is not None and tf.is_tensor(value) and given is not None and given != dtype:
    checks.fail_dtype(f"{name} must have the dtype of {like}, {dtype.name}, got {given.name}")
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
  """Returns `tensor` with the static shape that the rules so far guarantee."""
  (tensor,) = rules.guard(tensor)
  tensor = tf.identity(tensor)
  if tensor.shape.rank is None and not (tf.executing_eagerly() or private.in_xla_context()):
    # A kernel that takes it makes the optimizer believe its rank, and drop the rule about that.
    lengths = tf.pad(tf.shape(tensor), [[0, len(shape)]])[: len(shape)]
    tensor = tf.reshape(tensor, lengths)
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


def _vector_of_sizes(name: str, given: Any, rules: checks.Checks) -> list[Size]:
  """Returns the five numbers of `input_sizes` or `filter_sizes`."""
  needed = f"{name} must be a vector of 5 integers"
  given = _without_objects(given, needed)
  values = _static_vector(name, given)
  if values is None:
    vector = _integer_tensor(name, given, needed)
    partial = tf.get_static_value(vector, partial=True)
    if vector.shape.rank is None:
      rules.equal(tf.rank(vector), 1, f"{needed}: got {{}} dimensions", tf.rank(vector))
      vector = _with_shape(vector, [None], rules)
    rules.equal(vector.shape.rank, 1, f"{needed}: got shape {{}}", vector.shape.as_list())
    (length,) = sizes.shape_of(vector, is_rank_certain=False)
    rules.equal(length, 5, f"{needed}: got {{}}", length)
    vector = tf.cast(_with_shape(vector, [5], rules), tf.int64)
    known = [None] * 5 if partial is None else list(partial)
    values = [vector[i] if size is None else int(size) for i, size in enumerate(known)]
  for size in values:
    rules.true(size >= 0, f"{name} must not be negative: got {{}}", values, given=1)
  return values


def _without_objects(given: Any, needed: str) -> Any:
  """Returns given sizes, a list for a shape or an array of objects, with integers for dimensions.

  Dimensions are what the shapes of TensorFlow 1 are made of.
  """
  if isinstance(given, tf.TensorShape):
    plain = [None] if given.rank is None else given.as_list()
  else:
    is_objects = isinstance(given, np.ndarray) and given.dtype == object
    plain = given.tolist() if is_objects else given
    if not isinstance(plain, (list, tuple)) or _Dimension not in map(type, plain):
      return plain
    plain = [size.value if type(size) is _Dimension else size for size in plain]
  if any(size is None for size in plain):
    checks.fail(f"{needed}, got {_brief(given)}")
  return plain


def _static_vector(name: str, given: Any) -> list[int] | None:
  """Returns given sizes as integers, None if that needs a tensor."""
  if isinstance(given, (list, tuple)) and len(given) == 5:
    if all(type(n) is int and 0 <= n <= _INT64_MAX for n in given):
      return list(given)  # the rest of this takes a tenth of a small call's time
  if isinstance(given, (list, tuple)) and any(map(_is_tensor, given)):
    return None
  if isinstance(given, tf.Variable):
    if not tf.executing_eagerly():
      return None
    given = given.read_value()
  if tf.is_tensor(given):
    if given.dtype not in (tf.int32, tf.int64):
      checks.fail_dtype(
        f"{name} must have one of the dtypes int32, int64, "
        f"got {getattr(given.dtype, 'name', given.dtype)}"
      )
    value = tf.get_static_value(given)
    if value is None:
      return None
    array = np.asarray(value)
  else:
    if given is None:
      raise ValueError(f"{name} must be a vector of 5 integers, got None")
    if isinstance(given, (list, tuple)) and any(
      isinstance(size, int) and not -_INT64_MAX <= size <= _INT64_MAX for size in given
    ):
      raise ValueError(f"{name} must fit into int64, got {_brief(given)}")
    try:
      array = np.asarray(given)
    except ValueError as error:
      raise ValueError(
        f"{name} must be a vector of 5 integers, got {_brief(given)}: {error}"
      ) from None
    if array.dtype.kind == "f" and isinstance(given, np.ndarray):
      # The raw op takes an array of whole floats, though not a list of them.
      with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
      if np.array_equal(whole, array):
        array = whole
    if array.dtype.kind not in "iu" and array.size:  # an empty list has no dtype to speak of
      checks.fail_dtype(
        f"{name} must have one of the dtypes int32, int64, got {_brief(given)}"
      )
  if array.shape != (5,):
    checks.fail(
      f"{name} must be a vector of 5 integers, got shape {list(array.shape)}: "
      f"{_brief(array.tolist())}"
    )
  return [int(size) for size in array]


def _integer_tensor(name: str, given: Any, needed: str) -> tf.Tensor:
  try:
    tensor = tf.convert_to_tensor(given, name=name)
  except (TypeError, ValueError, OverflowError, tf.errors.OpError) as error:
    raise ValueError(f"{needed}, got {_brief(given)}: {error}") from None
  if tensor.dtype not in (tf.int32, tf.int64):
    checks.fail_dtype(
      f"{name} must have one of the dtypes int32, int64, got {tensor.dtype.name}"
    )
  return tensor


def _problem(
  function: Function,
  dtype: tf.DType,
  attributes: Attributes,
  shapes: dict[str, list[Size]],
  rules: checks.Checks,
) -> Problem:
  """Returns the problem after stating every rule about two arguments that must agree."""
  layout = OF_DATA_FORMAT[attributes.data_format]
  of_filter, of_input = map(function.argument, (FILTER, INPUT))
  batch, lengths, in_channels = layout.split(shapes[INPUT])
  *taps, filter_in, filter_out = shapes[FILTER]

  if function.result in shapes:
    _cells(f"{function.asked_by} must have", shapes[function.result], rules)
  if OUTPUT in shapes:
    out_batch, _, out_channels = layout.split(shapes[OUTPUT])
    rules.equal(
      out_batch, batch,
      f"out_backprop must have the batch size of {of_input}: got {{}}, needed {{}}",
      out_batch, batch,
    )  # fmt: skip
    rules.equal(
      out_channels, filter_out,
      f"out_backprop must have as many channels as the last dimension of {of_filter}: got {{}}, "
      "needed {}",
      out_channels, filter_out,
    )  # fmt: skip
  # A filter without in channels fits only an input without channels.
  divisor = sizes.maximum(filter_in, 1)
  rules.equal(
    in_channels % divisor, 0,
    f"{of_input} must have a multiple of the in channels of {of_filter}: got {{}}, "
    "needed a multiple of {}",
    in_channels, filter_in,
  )  # fmt: skip
  _when_both_or_neither(
    f"{of_input} must have channels only if {of_filter} has in channels: got {{}}, {of_filter} "
    "has {}", in_channels, filter_in, rules,
  )  # fmt: skip
  if function is not BACKPROP_INPUT:  # whose result may have no channels, with any filter
    rules.equal(
      sizes.minimum(in_channels, 1), sizes.minimum(filter_in, 1),
      f"{of_input} must have channels if {of_filter} has in channels: got {{}}, {of_filter} has "
      "{}", in_channels, filter_in,
    )  # fmt: skip
  groups = sizes.maximum(in_channels // divisor, 1)
  rules.equal(
    filter_out % groups, 0,
    f"{of_filter} must have out channels divisible by the number of groups: got {{}} out channels, "
    f"needed a multiple of {{}}, the channels of {of_input} over the in channels of {of_filter}",
    filter_out, groups,
  )  # fmt: skip
  if OUTPUT in shapes:
    _given_output(function, attributes, shapes, rules)
  else:
    fitting = _fitting_output(function, attributes, zip(lengths, taps), rules)
    shapes = {**shapes, OUTPUT: layout.arranged(batch, fitting, filter_out)}
    if sizes.is_known(*shapes[OUTPUT]):  # else its cells are many only where memory holds as many
      _cells("the output of input and filter must have", shapes[OUTPUT], rules)
  return Problem.of_shapes(dtype, attributes, shapes[FILTER], shapes[INPUT], shapes[OUTPUT])


def _given_output(
  function: Function,
  attributes: Attributes,
  shapes: dict[str, list[Size]],
  rules: checks.Checks,
) -> None:
  """Requires that the output has the lengths that input, filter and attributes give it."""
  data_format, padding, strides, dilations = attributes
  of_filter, of_input = map(function.argument, (FILTER, INPUT))
  _, input_lengths, _ = OF_DATA_FORMAT[data_format].split(shapes[INPUT])
  _, output_lengths, _ = OF_DATA_FORMAT[data_format].split(shapes[OUTPUT])
  for name, n, k, o, stride, dilation in zip(
    _SPATIAL, input_lengths, shapes[FILTER], output_lengths, strides, dilations
  ):
    needed = output_length(n, k, stride, dilation, padding)
    rules.equal(
      o, needed,
      f"out_backprop must have the {name} that {of_input}, {of_filter}, strides, dilations and "
      f"padding give: got {{}}, needed {{}} for {name} {{}} of {of_input}, {{}} taps, stride "
      f"{stride}, dilation {dilation}, {padding}", o, needed, n, k,
    )  # fmt: skip


def _fitting_output(
  function: Function,
  attributes: Attributes,
  lengths: Iterable[tuple[Size, Size]],
  rules: checks.Checks,
) -> list[Size]:
  """Returns the output's lengths, where the filter has to fit, as TensorFlow's convolution asks.

  An input that is one step short of it gives an output of no cells.
  """
  found = []
  steps = zip(attributes.strides, attributes.dilations)
  for name, (n, k), (stride, dilation) in zip(_SPATIAL, lengths, steps):
    if attributes.padding == "VALID":
      spanned = geometry.extent(k, dilation)
      rules.true(
        geometry.valid_output(n, k, stride, dilation) >= 0,
        f"filter must fit into {function.asked_by} with padding VALID: got {{}} cells of {name} "
        f"spanned by {{}} taps with dilation {dilation}, needed at most {{}}", spanned, k, n,
        given=spanned, needed=n,
      )  # fmt: skip
    found.append(output_length(n, k, stride, dilation, attributes.padding))
  return found


def _when_both_or_neither(
  message: str, in_channels: Size, filter_in: Size, rules: checks.Checks
) -> None:
  """Requires that the input has channels if and only if the filter has in channels."""
  if sizes.is_known(in_channels, filter_in):
    # TensorFlow takes a result of no channels with any filter, and gives it back empty.
    rules.true(in_channels == 0 or filter_in > 0, message, in_channels, filter_in)
  else:
    holds = tf.logical_or(tf.equal(in_channels, 0), tf.greater(filter_in, 0))
    rules.true(holds, message, in_channels, filter_in)


def _cells(tensor_must_have: str, shape: list[Size], rules: checks.Checks) -> None:
  """Requires that the number of cells fits into TensorFlow's 64-bit count."""
  message = f"{tensor_must_have} fewer than 2^63 cells: got {{}}"
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
