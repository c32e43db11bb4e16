"""Malformed calls, and what comes of them in child processes."""

import dataclasses
import functools
import resource
from concurrent import futures

import numpy as np
import tensorflow as tf

import tf_conv3d_grad
from tf_conv3d_grad.cli.malformed import WELL_FORMED
from tf_conv3d_grad.conformance import children, ways

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


CALLS = {}


def _add(arguments, name, changes, given=(), kind=TENSOR_VALUE, or_result=False):
  arguments = (arguments,) if isinstance(arguments, str) else arguments
  given = (given,) if isinstance(given, str) else given
  CALLS[f"{arguments[0]}: {name}"] = Call(arguments, changes, given, kind, or_result)


def _add_input_sizes():
  def add(name, value, given=(), also=(), **options):
    _add(("input_sizes", *also), name, {"input_sizes": value}, given, **options)

  add("of length 1", [4], ("1", "[4]"))
  add("empty", np.array([], np.int32), "0")
  add("scalar", 4)
  add("of length 4", [2, 4, 5, 6], "4")
  add("of length 6", [2, 4, 5, 6, 4, 1], "6")
  add("a matrix", [[2, 4, 5, 6, 4]], "5")
  add("batch zero", [0, 4, 5, 6, 4], "0", ("out_backprop",))
  add("depth -1", [2, -1, 5, 6, 4], "-1")
  add("batch negative", [-2, 4, 5, 6, 4], "-2")
  add("channels negative", [2, 4, 5, 6, -4], "-4")
  add("beyond int32", np.array([2, 2**31, 5, 6, 4]), str(2**31), also=("out_backprop",))
  add("overflowing int64 as a product", np.array([2**40] * 4 + [4]), str(2**40), ("out_backprop",))
  largest = 2**63 - 1
  add(
    "all the largest int64",
    np.array([largest] * 5),
    (str(largest), "2"),
    ("out_backprop", "filter"),
  )
  add("beyond int64", [2, 2**63, 5, 6, 4], str(2**63), kind=BEYOND_INT64)
  add("floats", [2.0, 4.0, 5.0, 6.0, 4.0], ("float", "2.0"), kind=DTYPE)
  add("a float tensor", tf.constant([2.0, 4.0, 5.0, 6.0, 4.0]), "float32", kind=DTYPE)
  add("a boolean tensor", tf.constant([True] * 5), "bool", kind=DTYPE)
  add("booleans", [True] * 5, ("bool", "True"), kind=DTYPE)
  add("a tensor of uint8", tf.constant([2, 4, 5, 6, 4], tf.uint8), "uint8", kind=DTYPE)
  add("a string", "24564", ("string", "24564"), kind=DTYPE)
  add("strings", ["2", "4", "5", "6", "4"], ("string", "'2'"), kind=DTYPE)
  add("None", None, kind=NO_TENSOR)
  add("with None in it", [None, 4, 5, 6, 4], kind=NO_TENSOR)
  add("another batch", [3, 4, 5, 6, 4], "3", ("out_backprop",))
  add("another depth", [2, 5, 5, 6, 4], "5", ("out_backprop",))
  add("channels the filter's do not divide", [2, 4, 5, 6, 6], "6", ("filter",))
  add("more groups than divide the out channels", [2, 4, 5, 6, 16], ("16", "4"), ("filter",))
  add("no channels", [2, 4, 5, 6, 0], also=("filter",), or_result=True)
  add("an empty axis", [2, 4, 5, 0, 4], also=("out_backprop",), or_result=True)


# As TensorFlow 2.20, and older ones, write them.
_TIB = ("1 TiB", "1.00TiB", "1099511627776")
_EIB = ("1 EiB", "1.00EiB", "1152921504606846976")


def _add_too_large():
  def add(name, changes, given):
    _add("input_sizes", name, changes, given, TOO_LARGE)

  def strided(*lengths):
    """One cell of `out_backprop` and one tap a cell: all lengths are legal, and so is the rest."""
    return {
      "input_sizes": np.array([1, *lengths, 4]),
      "filter": ones(1, 1, 1, 4, 2),
      "out_backprop": ones(1, 1, 1, 1, 2),
      "strides": [1, *lengths, 1],
    }

  add("1 TiB", strided(2**12, 2**12, 2**12), _TIB + ("[262144,1048576]",))
  add(
    "1 EiB",
    strided(2**18, 2**19, 2**19),
    _EIB + ("[2147483647,1048576]", "[1,262144,524288,524288,4]"),
  )
  # The filter does not fit, so that there is nothing to add up.
  add(
    "1 TiB of zeros",
    {
      "input_sizes": np.array([1, 2, 2**13, 2**13, 2**11]),
      "filter": ones(3, 3, 3, 2**11, 1),
      "out_backprop": np.zeros([1, 0, 2**13 - 2, 2**13 - 2, 1], np.float32),
      "padding": "VALID",
    },
    _TIB + ("[262144,1048576]", "[1,2,8192,8192,2048]"),
  )


def _add_filter():
  def add(name, value, given=(), also=(), **options):
    _add(("filter", *also), name, {"filter": value}, given, **options)

  add("of rank 0", ones())
  add("of rank 1", ones(6), ("6", "1"))
  add("empty", np.array([], np.float32), ("0", "1"))
  add("of rank 4", ones(3, 3, 4, 6), "4")
  add("of rank 6", ones(1, 3, 3, 3, 4, 6), "6")
  add("no out channels", ones(3, 3, 3, 4, 0), "0", ("out_backprop",))
  add("in channels that do not divide", ones(3, 3, 3, 3, 6), "3", ("input_sizes",))
  add("more in channels than there are", ones(3, 3, 3, 8, 6), "8", ("input_sizes",))
  add("no in channels", ones(3, 3, 3, 0, 6), also=("input_sizes",), or_result=True)
  add("groups that do not divide the out channels", ones(3, 3, 3, 1, 6), ("4", "6"))
  add("other out channels", ones(3, 3, 3, 4, 5), "5", ("out_backprop",))
  add("of integers", tf.ones([3, 3, 3, 4, 6], tf.int32), "int32", kind=DTYPE)
  add("complex", tf.ones([3, 3, 3, 4, 6], tf.complex64), "complex64", kind=DTYPE)
  add("boolean", tf.ones([3, 3, 3, 4, 6], tf.bool), "bool", kind=DTYPE)
  _add(
    ("filter", "out_backprop"),
    "of another dtype",
    {"filter": tf.ones([3, 3, 3, 4, 6], tf.float64), "out_backprop": tf.ones([2, 4, 5, 6, 6])},
    ("float64", "double"),
    DTYPE,
  )
  add("None", None, kind=NO_TENSOR)
  add("a ragged list", [[1.0, 2.0], [3.0]], kind=NO_TENSOR)
  add("a string", tf.constant("filter"), "string", kind=DTYPE)


def _add_out_backprop():
  def add(name, value, given=(), also=(), more=None, **options):
    _add(("out_backprop", *also), name, {"out_backprop": value, **(more or {})}, given, **options)

  channels_first = {"input_sizes": [2, 4, 4, 5, 6], "data_format": "NCDHW"}
  add("of rank 0", ones())
  add("of rank 1", ones(6), ("6", "1"))
  add("empty", np.array([], np.float32), ("0", "1"))
  add("of rank 4", ones(4, 5, 6, 6), "4")
  add("of rank 4, channels first", ones(2, 6, 5, 6), ("4", "6, 5, 6"), more=channels_first)
  add("of rank 6", ones(1, 2, 4, 5, 6, 6), "6")
  add("another batch", ones(1, 4, 5, 6, 6), "1", ("input_sizes",))
  add("another depth", ones(2, 3, 5, 6, 6), "3", ("input_sizes",))
  add("another height", ones(2, 4, 6, 6, 6), "6", ("input_sizes",))
  add("another width", ones(2, 4, 5, 7, 6), "7", ("input_sizes",))
  add("other channels", ones(2, 4, 5, 6, 5), "5", ("filter",))
  add("in the other format", ones(2, 6, 4, 5, 6), ("4", "6"), ("input_sizes", "filter"))
  add(
    "in the other format, channels first",
    ones(2, 4, 5, 6, 6),
    ("4", "6"),
    ("input_sizes", "filter"),
    channels_first,
  )
  add("an empty axis", ones(2, 4, 5, 0, 6), also=("input_sizes",), or_result=True)
  _add(
    ("out_backprop", "filter"),
    "of another dtype",
    {"filter": tf.ones([3, 3, 3, 4, 6]), "out_backprop": tf.ones([2, 4, 5, 6, 6], tf.float16)},
    ("float16", "half"),
    DTYPE,
  )
  add("None", None, kind=NO_TENSOR)
  add("a string", "out_backprop", kind=NO_TENSOR)
  add("a ragged list", [[1.0, 2.0], [3.0]], kind=NO_TENSOR)
  for dtype in ("int32", "bool", "complex64"):
    value = tf.ones([2, 4, 5, 6, 6], dtype)
    add(f"of {dtype}", value, dtype, ("filter",), kind=DTYPE)
  add(
    "the size for SAME with VALID",
    ones(2, 4, 5, 6, 6),
    ("4", "5", "6"),
    ("input_sizes",),
    {"padding": "VALID"},
  )
  add(
    "not empty where the filter does not fit",
    ones(2, 2, 3, 1, 6),
    "1",
    ("filter", "input_sizes"),
    {"padding": "VALID", "filter": ones(3, 3, 8, 4, 6)},
  )
  # One output cell would fit if the negative room were rounded towards zero.
  add(
    "one cell where the filter does not fit the stride",
    ones(2, 2, 3, 1, 6),
    "1",
    ("filter", "input_sizes"),
    {"padding": "VALID", "filter": ones(3, 3, 8, 4, 6), "strides": [1, 1, 1, 3, 1]},
  )


def _add_strides_and_dilations():
  for argument in ("strides", "dilations"):

    def add(name, value, given=(), argument=argument, **options):
      options = {"kind": ATTRIBUTE, **options}
      _add(argument, name, {argument: value}, given, **options)

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
  _add("strides", "None", {"strides": None}, "None", WRONG_TYPE)
  _add(
    ("strides", "out_backprop"),
    "the largest int32",
    {"strides": [1, 2**31 - 1, 1, 1, 1]},
    (str(2**31 - 1), "4"),
    Kind((INVALID,), (VALUE,), (INVALID,)),
  )
  # Only the middle tap meets the input: a result, however large the dilation.
  _add(
    "dilations",
    "the largest int32",
    {"dilations": [1, 2**31 - 1, 1, 1, 1]},
    str(2**31 - 1),
    Kind((INVALID,), (VALUE,), (INVALID,)),
    or_result=True,
  )


def _add_strings():
  for argument, values in (
    ("padding", ("EXPLICIT", "same", "")),
    ("data_format", ("NHWC", "ndhwc", "NDHWC ", "")),
  ):
    for value in values:
      _add(argument, repr(value), {argument: value}, value, ATTRIBUTE)
    _add(argument, "a number", {argument: 5}, "5", WRONG_TYPE)
    _add(argument, "a list", {argument: [WELL_FORMED[argument]]}, WELL_FORMED[argument], WRONG_TYPE)
    _add(argument, "a boolean", {argument: True}, "True", WRONG_TYPE)
    _add(argument, "no text", {argument: b"\xff"}, kind=ATTRIBUTE)
  _add("padding", "None", {"padding": None}, "None", WRONG_TYPE)


_add_input_sizes()
_add_too_large()
_add_filter()
_add_out_backprop()
_add_strides_and_dilations()
_add_strings()


OPS = {"this": tf_conv3d_grad.Conv3DBackpropInputV2, "tensorflow": tf.raw_ops.Conv3DBackpropInputV2}
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


# Bytes that the calls may take.
_MEMORY = 2**39


class Maker:
  """Makes calls in child processes, a new one whenever one dies; a context manager."""

  def __init__(self, op, way):
    """Starts no process yet.

    Args:
      op: "this" or "tensorflow".
      way: One of `WAYS`.
    """
    self._op, self._way = op, way
    self._children = children.Children(_make_at_once)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._children.__exit__(*error)

  def outcomes(self, names):
    """Makes these calls at once.

    Returns:
      A dict by name: "exceptions", the names of the exception's classes, and "message"; or "died",
      what ended the child or "hang".
    """
    answer = self._children.call(self._op, self._way, names)
    if isinstance(answer, children.Ended):
      answer = [{"died": answer.error or "hang"}] * len(names)
    return dict(zip(names, answer))


def in_table(name):
  """Returns a call's name as docs/errors.md has it."""
  return name.replace("|", "\\|")


def _make_at_once(op, way, names):
  # As much as many machines have; where there is more, 1 TiB is too large all the same.
  _, hard = resource.getrlimit(resource.RLIMIT_AS)
  if hard == resource.RLIM_INFINITY or hard > _MEMORY:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, hard))
  with futures.ThreadPoolExecutor(len(names)) as threads:
    return list(threads.map(functools.partial(_make, op, way), names))


def _make(op, way, name):
  try:
    result = ways.call(WAYS[way], OPS[op], {**WELL_FORMED, **CALLS[name].changes})
  except BaseException as error:  # Whatever it is, the parent judges it.
    return {"exceptions": [base.__name__ for base in type(error).__mro__], "message": str(error)}
  return {"exceptions": [], "message": f"a result of shape {result.shape}"}
