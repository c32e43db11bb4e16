"""Trains the same networks with PyTorch; the ways are its memory formats."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers import protocol
from benchmarks.steps import training_data
from benchmarks.steps.graph import Graph, Layer
from benchmarks.steps.networks import Network
from benchmarks.steps.session import Session, Step

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last_3d": torch.channels_last_3d}


class TorchTrainer:
  """Ways `contiguous` and `channels_last_3d`."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}

  def begin(self, network: Network, dtype: str, way: str) -> tuple[Step, int]:
    """Returns a step of a new model, and how many parameters it has."""
    torch.manual_seed(0)
    layout = _LAYOUTS[way]
    model = Model(network.graph()).to(memory_format=layout)
    volume, classes = training_data.batch(network)
    volume = torch.from_numpy(np.moveaxis(volume, -1, 1).copy()).contiguous(memory_format=layout)
    classes = torch.from_numpy(classes.astype(np.int64))
    optimizer = torch.optim.SGD(
      model.parameters(), training_data.LEARNING_RATE, training_data.MOMENTUM
    )
    mixed = dtype.startswith("mixed_")

    def step() -> float:
      optimizer.zero_grad()
      with torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext():
        logits = model(volume)
      loss = nn.functional.cross_entropy(logits.float(), classes)
      loss.backward()
      optimizer.step()
      return loss.item()

    return step, sum(parameter.numel() for parameter in model.parameters())

  def forget(self) -> None:
    """Nothing is held."""


class Model(nn.Module):
  """The model of a graph."""

  def __init__(self, graph: Graph) -> None:
    super().__init__()
    self._layers = graph.layers
    self._modules_in_order = nn.ModuleList(
      _module(layer, [graph.layers[position].channels for position in layer.inputs])
      for layer in graph.layers
    )

  def forward(self, volume: torch.Tensor) -> torch.Tensor:
    """Returns the last layer's result; what no later layer reads is let go by autograd alone."""
    results = [volume]
    for layer, module in zip(self._layers[1:], self._modules_in_order[1:]):
      inputs = [results[position] for position in layer.inputs]
      function = _FUNCTIONS.get(layer.kind, module)
      results.append(function(*inputs))
    return results[-1]


_FUNCTIONS = {
  "relu": torch.relu,
  "swish": nn.functional.silu,
  "sigmoid": torch.sigmoid,
  "halve": lambda x: nn.functional.max_pool3d(x, 2),
  "mean": lambda x: x.mean((2, 3, 4), keepdim=True),
  "add": torch.add,
  "multiply": torch.mul,
  "concat": lambda *x: torch.cat(x, 1),
}


def _module(layer: Layer, inputs: list[int]) -> nn.Module:
  """Returns what has a layer's weights; an odd filter is padded as SAME does, but for a stride.

  With a stride TensorFlow pads the end by more, PyTorch both ends alike: the same arithmetic, the
  volume shifted by a voxel.
  """
  settings = layer.settings
  if layer.kind == "conv":
    dilation = settings["dilation"]
    return nn.Conv3d(
      inputs[0],
      layer.channels,
      settings["taps"],
      settings["strides"],
      padding=[(taps - 1) // 2 * dilation for taps in settings["taps"]],
      dilation=dilation,
      groups=settings["groups"],
      bias=settings["bias"],
    )
  if layer.kind == "up":
    return nn.ConvTranspose3d(inputs[0], layer.channels, 2, 2)
  if layer.kind == "norm":
    return nn.BatchNorm3d(layer.channels, eps=1e-3)
  return nn.Identity()


if __name__ == "__main__":
  protocol.answer(Session(TorchTrainer()))
