"""TensorFlow's own op, by whichever route this build can compute the case."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.conformance import ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, FWD
from tf_conv3d_grad.tensorflow import private

_INT32_MAX = 2**31 - 1
# Those of TensorFlow by name, whatever may be patched into it.
OPS = {
  FWD.op: private.raw_conv3d,
  BWD_D.op: private.raw_backprop_input,
  BWD_W.op: private.raw_backprop_filter,
}


@dataclasses.dataclass(frozen=True)
class Reference:
  """A result of the raw op.

  Attributes:
    value: The result, a NumPy array.
    route: "eager" if the raw op took the case as it is, "compiled" if only XLA did.
  """

  value: np.ndarray
  route: str


def raw(case: Case, arguments: dict[str, Any]) -> Reference | None:
  """Returns what the raw op makes of a valid case, or None where no route is safe.

  Which cases the eager kernels take depends on the build, the processor and the environment: far
  more with oneDNN on. So the kernels are tried. With valid arguments they compute or raise, but
  never abort. XLA and Eigen are not tried with empty tensors, some of which end the process;
  oneDNN returns the input of a convolution of one. No kernel is tried with sizes beyond int32,
  which also end the process, or where the kernels disagree.

  Args:
    case: The `Case`.
    arguments: Its keyword arguments, as `case.arguments` returns them.

  Returns:
    A `Reference`, or None.
  """
  onednn = case.dtype in ("float32", "bfloat16") and private.onednn_enabled(
    tf.as_dtype(case.dtype)
  )
  if case.is_empty and (not onednn or case.direction == FWD):
    return None
  if max(case.input_sizes + case.filter_shape + case.out_backprop_shape) > _INT32_MAX:
    return None
  if case.direction != BWD_D and _skips_cells(case):
    return None
  op = OPS[case.direction.op]
  if case.direction == BWD_D or not (onednn and _may_read_unwritten(case)):
    try:
      return Reference(ways.call("eager", op, arguments), "eager")
    except tf.errors.OpError:
      pass
  if case.is_empty:
    return None
  try:
    return Reference(ways.call("compiled", op, arguments), "compiled")
  except ValueError:
    # Tracing, Conv3D confuses the dilations of height and width, and may find the input too short.
    if case.direction != FWD:
      raise
    return None


def _may_read_unwritten(case: Case) -> bool:
  """Returns whether oneDNN's convolution or filter's gradient may add up what it finds in memory.

  It does in bfloat16 where taps meet nothing but padding, and with one in channel where several
  taps meet an output one cell wide.
  """
  is_one_wide = case.in_channels == 1 and case.output_size[2] == 1 and case.taps[2] > 1
  return case.dtype == "bfloat16" or is_one_wide


def _skips_cells(case: Case) -> bool:
  """Returns whether the last window ends before the input does with SAME.

  Some kernels then put the first window further in, as if the pad in front were negative, and some
  do not.
  """
  return case.padding == "SAME" and any(
    (o - 1) * s + (k - 1) * d + 1 < n
    for n, o, k, s, d in zip(
      case.input_size, case.output_size, case.taps, case.strides, case.dilations
    )
  )
