"""On what a command ran: versions, processor, devices."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad import __version__
from tf_conv3d_grad.tensorflow import mode, private, processor


def facts() -> dict[str, Any]:
  """Returns versions, processor and devices by name."""
  devices = tf.config.list_physical_devices()
  return {
    "tensorflow": tf.__version__,
    "tf_conv3d_grad": __version__,
    "python": platform.python_version(),
    "numpy": np.__version__,
    "system": f"{platform.system()} {platform.machine()}",
    "cpu": processor.name(),
    "cores": processor.cores(),
    "devices": [device.name.removeprefix("/physical_device:") for device in devices],
    "onednn": private.onednn_enabled(),
    "jit_compile": mode.current(),
  }


def lines(of: dict[str, Any]) -> list[str]:
  """Returns the facts as lines of text."""
  return [
    f"TensorFlow {of['tensorflow']}, tf_conv3d_grad {of['tf_conv3d_grad']}, "
    f"Python {of['python']}, NumPy {of['numpy']}, {of['system']}",
    f"{of['cpu']}, {of['cores']} cores; devices {', '.join(of['devices'])}; "
    f"oneDNN {'on' if of['onednn'] else 'off'}; jit_compile mode {of['jit_compile']!r}",
  ]

