"""Where a call is made, as far as the choice of a way to compute it depends on that."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tf_conv3d_grad.tensorflow import mode, private


@dataclasses.dataclass(frozen=True)
class Environment:
  """Where a call is made.

  Attributes:
    device: "CPU" or "GPU".
    onednn: Whether TensorFlow's CPU kernels are oneDNN's.
    in_xla: Whether the function being traced will be compiled by XLA as a whole.
    mode: Whether to compile calls: True, False or "auto".
  """

  device: str
  onednn: bool
  in_xla: bool
  mode: bool | str

  @classmethod
  def here(cls, *tensors: tf.Tensor) -> Environment:
    """Returns the environment of a call with these tensors, made here and now."""
    device = private.device_type(*tensors)
    compiling = False if private.in_v1_control_flow() else mode.current()
    return cls(device, private.onednn_enabled(), private.in_xla_context(), compiling)
