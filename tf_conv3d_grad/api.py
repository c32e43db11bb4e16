"""The public names of `tf_conv3d_grad`. Importing this module imports TensorFlow."""

from __future__ import annotations

try:
  import tensorflow as _tensorflow  # noqa: F401
except ImportError as error:
  raise ImportError(
    "tf_conv3d_grad needs TensorFlow 2.16 or newer, which it does not install by itself: "
    "pip install 'tf_conv3d_grad[tensorflow-cpu]', or 'tf_conv3d_grad[tensorflow]' for GPUs"
  ) from error

from tf_conv3d_grad.ops.conv3d import Conv3D, conv3d
from tf_conv3d_grad.ops.conv3d_backprop_filter import (
  Conv3DBackpropFilterV2,
  conv3d_backprop_filter_v2,
)
from tf_conv3d_grad.ops.conv3d_backprop_input import Conv3DBackpropInputV2, conv3d_backprop_input_v2
from tf_conv3d_grad.patching.patch import patch_tensorflow, unpatch_tensorflow
from tf_conv3d_grad.planning.explanation import Explanation, explain
from tf_conv3d_grad.tensorflow import versions as _versions
from tf_conv3d_grad.tensorflow.mode import jit_compile

__all__ = [
  "Conv3D",
  "Conv3DBackpropFilterV2",
  "Conv3DBackpropInputV2",
  "Explanation",
  "conv3d",
  "conv3d_backprop_filter_v2",
  "conv3d_backprop_input_v2",
  "explain",
  "jit_compile",
  "patch_tensorflow",
  "unpatch_tensorflow",
]

_versions.warn_if_untested()
