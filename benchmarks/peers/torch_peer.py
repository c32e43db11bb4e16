"""PyTorch's gradient of conv3d in its input, in either memory layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.peers import protocol

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last_3d": torch.channels_last_3d}


class TorchPeer:
  """Contestants `contiguous` and `channels_last_3d`."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}

  def prepare(
    self, contestant: str, problem: dict[str, Any], filter: np.ndarray, out_backprop: np.ndarray  # noqa: A002
  ) -> Callable[[], torch.Tensor]:
    """Returns a call.

    PyTorch pads both ends of an axis alike. Where TensorFlow pads the end by more, the gradient of
    an input longer by that much is taken, and what is too much left out, which copies nothing.
    """
    dtype, layout = getattr(torch, problem["dtype"]), _LAYOUTS[contestant]
    weight = torch.from_numpy(filter).permute(4, 3, 0, 1, 2)
    gradient = torch.from_numpy(out_backprop)
    if problem["data_format"] == "NDHWC":
      gradient = gradient.permute(0, 4, 1, 2, 3)
    weight, gradient = (
      tensor.to(dtype).contiguous(memory_format=layout) for tensor in (weight, gradient)
    )
    lead, trail = problem["lead"], problem["trail"]
    longer = [n + b - a for n, a, b in zip(problem["input_size"], lead, trail)]
    # Only its shape and layout are looked at.
    like = torch.ones([problem["batch"], problem["in_channels"], *longer], dtype=dtype)
    like = like.contiguous(memory_format=layout)
    depth, height, width = problem["input_size"]

    def call() -> torch.Tensor:
      result, _, _ = torch.ops.aten.convolution_backward(
        gradient, like, weight, None, problem["strides3"], lead, problem["dilations3"],
        False, [0, 0, 0], problem["groups"], [True, False, False],
      )  # fmt: skip
      return result[:, :, :depth, :height, :width]

    return call

  def to_numpy(self, result: torch.Tensor, problem: dict[str, Any]) -> np.ndarray:
    """Returns the result in the problem's data format, as float32 or float64."""
    if problem["data_format"] == "NDHWC":
      result = result.permute(0, 2, 3, 4, 1)
    return result.to(torch.float64 if result.dtype == torch.float64 else torch.float32).numpy()


if __name__ == "__main__":
  protocol.serve(TorchPeer())
