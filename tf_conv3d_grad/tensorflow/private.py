"""Everything taken from TensorFlow that is not public, and what replaces it where it is gone.

Only `xla_onednn.py` imports from `tensorflow.python` besides. Where a private name is gone, the ops
still work, and one warning says what is slower or left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

# TensorFlow's own functions, taken when this package is first imported. While TensorFlow is
# patched, the public names lead back to this package.
_conv3d_transpose = tf.nn.conv3d_transpose
raw_backprop_input = tf.raw_ops.Conv3DBackpropInputV2
raw_conv3d = tf.raw_ops.Conv3D
raw_backprop_filter = tf.raw_ops.Conv3DBackpropFilterV2
_RAW = {
  "Conv3D": raw_conv3d,
  "Conv3DBackpropInputV2": raw_backprop_input,
  "Conv3DBackpropFilterV2": raw_backprop_filter,
}


def _warn_missing(name: str, consequence: str) -> None:
  warnings.warn(
    f"tf_conv3d_grad: TensorFlow {tf.__version__} has no {name}; {consequence}", stacklevel=3
  )


try:
  from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as _graph_in_xla
  from tensorflow.python.ops.control_flow_util import IsInXLAContext as _operation_in_xla
except ImportError:
  _warn_missing(
    "control_flow_util.GraphOrParentsInXlaContext or IsInXLAContext",
    "functions that are compiled as a whole run TensorFlow's own, slower lowering",
  )
  _graph_in_xla = None

try:
  from tensorflow.python.eager.record import could_possibly_record as _could_possibly_record
  from tensorflow.python.eager.record import record_operation as _record_operation
  from tensorflow.python.eager.record import stop_recording as stop_recording
except ImportError:
  _warn_missing(
    "eager.record.could_possibly_record, record_operation or stop_recording",
    "eager calls and tracing take longer, and forward mode mixed with reverse mode may be wrong in "
    "compiled functions",
  )
  _could_possibly_record = None
  _record_operation = None
  stop_recording = contextlib.nullcontext

try:
  from tensorflow.python.eager.context import context as _context

  _context().op_callbacks  # noqa: B018 - is it there?
except (ImportError, AttributeError):
  _warn_missing(
    "eager.context.context().op_callbacks",
    "under tf.debugging.enable_check_numerics() calls are compiled, which XLA refuses, and stay "
    "uncompiled after it",
  )
  _context = None

try:
  from tensorflow.python.ops import gen_nn_ops as _gen_nn_ops
  from tensorflow.python.ops import nn as _nn
  from tensorflow.python.ops import nn_ops as _nn_ops

  _gen_nn_ops.conv3d_backprop_input_v2  # noqa: B018 - is it there?
except (ImportError, AttributeError):
  _warn_missing(
    "gen_nn_ops.conv3d_backprop_input_v2",
    "patch_tensorflow() leaves tf.nn.conv3d_transpose and tf.nn.conv_transpose as they are",
  )
  _op_modules = []
else:
  _op_modules = [_gen_nn_ops, _nn_ops, _nn]

try:
  from tensorflow.python.ops import nn_ops as _convolution_module

  _convolution_module.convolution_internal  # noqa: B018 - is it there?
except (ImportError, AttributeError):
  _warn_missing(
    "nn_ops.convolution_internal",
    "patch_tensorflow() leaves a dilated 3-D tf.nn.convolution as three operations",
  )
  _convolution_module = None

try:
  from tensorflow.python.framework.ops import gradient_registry as _gradient_registry

  _gradients = _gradient_registry._registry
  _gradients["Conv3D"]["type"]  # noqa: B018 - is it there?
except (ImportError, AttributeError, KeyError, TypeError):
  _warn_missing(
    "framework.ops.gradient_registry",
    "patch_tensorflow() leaves the gradients of tf.nn.conv3d as they are",
  )
  _gradients = {}

try:
  from tensorflow.python.eager.forwardprop import _jvp_function_cache

  _clear_jvp_functions = _jvp_function_cache.clear
except (ImportError, AttributeError):
  _warn_missing(
    "forwardprop._jvp_function_cache",
    "forward-mode derivatives taken before patch_tensorflow() keep what they were compiled with",
  )
  _clear_jvp_functions = None

try:
  from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_dynamic_update_slice as _update_slice
except ImportError:
  _warn_missing(
    "gen_xla_ops.xla_dynamic_update_slice",
    "large channels-first results inside jit_compile=True functions take twice the memory",
  )
  _update_slice = None

try:
  from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as _SavedModel
except ImportError:
  _warn_missing("core.protobuf.saved_model_pb2", "tf-conv3d-grad convert reads no SavedModel")
  _SavedModel = None

try:
  from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint as _fingerprint
except ImportError:
  _warn_missing(
    "saved_model.fingerprinting_utils.write_fingerprint",
    "what tf-conv3d-grad convert writes has no fingerprint",
  )
  _fingerprint = None

_calling = threading.local()
_T = TypeVar("_T")


def raw_op(op: str) -> Callable[..., tf.Tensor]:
  """Returns TensorFlow's own raw op of a name, patched or not: one of the three convolutions."""
  return _RAW[op]


def conv3d_transpose(**arguments: Any) -> tf.Tensor:
  """Calls TensorFlow's own `tf.nn.conv3d_transpose`, with the op patched in its place or not."""
  before = calling_tensorflow()
  _calling.tensorflow = True
  try:
    return _conv3d_transpose(**arguments)
  finally:
    _calling.tensorflow = before


def calling_tensorflow() -> bool:
  """Returns whether this thread is in a call that is meant for TensorFlow's own function."""
  return getattr(_calling, "tensorflow", False)


def without_wrong_shape(tensor: tf.Tensor, padding: str, dilations: Sequence[int]) -> tf.Tensor:
  """Returns an input or output of `Conv3D` without static shape, if that leads to a wrong one.

  TensorFlow's shape function confuses the dilations of height and width. For an input of unknown
  shape it infers none; for a known one it may even find an impossible size.
  """
  if tf.executing_eagerly() or not infers_wrong_shape(padding, dilations):
    return tensor
  return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=[None] * 5)


def infers_wrong_shape(padding: str, dilations: Sequence[int]) -> bool:
  """Returns whether TensorFlow infers a wrong shape for a `Conv3D`; see `without_wrong_shape`."""
  _, height, width = dilations
  return padding == "VALID" and height != width


def unknown_to_the_optimizer(tensor: tf.Tensor) -> tf.Tensor:
  """Returns a tensor from which TensorFlow's graph optimizer computes nothing ahead of time."""
  if tf.executing_eagerly() or in_xla_context():
    return tensor
  # Something that a caller might feed.
  return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tensor.shape)


def op_attributes(name: str) -> list[tuple[ModuleType, str]]:
  """Returns where TensorFlow keeps an op's Python functions: modules and names in them.

  Args:
    name: The op's name in Python, such as "conv3d_backprop_input_v2".
  """
  raw_name = next(op for op in _RAW if op.lower() == name.replace("_", ""))
  # By identity: `nn_ops.conv3d` is another function of the name, which calls `gen_nn_ops.conv3d`.
  originals = [
    getattr(module, attribute)
    for module in (tf.raw_ops, *_op_modules[:1])
    for attribute in (raw_name, name)
    if hasattr(module, attribute)
  ]
  public = [tf.raw_ops, tf.compat.v1.raw_ops, tf.compat.v2.raw_ops, tf.compat.v1.nn]
  return [
    (module, attribute)
    for module in (*public, *_op_modules)
    for attribute in (raw_name, name, name.replace("_v2", ""))
    if any(getattr(module, attribute, None) is original for original in originals)
  ]


def convolution_attributes() -> list[tuple[ModuleType, str]]:
  """Returns where TensorFlow keeps what computes `tf.nn.convolution`: modules and names in them."""
  if _convolution_module is None or not _op_modules:
    return []
  return [(_convolution_module, "convolution_internal")]


def conv3d(*args: Any, **kwargs: Any) -> tf.Tensor:
  """Calls the function that `tf.nn.conv3d` calls: with the patch on, this package's op."""
  return _op_modules[0].conv3d(*args, **kwargs)


def new_saved_model() -> Any:
  """Returns an empty protocol buffer of `saved_model.pb`."""
  if _SavedModel is None:
    raise NotImplementedError(f"TensorFlow {tf.__version__} has no core.protobuf.saved_model_pb2")
  return _SavedModel()


def write_fingerprint(folder: str) -> None:
  """Writes the fingerprint of the SavedModel in a folder, if this TensorFlow can make one."""
  if _fingerprint is not None:
    with contextlib.suppress(ValueError):  # a model without what it is made of, such as variables
      _fingerprint(folder)


def gradient_registry() -> dict[str, dict]:
  """Returns TensorFlow's gradients: by operation type, the function under "type"."""
  return _gradients


def forget_forward_mode() -> None:
  """Makes TensorFlow derive the forward mode of operations from their gradients anew."""
  if _clear_jvp_functions is not None:
    _clear_jvp_functions()


def in_xla_context() -> bool:
  """Returns whether the function being traced will be compiled by XLA as a whole."""
  if _graph_in_xla is None or tf.executing_eagerly():
    return False
  return getattr(_calling, "in_xla", False) or _graph_in_xla(tf.compat.v1.get_default_graph())


def in_v1_control_flow() -> bool:
  """Returns whether this is a loop or branch of TensorFlow 1's, made of single operations.

  TensorFlow builds no call of a compiled function in there that runs.
  """
  if tf.executing_eagerly() or tf.compat.v1.control_flow_v2_enabled():
    return False
  context = getattr(tf.compat.v1.get_default_graph(), "_get_control_flow_context", None)
  return context is None or context() is not None


def is_debugged() -> bool:
  """Returns whether TensorFlow runs functions eagerly, or calls back at each operation.

  `tf.config.run_functions_eagerly` and `tf.debugging` make it do so. XLA compiles no such function.
  """
  if tf.config.functions_run_eagerly():
    return True
  return _context is not None and bool(_context().op_callbacks)


def was_in_xla_context(operation: Any) -> bool:
  """Returns whether an operation is part of a function that XLA compiles as a whole."""
  # The operations of an eager tape are none of a graph's.
  return _graph_in_xla is not None and isinstance(operation, tf.Operation) and _operation_in_xla(
    operation
  )


def outermost_graph() -> tf.Graph | None:
  """Returns the graph that is being built, with all branches and bodies in it; None if eager."""
  if tf.executing_eagerly():
    return None
  graph = tf.compat.v1.get_default_graph()
  while True:
    outer = getattr(graph, "outer_graph", None)
    if outer is None or not outer.building_function:
      return graph
    graph = outer


def is_wrapped_function(graph: tf.Graph | None) -> bool:
  """Returns whether a graph is what `tf.compat.v1.wrap_function` builds."""
  return str(getattr(graph, "name", "")).startswith("wrapped_function")


@contextlib.contextmanager
def gradient_context(in_xla: bool) -> Iterator[None]:
  """A scope in which the gradient is traced of something that was traced `in_xla` or not.

  XLA compiles the gradients of functions that it compiles, but TensorFlow does not say so while it
  traces them.
  """
  before = getattr(_calling, "in_xla", False)
  _calling.in_xla = before or in_xla
  try:
    yield
  finally:
    _calling.in_xla = before


def is_recording() -> bool:
  """Returns whether a `GradientTape` or `ForwardAccumulator` may be watching eager calls."""
  return _could_possibly_record is None or _could_possibly_record()


def can_record() -> bool:
  """Returns whether tapes and accumulators can be told of a derivative, by `record`."""
  return _record_operation is not None


def record(
  name: str,
  result: tf.Tensor,
  operands: Sequence[tf.Tensor],
  gradients: Callable[..., list[tf.Tensor]],
  tangent: Callable[..., list[tf.Tensor]],
) -> None:
  """Tells every tape and every forward accumulator the derivatives of a result.

  Args:
    name: What computed the result, for messages.
    result: The result, computed where nothing was recorded.
    operands: The tensors that it depends on.
    gradients: Takes the gradient in the result, returns those in the operands.
    tangent: Takes the tangents of the operands, returns that of the result, in a list.
  """
  if _record_operation is not None:
    _record_operation(name, [result], list(operands), gradients, tangent)


def of_one_trace(function: Any, *operands: Any) -> Callable[..., Any]:
  """Returns a `tf.function` for eager tensors that are like these, or these `tf.TensorSpec`s.

  At each call of a `tf.function`, TensorFlow finds out which trace fits: an addition that XLA has
  compiled takes 0.16 ms, and 0.035 where it need not.
  """
  concrete = function.get_concrete_function(*operands)
  if not hasattr(concrete, "_call_flat"):
    return concrete
  captured = concrete.captured_inputs
  return lambda *tensors: concrete._call_flat([*tensors], captured)


def update_slice() -> Callable | None:
  """Returns XLA's in-place update of a slice where there is one: `(tensor, update, begin)`."""
  return _update_slice if in_xla_context() else None


def in_vectorized_loop() -> bool:
  """Returns whether this is the body of a `tf.vectorized_map` or of a vectorized Jacobian.

  TensorFlow traces those bodies in a name scope of their own.
  """
  return _is_loop_body(tf.get_current_name_scope())


def is_called_by_vectorized_loop() -> bool:
  """Returns whether this is such a body, or a function that is traced for one to call.

  TensorFlow takes the functions apart as well, and makes of those that XLA was to compile single
  operations.
  """
  graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
  while graph is not None:
    if _is_loop_body(graph.get_name_scope()):
      return True
    graph = getattr(graph, "outer_graph", None)
  return False


def _is_loop_body(scope: str) -> bool:
  return "loop_body" in scope.split("/")


def shape_tuple(tensor: Any) -> tuple:
  """Returns the shape of an eager tensor, the fastest way there is."""
  try:
    return tensor._shape_tuple()
  except AttributeError:
    return tuple(tensor.shape)


# What may befall any call: it says nothing about the kernel or the compiler that was tried.
_OF_THE_MOMENT = (tf.errors.ResourceExhaustedError, tf.errors.CancelledError)


@functools.cache
def onednn_enabled(dtype: tf.DType = tf.float32) -> bool:
  """Returns whether TensorFlow's CPU kernels are oneDNN's, in `dtype`.

  That depends on build, processor and environment (`TF_ENABLE_ONEDNN_OPTS`), so a kernel is tried:
  only oneDNN's takes dilations. The call is valid, so a kernel that does not take it raises.
  """
  return outside(functools.partial(_takes_dilations, dtype))


@functools.cache
def xla_compiles() -> bool:
  """Returns whether XLA compiles functions for the CPU here; some builds of TensorFlow lack it."""
  return outside(_compiles)


def outside(function: Callable[[], _T]) -> _T:
  """Returns `function()`, called outside of the graph, tape and device scope that this is in.

  Within a graph, its operations would be built, not run. It is called eagerly, unless eager
  execution is off for the whole process, or no thread can be started to leave a graph of TensorFlow
  1.
  """
  if tf.executing_eagerly():
    return _in_no_scope(function)
  # A new thread is in no graph. It is none of an executor's, which refuse once the main thread has
  # ended.
  future: Future[_T] = Future()
  thread = threading.Thread(target=_fulfil, args=(future, function), name="tf_conv3d_grad")
  try:
    thread.start()
  except RuntimeError:  # Python may be ending, or be out of threads
    with tf.init_scope():
      return _in_no_scope(function)
  return future.result()


def _in_no_scope(function: Callable[[], _T]) -> _T:
  with tf.device(None), stop_recording():
    return function()


def _fulfil(future: Future[_T], function: Callable[[], _T]) -> None:
  try:
    result = function()
  except BaseException as error:  # Whatever it is, it is raised where the result is waited for.
    future.set_exception(error)
  else:
    future.set_result(result)


def _compiles() -> bool:
  if not tf.executing_eagerly():  # TensorFlow 1's behaviour, of the whole process
    return False
  function = tf.function(lambda tensor: tensor + 1, jit_compile=True, autograph=False)
  try:
    with tf.device("/CPU:0"):
      return bool(function(tf.constant(1)) == 2)
  except _OF_THE_MOMENT:
    raise
  except tf.errors.OpError:
    return False


def _takes_dilations(dtype: tf.DType) -> bool:
  def call() -> tf.Tensor:
    with tf.device("/CPU:0"):
      return raw_backprop_input(
        input_sizes=[1, 3, 1, 1, 1],
        filter=np.ones([2, 1, 1, 1, 1], dtype.as_numpy_dtype),
        out_backprop=np.ones([1, 3, 1, 1, 1], dtype.as_numpy_dtype),
        strides=[1, 1, 1, 1, 1],
        padding="SAME",
        dilations=[1, 2, 1, 1, 1],
      )

  try:
    if tf.executing_eagerly():
      call()
    else:  # TensorFlow 1's behaviour, of the whole process
      with tf.Graph().as_default():
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        result = call()
        session = tf.compat.v1.Session(config=config)
        try:  # a `with` of its own starts a thread where the run fails
          session.run(result)
        finally:
          session.close()
  except _OF_THE_MOMENT:
    raise
  except tf.errors.OpError:
    return False
  return True


@functools.cache
def eigen_l3_bytes() -> int | None:
  """Returns how large Eigen takes the L3 cache to be; None where its function is not found.

  Nothing else tells. On AMD's processors Eigen reads the caches of the whole package, while Linux
  knows those that some cores share.
  """
  try:
    library = ctypes.CDLL(os.path.join(tf.sysconfig.get_lib(), "libtensorflow_framework.so.2"))
    # void Eigen::internal::queryCacheSizes(int& l1, int& l2, int& l3)
    query = library["_ZN5Eigen8internal15queryCacheSizesERiS1_S1_"]
  except (OSError, AttributeError):
    return None
  query.restype = None
  found = [ctypes.c_int() for _ in range(3)]
  query(*map(ctypes.byref, found))
  # What Eigen assumes where the processor does not say.
  default = 2 << 20 if platform.machine() in ("x86_64", "AMD64") else 512 << 10
  return found[2].value if found[2].value > 0 else default


@functools.cache
def has_gpu() -> bool:
  """Returns whether this process can place operations on a GPU."""
  return bool(tf.config.list_logical_devices("GPU"))


def device_type(*tensors: Any) -> str:
  """Returns "GPU" or "CPU": where an operation on `tensors` is placed, as far as is known.

  Eager tensors know their device; while tracing, the innermost device scope says, and without one
  TensorFlow places on a GPU whatever a GPU can do.
  """
  if not has_gpu():
    return "CPU"
  # A float: integers stay on the host whatever the scope.
  scope = tf.constant(0.0).device if tf.executing_eagerly() else _scope_device()
  for device in (scope, *(getattr(tensor, "device", "") for tensor in tensors)):
    for kind in ("GPU", "CPU"):
      if device and f"{kind}:" in device.upper():
        return kind
  return "GPU"


def _scope_device() -> str:
  """Returns the device that an operation created here in the graph would ask for."""
  return tf.no_op().device or ""


def environment(name: str, default: str) -> str:
  """Returns an environment variable, stripped, in lower case; the default if it is not set.

  One that is empty or blank counts as not set.
  """
  text = os.environ.get(name)
  return text and text.strip().lower() or default
