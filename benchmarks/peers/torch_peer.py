"""PyTorch's conv3d and its two gradients, in either memory layout."""

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
    self, contestant: str, problem: dict[str, Any], operands: dict[str, np.ndarray]
  ) -> Callable[[], torch.Tensor]:
    """Returns a call.

    PyTorch pads both ends of an axis alike. Where TensorFlow pads the end by more, the input is
    longer by that much: it has zeros there beforehand, and of its gradient what is too much is left
    out, which copies nothing.
    """
    layout, direction = _LAYOUTS[contestant], problem["direction"]

    def tensor(name: str) -> torch.Tensor:
      # Of a result only shape and layout are looked at.
      array = operands[name] if name in operands else np.ones(problem["shapes"][name], np.float32)
      found = torch.from_numpy(array).permute(_to_torch(name, problem))
      if name == "input":
        found = torch.nn.functional.pad(found, _more_behind(problem))
      return found.to(getattr(torch, problem["dtype"])).contiguous(memory_format=layout)

    image, weight = tensor("input"), tensor("filter")
    geometry = (
      problem["strides3"], problem["lead"], problem["dilations3"], False, [0, 0, 0],
      problem["groups"],
    )  # fmt: skip
    if direction == "fwd":
      return lambda: torch.ops.aten.convolution(image, weight, None, *geometry)

    gradient = tensor("out_backprop")
    wanted = [direction == "bwd_d", direction == "bwd_w", False]
    depth, height, width = problem["input_size"]

    def backward() -> torch.Tensor:
      of_image, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, *geometry, wanted
      )
      return of_weight if of_image is None else of_image[:, :, :depth, :height, :width]

    return backward

  def to_numpy(self, result: torch.Tensor, problem: dict[str, Any]) -> np.ndarray:
    """Returns the result in TensorFlow's order of dimensions, as float32 or float64."""
    (name,) = problem["shapes"].keys() - problem["operands"]
    result = result.permute(tuple(np.argsort(_to_torch(name, problem))))
    return result.to(torch.float64 if result.dtype == torch.float64 else torch.float32).numpy()


def _to_torch(name: str, problem: dict[str, Any]) -> tuple[int, ...]:
  """Returns where PyTorch's dimensions of a tensor are among TensorFlow's."""
  if name == "filter":
    return (4, 3, 0, 1, 2)
  return (0, 4, 1, 2, 3) if problem["data_format"] == "NDHWC" else (0, 1, 2, 3, 4)


def _more_behind(problem: dict[str, Any]) -> list[int]:
  """Returns how much longer the input is, as PyTorch's `pad` reads it: the last axis first."""
  pairs = zip(reversed(problem["lead"]), reversed(problem["trail"]))
  return [length for lead, trail in pairs for length in (0, trail - lead)]


if __name__ == "__main__":
  protocol.serve(TorchPeer())
