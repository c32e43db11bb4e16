"""TensorFlow's own op, by whichever route this build can compute the case."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.conformance import ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import private

_INT32_MAX = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Reference:
  """A result of the raw op.

  Attributes:
    value: The result, a NumPy array.
    route: "eager" if the raw op took the case as it is, "compiled" if only XLA did.
  """

  value: np.ndarray
  route: str


def raw_conv3d_backprop_input(case: Case, arguments: dict[str, Any]) -> Reference | None:
  """Returns what the raw op makes of a valid case, or None where no route is safe.

  Which cases the eager kernels take depends on the build, the processor and the environment (with
  oneDNN on, far more), so they are asked: given valid arguments they compute or raise, but never
  abort. XLA is not asked about empty tensors, nor is Eigen: some of them end the process there.
  None is asked about sizes beyond int32, which end it as well.

  Args:
    case: The `Case`.
    arguments: Its keyword arguments, as `case.arguments` returns them.

  Returns:
    A `Reference`, or None.
  """
  onednn = case.dtype in ("float32", "bfloat16") and private.onednn_enabled(
    tf.as_dtype(case.dtype)
  )
  if case.is_empty and not onednn:
    return None
  if max(case.input_sizes + case.filter_shape + case.out_backprop_shape) > _INT32_MAX:
    return None
  try:
    return Reference(ways.call("eager", private.raw_backprop_input, arguments), "eager")
  except tf.errors.OpError:
    if case.is_empty:
      return None
  return Reference(ways.call("compiled", private.raw_backprop_input, arguments), "compiled")
