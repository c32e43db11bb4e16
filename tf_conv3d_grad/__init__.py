"""3-D convolution for TensorFlow on CPUs: `Conv3D` and its two gradients.

- `Conv3D`, `Conv3DBackpropInputV2` and `Conv3DBackpropFilterV2` are the ops, with the signatures of
  `tf.raw_ops`. `conv3d`, `conv3d_backprop_input_v2` and `conv3d_backprop_filter_v2` are the same.
- `patch_tensorflow` puts them in the place of TensorFlow's own, so that models use them;
  `unpatch_tensorflow` undoes it.
- `explain` says what a call would run, and why: an `Explanation`.
- `jit_compile` sets whether XLA compiles calls.
- `__version__` is the version of this package.

The ops take float16 (half), bfloat16, float32 and float64, the data formats NDHWC and NCDHW, any
stride and dilation, and groups. What they promise beyond that, such as accuracy, determinism, and
where infinities go, is in `docs/reference.md`.
"""

from __future__ import annotations

import importlib as _importlib
import pathlib as _pathlib
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from tf_conv3d_grad._version import __version__

# What `sys.argv[0]` is while Python looks for the `__main__` of `python -m tf_conv3d_grad`, and the
# name of the console script. These import TensorFlow once a command needs it. Otherwise `--help`
# would take seconds.
_COMMAND_LINES = ("-m", "tf-conv3d-grad")

if _TYPE_CHECKING or _pathlib.Path([*_sys.argv, ""][0]).stem not in _COMMAND_LINES:
  from tf_conv3d_grad.api import (
    Conv3D,
    Conv3DBackpropFilterV2,
    Conv3DBackpropInputV2,
    Explanation,
    conv3d,
    conv3d_backprop_filter_v2,
    conv3d_backprop_input_v2,
    explain,
    jit_compile,
    patch_tensorflow,
    unpatch_tensorflow,
  )
else:

  def __getattr__(name: str) -> _Any:
    if name not in __all__:
      raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module("tf_conv3d_grad.api"), name)


__all__ = [
  "Conv3D",
  "Conv3DBackpropFilterV2",
  "Conv3DBackpropInputV2",
  "Explanation",
  "__version__",
  "conv3d",
  "conv3d_backprop_filter_v2",
  "conv3d_backprop_input_v2",
  "explain",
  "jit_compile",
  "patch_tensorflow",
  "unpatch_tensorflow",
]
