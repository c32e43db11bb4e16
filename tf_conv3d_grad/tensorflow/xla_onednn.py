"""oneDNN inside of what XLA compiles for the CPU, and the private names that takes.

TensorFlow 2.21 for x86-64 Linux holds oneDNN's convolution as a custom call of XLA's, and never
emits it. What it is told is the JSON form of a message that may change with any version, and a
wrong one ends the process. So it is used with the versions that were verified only, and not before
one has been compiled and compared in this process.

A function that holds such a call runs with this TensorFlow only. So each is called through a
function of its own, `Replaceable`, in whose place a SavedModel has another one.
"""

from __future__ import annotations

import functools
import json
import platform
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.layout import NDHWC, OF_DATA_FORMAT, OF_FILTER, Layout
from tf_conv3d_grad.tensorflow import private

ENVIRONMENT_VARIABLE = "TF_CONV3D_GRAD_XLA_ONEDNN"
# TensorFlows of whose custom call the form is known: `make compat` proves it.
VERIFIED = ("2.21",)

try:
  from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_custom_call_v2 as _custom_call
  from tensorflow.python.client import pywrap_tf_session as _session
  from tensorflow.python.eager.polymorphic_function.atomic_function import (
    AtomicFunction as _AtomicFunction,
  )
  from tensorflow.python.framework.c_api_util import ScopedTFFunction as _ScopedFunction
  from tensorflow.python.saved_model.save_context import in_save_context as _is_saving
except ImportError:  # `why_not` says so
  _custom_call, _AtomicFunction = None, object


def convolution(
  input: tf.Tensor,  # noqa: A002
  filter: tf.Tensor,  # noqa: A002
  output_shape: Sequence[int],
  layouts: tuple[Layout, Layout, Layout],
  pads: Sequence[tuple[int, int]],
  strides: Sequence[int],
  dilations: Sequence[int],
  groups: int,
  dtype: tf.DType,
) -> tf.Tensor:
  """Returns a convolution, as a call of oneDNN's in what XLA compiles.

  Args:
    input: Of float32 or bfloat16.
    filter: Of the same dtype.
    output_shape: The static shape of the result.
    layouts: Where the dimensions of the input, the filter and the result are; the filter's mostly
      as in `OF_FILTER`.
    pads: The padding in front of and behind depth, height and width, none of it negative.
    strides: Those of depth, height and width.
    dilations: Those of depth, height and width.
    groups: How many groups the channels are split into.
    dtype: That of the result: float32, or the operands'.

  Raises:
    ValueError: For shapes that do not fit each other, which would end the process.
  """
  of_input, of_filter, of_output = layouts
  _require_fit(
    of_input.split(input.shape), of_filter.split(filter.shape), of_output.split(output_shape),
    pads, strides, dilations, groups,
  )  # fmt: skip
  config = {
    "dims": "5",
    "input": {"data": _dimensions(of_input, "batch_dim", "feature_dim")},
    "kernel": {"filter": _dimensions(of_filter, "input_feature_dim", "output_feature_dim")},
    "output": {"data": _dimensions(of_output, "batch_dim", "feature_dim")},
    "window": {
      "pad_left": _strings(front for front, _ in pads),
      "pad_right": _strings(behind for _, behind in pads),
      "strides": _strings(strides),
      "window_dilations": _strings(dilations),
    },
    "feature_groups": str(groups),
  }
  (result,) = _custom_call(
    operands=[input, filter],
    call_target_name="__onednn$convolution",
    backend_config=json.dumps({"onednn_conv_config": config}),
    has_side_effect=False,
    result_dtypes=[dtype],
    result_shapes=[tf.TensorShape(output_shape)],
  )
  return result


def _require_fit(
  of_input: tuple,
  of_filter: tuple,
  of_output: tuple,
  pads: Sequence[tuple[int, int]],
  strides: Sequence[int],
  dilations: Sequence[int],
  groups: int,
) -> None:
  batch, lengths, channels = of_input
  filter_in, taps, filter_out = of_filter
  fits = of_output == (batch, [
    (length + front + behind - geometry.extent(k, dilation)) // stride + 1
    for length, (front, behind), k, dilation, stride in zip(lengths, pads, taps, dilations, strides)
  ], filter_out)  # fmt: skip
  if not fits or channels != groups * filter_in or filter_out % groups or min(map(min, pads)) < 0:
    raise ValueError(
      f"no convolution: input {of_input}, filter {of_filter}, output {of_output}, pads {pads}, "
      f"strides {strides}, dilations {dilations}, groups {groups}"
    )


def _dimensions(layout: Layout, batch: str, channels: str) -> dict[str, Any]:
  return {
    batch: str(layout.batch),
    channels: str(layout.channels),
    "spatial_dims": _strings(layout.spatial),
  }


def _strings(numbers: Any) -> list[str]:
  """Returns integers as JSON has those of 64 bits."""
  return [str(number) for number in numbers]


def is_allowed() -> bool:
  """Returns whether nothing is known that forbids this call here; `works` tries it."""
  return _forbids() is None


def works(dtype: tf.DType) -> bool:
  """Returns whether this call is computed rightly here, in float32 or bfloat16."""
  return why_not(dtype) is None


def why_not(dtype: tf.DType) -> str | None:
  """Returns why oneDNN is not used inside of what XLA compiles, in a dtype; None if it is."""
  return _forbids() or _fails(dtype)


def is_wanted() -> bool:
  """Returns whether the environment does not turn it off.

  Raises:
    ValueError: The environment variable has a value that it cannot have.
  """
  named = private.environment(ENVIRONMENT_VARIABLE, "1")
  if named not in ("0", "1"):
    raise ValueError(f"{ENVIRONMENT_VARIABLE} must be 0 or 1, got {named!r}")
  return named == "1"


def _forbids() -> str | None:
  if not is_wanted():
    return f"{ENVIRONMENT_VARIABLE} is 0"
  if private.is_debugged():  # tried now, it would seem not to work
    return "a debugging mode of TensorFlow's is on"
  return _lacks()


@functools.cache
def _lacks() -> str | None:
  if not any(tf.__version__.startswith(f"{version}.") for version in VERIFIED):
    return f"TensorFlow {tf.__version__} is none of those verified: {', '.join(VERIFIED)}"
  if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
    return "only TensorFlow for Linux on x86-64 has it"
  if _custom_call is None:
    return "this TensorFlow lacks a private name that it takes"
  if not private.onednn_enabled():
    return "TensorFlow's own kernels are not oneDNN's"
  return None


@functools.cache
def _fails(dtype: tf.DType) -> str | None:
  """Returns what was wrong with one tiny convolution, None if nothing was."""
  if not private.outside(tf.executing_eagerly):
    return "TensorFlow 1's behavior is on, in which it cannot be tried"
  if dtype == tf.bfloat16 and not private.onednn_enabled(dtype):
    return "oneDNN has no bfloat16 on this processor"  # asked for, it would end the process
  try:
    wrong = private.outside(functools.partial(_compare, dtype))
  except tf.errors.OpError as error:
    wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
  if wrong is not None:
    warnings.warn(
      f"tf_conv3d_grad: compiled calls do without oneDNN, whose {dtype.name} is not as it was in "
      f"the TensorFlow that was verified: {wrong}",
      RuntimeWarning,
      stacklevel=2,
    )
  return wrong


def _compare(dtype: tf.DType) -> str | None:
  # Integers small enough to be exact in every dtype.
  x = np.arange(2 * 4 * 3 * 5 * 4).reshape(2, 4, 3, 5, 4) % 5 - 2.0
  w = np.arange(2 * 1 * 3 * 2 * 6).reshape(2, 1, 3, 2, 6) % 7 - 3.0
  padded = np.pad(x, [(0, 0), (1, 0), (0, 0), (2, 1), (0, 0)])
  expected = np.zeros((2, 2, 3, 4, 6))
  for d, q, group in np.ndindex(2, 3, 2):
    window = padded[:, d : d + 4 : 2, :, 2 * q : 2 * q + 4, 2 * group : 2 * group + 2]
    out = slice(3 * group, 3 * group + 3)
    expected[..., out] += window @ w[d, 0, q, :, out]

  @functools.partial(tf.function, jit_compile=True, autograph=False)
  def compute(x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
    data, pads = OF_DATA_FORMAT[NDHWC], [(1, 0), (0, 0), (2, 1)]
    layouts = data, OF_FILTER, data
    return [
      convolution(x, w, expected.shape, layouts, pads, (2, 1, 1), (1, 1, 2), 2, of_result)
      for of_result in dict.fromkeys((dtype, tf.float32))
    ]

  with tf.device("/CPU:0"):
    results = compute(tf.cast(x, dtype), tf.cast(w, dtype))
  for result in results:
    if not np.array_equal(np.asarray(tf.cast(result, tf.float64)), expected):
      return f"a convolution with a result of {result.dtype.name} was wrong"
  return None


_building = threading.local()


class Replaceable:
  """A function for what XLA compiles, in whose place a SavedModel has another one.

  A graph calls a function by its name. While TensorFlow saves, `_Replaced` gives that name the
  other function's body. So it does where TensorFlow vectorizes a loop, which takes functions apart.
  """

  def __init__(self, compute: Callable, instead: Callable) -> None:
    """Keeps two functions of two tensors that return the same; `instead` runs everywhere."""
    # What freezes a graph would inline it into a function that XLA compiles, under the old name.
    whole = {"_noinline": True}
    self._compute = tf.function(compute, autograph=False, experimental_attributes=whole)

    def named_apart(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
      with tf.name_scope("portable"):  # no operation has the name of one of `compute`
        return instead(first, second)

    self._instead = tf.function(named_apart, autograph=False)

  def __call__(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Calls the function in the graph that is being built, which XLA is going to compile."""
    if _is_saving():
      return self._instead(first, second)
    specs = [tf.TensorSpec(operand.shape, operand.dtype) for operand in (first, second)]
    concrete = self._compute.get_concrete_function(*specs)
    function = concrete._inference_function
    if not isinstance(function, _Replaced):
      function.__class__ = _Replaced
      function.replacement = functools.partial(self._replacement, specs)
    before = getattr(_building, "call", False)
    _building.call = True
    try:
      return concrete(first, second)
    finally:
      _building.call = before

  def _replacement(self, specs: list) -> Any:
    with private.gradient_context(in_xla=True):
      return self._instead.get_concrete_function(*specs)._inference_function


class _Replaced(_AtomicFunction):
  """A function of TensorFlow's runtime that is another one wherever it is saved or taken apart."""

  @property
  def _c_func(self) -> Any:
    if not _is_saving():
      return super()._c_func
    graph = tf.compat.v1.get_default_graph()
    for child in self._saved.children:  # TensorFlow would add this function alone
      graph._add_function_recursive(child)
    definition = self._saved.definition
    definition.signature.name = self.name
    function = _session.TF_FunctionImportFunctionDef(definition.SerializeToString())
    return _ScopedFunction(function, self.name)

  @property
  def graph(self) -> Any:
    """The graph of the function in its place, but for TensorFlow while it builds a call."""
    return super().graph if getattr(_building, "call", False) else self._saved.graph

  @property
  def _saved(self) -> Any:
    if "saved" not in self.__dict__:
      # Whatever is being traced here, it is no part of that.
      self.saved = private.outside(self.replacement)
    return self.saved
