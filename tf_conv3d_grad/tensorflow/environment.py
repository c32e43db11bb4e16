"""Where a call is made, as far as the choice of a way to compute it depends on that."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tf_conv3d_grad.tensorflow import mode, private, processor, xla_onednn


@dataclasses.dataclass(frozen=True)
class Environment:
  """Where a call is made.

  Attributes:
    device: "CPU" or "GPU".
    onednn: Whether TensorFlow's CPU kernels are oneDNN's.
    in_xla: Whether the function being traced will be compiled by XLA as a whole.
    mode: Whether to compile calls: True, False or "auto".
    onednn_bfloat16: Whether its kernels of bfloat16 are oneDNN's too, which takes a processor with
      AVX-512 or AVX-NE-CONVERT, and no slower than those of float32, which takes instructions for
      bfloat16. It is not asked for calls in other dtypes.
    xla_onednn: Whether oneDNN may be called inside of what XLA compiles.
    in_graph: Whether the call becomes part of a graph, which is built to be called again.
  """

  device: str
  onednn: bool
  in_xla: bool
  mode: bool | str
  onednn_bfloat16: bool = True
  xla_onednn: bool = False
  in_graph: bool = False

  def is_onednn(self, dtype: tf.DType) -> bool:
    """Returns whether TensorFlow's CPU kernels are oneDNN's in a dtype; the others are Eigen's."""
    if dtype == tf.bfloat16:
      return self.onednn and self.onednn_bfloat16
    return self.onednn and dtype == tf.float32

  @classmethod
  def here(cls, dtype: tf.DType, *tensors: tf.Tensor) -> Environment:
    """Returns the environment of a call in `dtype` with these tensors, made here and now."""
    return cls(
      private.device_type(*tensors),
      private.onednn_enabled(),
      private.in_xla_context(),
      False if private.in_v1_control_flow() or private.is_debugged() else mode.current(),
      dtype != tf.bfloat16
      or (private.onednn_enabled(dtype) and not processor.onednn_emulates_bfloat16()),
      # TensorFlow vectorizes no custom call, and freezes no wrapped function that has one.
      xla_onednn.is_allowed()
      and not private.is_called_by_vectorized_loop()
      and not private.is_wrapped_function(private.outermost_graph()),
      not tf.executing_eagerly(),
    )
