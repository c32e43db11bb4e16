"""Malformed calls, and what comes of them in child processes."""

import dataclasses
import functools
import resource
from concurrent import futures

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from tf_conv3d_grad.cli.malformed import WELL_FORMED
from tf_conv3d_grad.conformance import children, direction, ways

INVALID, VALUE, TYPE = "InvalidArgumentError", "ValueError", "TypeError"
EXHAUSTED = "ResourceExhaustedError"


@dataclasses.dataclass(frozen=True)
class Kind:
  """What exceptions a malformed call may raise, by when its fault can be seen.

  Attributes:
    eager: When called eagerly.
    traced: While tracing, where the fault can be seen then.
    at_run_time: When a graph runs whose tracing could not see the fault; None where it always can.
  """

  eager: tuple
  traced: tuple
  at_run_time: tuple


# A number or shape that tensors may carry.
TENSOR_VALUE = Kind((INVALID,), (VALUE,), (INVALID,))
# A number or string among the attributes, which are always known.
ATTRIBUTE = Kind((INVALID,), (VALUE,), None)
# A dtype that the op does not take.
DTYPE = Kind((INVALID,), (TYPE,), None)
# It is refused for its length while it is a list, and for its dtype once it is a tensor, of floats.
EMPTY_LIST = Kind((INVALID,), (VALUE, TYPE), None)
# An attribute that is not even a list of integers, or a string.
WRONG_TYPE = Kind((TYPE,), (TYPE,), None)
# What no tensor can be made of; TensorFlow's own exception depends on how the attempt fails.
NO_TENSOR = Kind((INVALID, VALUE, TYPE), (VALUE, TYPE), None)
BEYOND_INT64 = Kind((INVALID, VALUE), (VALUE,), None)
# A result that no memory can hold: for a graph that is said where it runs, by TensorFlow, with the
# name of an operation for the argument's.
TOO_LARGE = Kind((EXHAUSTED,), (EXHAUSTED,), (EXHAUSTED,))


@dataclasses.dataclass(frozen=True)
class Call:
  """A malformed call.

  Attributes:
    arguments: Which of these the message has to name one of.
    changes: What differs from `WELL_FORMED`.
    given: What the message has to show of what was given; any of these.
    kind: The exceptions it may raise.
    or_result: Whether TensorFlow's own op gives a result, so that giving one is no fault either.
  """

  arguments: tuple
  changes: dict
  given: tuple
  kind: Kind
  or_result: bool = False


def ones(*shape, dtype="float32"):
  return np.ones(shape, dtype)


# By the op's name and the call's.
CALLS = {op: {} for op in WELL_FORMED}
_CONV3D, _BACKPROP_INPUT, _BACKPROP_FILTER = CALLS


def _adder(op, argument):
  """Returns a function that adds a call whose fault is in an argument.

  It takes the call's name, the argument's value, any of what the message has to show, other
  arguments that it may name instead, other changes, and fields of `Call`.
  """

  def add(name, value, given=(), also=(), more=None, kind=TENSOR_VALUE, **options):
    given = (given,) if isinstance(given, str) else given
    changes = {**(more or {}), argument: value}
    CALLS[op][f"{argument}: {name}"] = Call((argument, *also), changes, given, kind, **options)

  return add


def _add_sizes(op, argument):
  """Adds what no vector of sizes is; the others depend on what they are sizes of."""
  add = _adder(op, argument)
  sizes = WELL_FORMED[op][argument]
  add("of length 1", [4], ("1", "[4]"))
  add("empty", np.array([], np.int32), "0")
  add("an empty list", [], ("[0]: []", "float32"), kind=EMPTY_LIST)
  add("scalar", 4)
  add("of length 4", sizes[:4], "4")
  add("of length 6", [*sizes, 1], "6")
  add("a matrix", [sizes], "5")
  add("beyond int64", [2, 2**63, 5, 6, 4], str(2**63), kind=BEYOND_INT64)
  add("floats", [float(size) for size in sizes], ("float", f"{sizes[0]}.0"), kind=DTYPE)
  add("a float tensor", tf.constant(sizes, tf.float32), "float32", kind=DTYPE)
  add("a boolean tensor", tf.constant([True] * 5), "bool", kind=DTYPE)
  add("booleans", [True] * 5, ("bool", "True"), kind=DTYPE)
  add("a tensor of uint8", tf.constant(sizes, tf.uint8), "uint8", kind=DTYPE)
  text = "".join(map(str, sizes))
  add("a string", text, ("string", text), kind=DTYPE)
  add("strings", [*map(str, sizes)], ("string", f"'{sizes[0]}'"), kind=DTYPE)
  add("None", None, kind=NO_TENSOR)
  add("with None in it", [None, *sizes[1:]], kind=NO_TENSOR)
  negative = [*sizes]
  negative[1] = -1
  add("depth -1", negative, "-1")
  largest = 2**63 - 1
  add(
    "all the largest int64", np.array([largest] * 5), (str(largest), "2"), _others(op, argument)
  )


def _add_input_sizes():
  _add_sizes(_BACKPROP_INPUT, "input_sizes")
  add = _adder(_BACKPROP_INPUT, "input_sizes")
  add("batch zero", [0, 4, 5, 6, 4], "0", ("out_backprop",))
  add("batch negative", [-2, 4, 5, 6, 4], "-2")
  add("channels negative", [2, 4, 5, 6, -4], "-4")
  add("beyond int32", np.array([2, 2**31, 5, 6, 4]), str(2**31), ("out_backprop",))
  add("overflowing int64 as a product", np.array([2**40] * 4 + [4]), str(2**40), ("out_backprop",))
  add("another batch", [3, 4, 5, 6, 4], "3", ("out_backprop",))
  add("another depth", [2, 5, 5, 6, 4], "5", ("out_backprop",))
  add("channels the filter's do not divide", [2, 4, 5, 6, 6], "6", ("filter",))
  add("more groups than divide the out channels", [2, 4, 5, 6, 16], ("16", "4"), ("filter",))
  add("no channels", [2, 4, 5, 6, 0], also=("filter",), or_result=True)
  add("an empty axis", [2, 4, 5, 0, 4], also=("out_backprop",), or_result=True)


def _add_filter_sizes():
  _add_sizes(_BACKPROP_FILTER, "filter_sizes")
  add = _adder(_BACKPROP_FILTER, "filter_sizes")
  add("width negative", [3, 3, -3, 4, 6], "-3")
  add("in channels negative", [3, 3, 3, -4, 6], "-4")
  add("out channels negative", [3, 3, 3, 4, -6], "-6")
  add("the least int64", np.array([3, -(2**63), 3, 4, 6]), str(-(2**63)))
  add("overflowing int64 as a product", np.array([2**40] * 3 + [4, 6]), str(2**40))
  add("overflowing int32 as a product", np.array([2**16, 2**16, 3, 4, 5]), "5", ("out_backprop",))
  add("other out channels", [3, 3, 3, 4, 5], "5", ("out_backprop",))
  add("no out channels", [3, 3, 3, 4, 0], "0", ("out_backprop",))
  add("in channels that do not divide", [3, 3, 3, 3, 6], "3", ("input",))
  add("more in channels than there are", [3, 3, 3, 8, 6], "8", ("input",))
  add("no in channels", [3, 3, 3, 0, 6], also=("input",), or_result=True)
  add("groups that do not divide the out channels", [3, 3, 3, 1, 6], ("4", "6"), ("input",))
  add("no taps", [3, 0, 3, 4, 6], or_result=True)
  add("no taps with VALID", [0, 3, 3, 4, 6], "0", ("out_backprop",), {"padding": "VALID"})
  longer = np.array([2**31, 3, 3, 4, 6])
  add("beyond int32 with VALID", longer, str(2**31), ("out_backprop",), {"padding": "VALID"})


# As TensorFlow 2.20, and older ones, write them.
_TIB = ("1 TiB", "1.00TiB", "1099511627776")
_EIB = ("1 EiB", "1.00EiB", "1152921504606846976")


def _add_too_large():
  def strided(*lengths):
    """One cell of `out_backprop` and one tap a cell: all lengths are legal, and so is the rest."""
    return np.array([1, *lengths, 4]), {
      "filter": ones(1, 1, 1, 4, 2),
      "out_backprop": ones(1, 1, 1, 1, 2),
      "strides": [1, *lengths, 1],
    }

  def add(name, value, more, given):
    _adder(_BACKPROP_INPUT, "input_sizes")(name, value, given, (), more, TOO_LARGE)

  add("1 TiB", *strided(2**12, 2**12, 2**12), _TIB)
  add("1 EiB", *strided(2**18, 2**19, 2**19), _EIB)
  # The filter does not fit, so that there is nothing to add up.
  add(
    "1 TiB of zeros",
    np.array([1, 2, 2**13, 2**13, 2**11]),
    {
      "filter": ones(3, 3, 3, 2**11, 1),
      "out_backprop": np.zeros([1, 0, 2**13 - 2, 2**13 - 2, 1], np.float32),
      "padding": "VALID",
    },
    _TIB,
  )

  def add(name, value, more, given):
    _adder(_BACKPROP_FILTER, "filter_sizes")(name, value, given, (), more, TOO_LARGE)

  # Only the middle tap meets the one cell.
  small = {"input": ones(1, 1, 1, 1, 2), "out_backprop": ones(1, 1, 1, 1, 2)}
  add("1 TiB", np.array([2**12, 2**12, 2**12, 2, 2]), small, _TIB)
  add("1 EiB", np.array([2**18, 2**19, 2**19, 2, 2]), small, _EIB)

  def add(name, value, more, given):
    _adder(_CONV3D, "input")(name, value, given, ("filter",), more, TOO_LARGE)

  # Without channels an input of any size takes no memory.
  pointwise = {"filter": np.zeros([1, 1, 1, 0, 1], np.float32)}
  def no_channels(*sizes):
    return np.zeros([*sizes, 1, 0], np.float32)

  add("1 TiB of zeros", no_channels(2**12, 2**13, 2**13), pointwise, _TIB)
  add("1 EiB of zeros", no_channels(2**18, 2**20, 2**20), pointwise, _EIB)
  # A filter of no taps reaches back as far as its dilation.
  far = 2**12 - 1
  add(
    "1 TiB of no taps",
    ones(1, 1, 1, 1, 1),
    {
      "filter": np.zeros([0, 0, 0, 1, 4], np.float32),
      "dilations": [1, far, far, far, 1],
      "padding": "VALID",
    },
    _TIB,
  )


_CHANNELS_FIRST = {
  "input_sizes": [2, 4, 4, 5, 6],
  "input": ones(2, 4, 4, 5, 6),
  "out_backprop": ones(2, 6, 4, 5, 6),
}


def _channels_first(op):
  """Returns what makes the well-formed call one of channels first."""
  changes = {name: value for name, value in _CHANNELS_FIRST.items() if name in WELL_FORMED[op]}
  return {**changes, "data_format": "NCDHW"}


def _others(op, argument):
  """Returns the op's other tensors."""
  return tuple(name for name in direction.of_arguments(WELL_FORMED[op]).tensors if name != argument)


def _add_operand(op, argument, shape):
  """Adds what no operand of any op may be."""
  add = _adder(op, argument)
  add("of rank 0", ones())
  add("of rank 1", ones(6), ("6", "1"))
  add("empty", np.array([], np.float32), ("0", "1"))
  add("of rank 4", ones(*shape[1:] if argument != "filter" else (3, 3, 4, 6)), "4")
  add("of rank 6", ones(1, *shape), "6")
  operands = direction.of_arguments(WELL_FORMED[op]).operands
  (other,) = (name for name in operands if name != argument)
  more = {other: tf.constant(WELL_FORMED[op][other])}
  add("of another dtype", tf.ones(shape, tf.float64), ("float64", "double"), (other,), more, DTYPE)
  add("None", None, kind=NO_TENSOR)
  add("a ragged list", [[1.0, 2.0], [3.0]], kind=NO_TENSOR)
  if argument != "filter":
    more = _channels_first(op)
    first = more[argument].shape
    add("of rank 4, channels first", ones(*first[:2], *first[3:]), ("4", ", 5, 6"), more=more)
    add("a string", argument, kind=NO_TENSOR)
    for dtype in ("int32", "bool", "complex64"):
      add(f"of {dtype}", tf.ones(shape, dtype), dtype, (other,), kind=DTYPE)


def _add_filter(op):
  _add_operand(op, "filter", (3, 3, 3, 4, 6))
  add = _adder(op, "filter")
  others = _others(op, "filter")
  of_input = others[:1]
  add("in channels that do not divide", ones(3, 3, 3, 3, 6), "3", of_input)
  add("more in channels than there are", ones(3, 3, 3, 8, 6), "8", of_input)
  add("no in channels", ones(3, 3, 3, 0, 6), also=of_input, or_result=True)
  add("groups that do not divide the out channels", ones(3, 3, 3, 1, 6), ("4", "6"))
  add("of integers", tf.ones([3, 3, 3, 4, 6], tf.int32), "int32", kind=DTYPE)
  add("complex", tf.ones([3, 3, 3, 4, 6], tf.complex64), "complex64", kind=DTYPE)
  add("boolean", tf.ones([3, 3, 3, 4, 6], tf.bool), "bool", kind=DTYPE)
  add("a string", tf.constant("filter"), "string", kind=DTYPE)
  if op == _BACKPROP_INPUT:
    add("no out channels", ones(3, 3, 3, 4, 0), "0", ("out_backprop",))
    add("other out channels", ones(3, 3, 3, 4, 5), "5", ("out_backprop",))
  else:
    valid = {"padding": "VALID"}
    add("no out channels", ones(3, 3, 3, 4, 0), or_result=True)
    add("no taps", ones(3, 0, 3, 4, 6), or_result=True)
    add("longer than the input with VALID", ones(6, 3, 3, 4, 6), ("6", "4"), of_input, valid)
    add(
      "longer than a strided input with VALID",
      ones(3, 3, 9, 4, 6),
      ("9", "6"),
      of_input,
      {**valid, "strides": [1, 1, 1, 2, 1]},
    )
    # One cell short is an output of none.
    add("one cell too long with VALID", ones(3, 3, 7, 4, 6), "7", of_input, valid, or_result=True)


def _add_input(op):
  shape = (2, 4, 5, 6, 4)
  _add_operand(op, "input", shape)
  add = _adder(op, "input")
  of_filter = _others(op, "input")[:1]
  others = _others(op, "input")
  first = _channels_first(op)
  add("channels the filter's do not divide", ones(2, 4, 5, 6, 6), "6", of_filter)
  add("more groups than divide the out channels", ones(2, 4, 5, 6, 16), ("16", "4"), of_filter)
  add("no channels", ones(2, 4, 5, 6, 0), also=of_filter, or_result=True)
  add("an empty axis", ones(2, 4, 5, 0, 4), also=others, or_result=True)
  add("an empty batch", ones(0, 4, 5, 6, 4), also=others, or_result=True)
  add("in the other format", ones(2, 4, 4, 5, 6), ("6", "4"), others)
  if op == _CONV3D:
    add("in the other format, channels first", ones(2, 5, 6, 5, 4), "5", of_filter, first)
    valid = {"padding": "VALID"}
    add("shorter than the filter with VALID", ones(2, 4, 1, 6, 4), ("1", "3"), of_filter, valid)
    add(
      "shorter than a dilated filter with VALID",
      ones(*shape),
      ("9", "5"),
      of_filter,
      {**valid, "dilations": [1, 1, 4, 1, 1]},
    )
  else:
    add("in the other format, channels first", ones(*shape), ("5", "4"), others, first)
    add("another batch", ones(3, 4, 5, 6, 4), "3", ("out_backprop",))
    add("another depth", ones(2, 3, 5, 6, 4), "3", ("out_backprop",))
    add("another height", ones(2, 4, 6, 6, 4), "6", ("out_backprop",))
    add("another width", ones(2, 4, 5, 7, 4), "7", ("out_backprop",))


def _add_out_backprop(op):
  _add_operand(op, "out_backprop", (2, 4, 5, 6, 6))
  add = _adder(op, "out_backprop")
  of_input, of_filter = _others(op, "out_backprop")
  add("another batch", ones(1, 4, 5, 6, 6), "1", (of_input,))
  add("another depth", ones(2, 3, 5, 6, 6), "3", (of_input,))
  add("another height", ones(2, 4, 6, 6, 6), "6", (of_input,))
  add("another width", ones(2, 4, 5, 7, 6), "7", (of_input,))
  add("other channels", ones(2, 4, 5, 6, 5), "5", (of_filter,))
  add("in the other format", ones(2, 6, 4, 5, 6), ("4", "6"), (of_input, of_filter))
  add(
    "in the other format, channels first",
    ones(2, 4, 5, 6, 6),
    ("4", "6"),
    (of_input, of_filter),
    _channels_first(op),
  )
  add("an empty axis", ones(2, 4, 5, 0, 6), also=(of_input,), or_result=True)
  add(
    "the size for SAME with VALID",
    ones(2, 4, 5, 6, 6),
    ("4", "5", "6"),
    (of_input,),
    {"padding": "VALID"},
  )
  longer = [3, 3, 8, 4, 6] if of_filter == "filter_sizes" else ones(3, 3, 8, 4, 6)
  more = {"padding": "VALID", of_filter: longer}
  too_many = ones(2, 2, 3, 1, 6)
  add("not empty where the filter does not fit", too_many, "1", (of_filter, of_input), more)
  # One output cell would fit if the negative room were rounded towards zero.
  add(
    "one cell where the filter does not fit the stride",
    too_many,
    "1",
    (of_filter, of_input),
    {**more, "strides": [1, 1, 1, 3, 1]},
  )


def _add_strides_and_dilations(op):
  for argument in ("strides", "dilations"):

    def add(name, value, given=(), argument=argument, **options):
      _adder(op, argument)(name, value, given, **{"kind": ATTRIBUTE, **options})

    add("empty", [], ("0", "[]"))
    add("of length 3", [1, 1, 1], ("3", "1, 1, 1"))
    add("of length 6", [1] * 6, ("6", "1, 1, 1, 1, 1, 1"))
    add("zero", [1, 1, 0, 1, 1], "0")
    add("negative", [1, -1, 1, 1, 1], "-1")
    add("beyond int32", [1, 2**31, 1, 1, 1], str(2**31))
    add("beyond int64", [1, 2**63, 1, 1, 1], str(2**63))
    add("beyond one of the batch", [2, 1, 1, 1, 1], "2")
    add("beyond one of the channels", [1, 1, 1, 1, 2], "2")
    add("fractions", [1.5] * 5, "1.5")
    add("not a number", [1, float("nan"), 1, 1, 1], "nan")
    add("beyond every float", [1, 10**400, 1, 1, 1], "1000000")
    add("booleans", [True] * 5, or_result=True, kind=WRONG_TYPE)
    add("a tensor", tf.constant([1] * 5), "tf.Tensor", kind=WRONG_TYPE)
    add("an array", np.ones(5, np.int32), "1", kind=WRONG_TYPE)
    add("strings", ["1"] * 5, "1", kind=WRONG_TYPE)
    add("a string", "11111", "11111", kind=WRONG_TYPE)
    add("a number", 1, "1", kind=WRONG_TYPE)
    add("nested", [[1] * 5], "1", kind=WRONG_TYPE)
    add("with None in it", [1, None, 1, 1, 1], "None", kind=WRONG_TYPE)
  largest = [1, 2**31 - 1, 1, 1, 1]
  add = _adder(op, "strides")
  add("None", None, "None", kind=WRONG_TYPE)
  # A convolution of one cell is a right one.
  others = () if op == _CONV3D else ("out_backprop",)
  add("the largest int32", largest, (str(2**31 - 1), "4"), others, or_result=op == _CONV3D)
  # Only the middle tap meets the input: a result, however large the dilation.
  add = _adder(op, "dilations")
  add("the largest int32", largest, str(2**31 - 1), or_result=True)
  if op == _CONV3D:
    valid = {"padding": "VALID"}
    add("the largest int32 with VALID", largest, ("4", "3"), ("filter", "input"), valid)


def _add_strings(op):
  for argument, values in (
    ("padding", ("EXPLICIT", "same", "")),
    ("data_format", ("NHWC", "ndhwc", "NDHWC ", "")),
  ):
    add = _adder(op, argument)
    for value in values:
      add(repr(value), value, value, kind=ATTRIBUTE)
    well_formed = WELL_FORMED[op][argument]
    add("a number", 5, "5", kind=WRONG_TYPE)
    add("a list", [well_formed], well_formed, kind=WRONG_TYPE)
    add("a boolean", True, "True", kind=WRONG_TYPE)
    add("no text", b"\xff", kind=ATTRIBUTE)
  _adder(op, "padding")("None", None, "None", kind=WRONG_TYPE)


_add_input_sizes()
_add_filter_sizes()
_add_too_large()
_add_input(_CONV3D)
_add_input(_BACKPROP_FILTER)
_add_filter(_CONV3D)
_add_filter(_BACKPROP_INPUT)
_add_out_backprop(_BACKPROP_INPUT)
_add_out_backprop(_BACKPROP_FILTER)
for _op in CALLS:
  _add_strides_and_dilations(_op)
  _add_strings(_op)


# Whose op is called.
OURS, THEIRS = "this", "tensorflow"
_MODULES = {OURS: tf_conv3d_grad, THEIRS: tf.raw_ops}
# Those of `conformance/ways.py`, by the names that docs/errors.md has for them.
WAYS = {
  "eager": "eager",
  "traced": "constants",
  "compiled": "compiled-constants",
  "v1 graph": "v1-graph",
  "nothing known": "unknown-ranks",
  "compiled, nothing known": "compiled-unknown-ranks",
  "v1 graph, nothing known": "v1-unknown-ranks",
  "patched": "patched",
}


def is_made(way, call):
  """Whether the call can be made in this way: what no tensor can be made of cannot be fed."""
  return "nothing known" not in way or call.kind not in (NO_TENSOR, BEYOND_INT64)


def expected_exceptions(way, call):
  """Returns the names of the exceptions that the call may raise in this way of calling."""
  if way in ("eager", "patched"):
    return call.kind.eager
  if "nothing known" in way and call.kind.at_run_time:
    return call.kind.at_run_time
  return call.kind.traced


def failure(way, call, outcome):
  """Returns what is wrong with an outcome of the call, as `Maker` gives it; None if nothing is."""
  if outcome.get("died") is not None:
    return f"{way}: the process died: {outcome['died']}"
  if call.or_result and not outcome["exceptions"]:
    return None
  message = outcome["message"]
  expected = expected_exceptions(way, call)
  if not set(expected) & set(outcome["exceptions"]):
    raised = outcome["exceptions"][:1]
    return f"{way}: must raise {' or '.join(expected)}, got {raised} {message[:500]}"
  is_tensorflows = call.kind == TOO_LARGE and way not in ("eager", "patched")
  if not is_tensorflows and not any(argument in message for argument in call.arguments):
    return f"{way}: must name {' or '.join(call.arguments)}: {message[:500]}"
  # XLA has the numbers, but its messages are not the op's to write.
  given = () if way == "compiled, nothing known" else call.given
  if given and is_tensorflows:
    given += ("OOM when allocating tensor with shape[",)
  if given and not any(text in message for text in given):
    return f"{way}: must show {' or '.join(given)}: {message[:500]}"
  return None


# Bytes that the calls may take.
_MEMORY = 2**39


class Maker:
  """Makes calls in a child process, a new one whenever one dies; a context manager."""

  def __init__(self):
    """Starts no process yet."""
    self._children = children.Children(_make_at_once)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._children.__exit__(*error)

  def outcome(self, whose, way, op, name):
    """Makes a call.

    Args:
      whose: `OURS` or `THEIRS`.
      way: One of `WAYS`.
      op: The op's name, and
      name: the call's, as `CALLS` has them.

    Returns:
      A dict: "exceptions", the names of the exception's classes, and "message"; or "died", what
      ended the child or "hang".
    """
    (outcome,) = self.outcomes(whose, way, [(op, name)])
    return outcome

  def outcomes(self, whose, way, calls):
    """Makes calls of several ops and names at once; returns what comes of each."""
    answer = self._children.call(whose, way, calls)
    if isinstance(answer, children.Ended):
      return [{"died": answer.error or "hang"}] * len(calls)
    return answer


def in_table(name):
  """Returns a call's name as docs/errors.md has it."""
  return name.replace("|", "\\|")


def _make_at_once(whose, way, calls):
  # As much as many machines have; where there is more, 1 TiB is too large all the same.
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  if hard == resource.RLIM_INFINITY or hard > _MEMORY:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, hard))
  with futures.ThreadPoolExecutor(len(calls)) as threads:
    return list(threads.map(functools.partial(_make, whose, way), calls))


def _make(whose, way, call):
  op, name = call
  arguments = {**WELL_FORMED[op], **CALLS[op][name].changes}
  return outcome_of(lambda: ways.call(WAYS[way], getattr(_MODULES[whose], op), arguments))


def outcome_of(make):
  """Makes a call in this process; returns what comes of it."""
  try:
    result = make()
  except BaseException as error:  # Whatever it is, it is for others to judge.
    return {"exceptions": [base.__name__ for base in type(error).__mro__], "message": str(error)}
  return {"exceptions": [], "message": f"a result of shape {result.shape}"}
