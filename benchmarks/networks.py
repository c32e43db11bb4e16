"""Layers of published 3-D networks: the input gradient of every convolution, and up-convolutions.

Channels, filters, strides and dilations are the papers'; volumes are crops, so that a run ends. The
first convolution of a network is left out: training does not need the gradient of its input.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Network:
  """One network.

  Attributes:
    title: Its name, paper and crop.
    layers: How often each case occurs in one backward pass (in one forward pass where it is an
      up-convolution).
  """

  title: str
  layers: dict[str, int]


def _layer(size: str, channels: str, filter: str) -> str:  # noqa: A002 - the field's name for it
  return f"mb1_id{size}_ic{channels}_k{filter}d1_ndhwc_f32"


NETWORKS: dict[str, Network] = {
  "unet3d": Network(
    "3D U-Net (Çiçek et al. 2016), 32x32x32",
    {
      _layer("32", "32oc64", "3s1"): 1,
      _layer("16", "64oc64", "3s1"): 1,
      _layer("16", "64oc128", "3s1"): 1,
      _layer("8", "128oc128", "3s1"): 1,
      _layer("8", "128oc256", "3s1"): 1,
      _layer("4", "256oc256", "3s1"): 1,
      _layer("4", "256oc512", "3s1"): 1,
      _layer("8", "512oc512", "2s2"): 1,
      _layer("8", "768oc256", "3s1"): 1,
      _layer("8", "256oc256", "3s1"): 1,
      _layer("16", "256oc256", "2s2"): 1,
      _layer("16", "384oc128", "3s1"): 1,
      _layer("16", "128oc128", "3s1"): 1,
      _layer("32", "128oc128", "2s2"): 1,
      _layer("32", "192oc64", "3s1"): 1,
      _layer("32", "64oc64", "3s1"): 1,
      _layer("32", "64oc3", "1s1"): 1,
    },
  ),
  "vnet": Network(
    "V-Net (Milletari et al. 2016), 32x32x32",
    {
      _layer("32", "16oc32", "2s2"): 1,
      _layer("16", "32oc32", "5s1"): 4,
      _layer("16", "32oc64", "2s2"): 1,
      _layer("8", "64oc64", "5s1"): 6,
      _layer("8", "64oc128", "2s2"): 1,
      _layer("4", "128oc128", "5s1"): 6,
      _layer("4", "128oc256", "2s2"): 2,
      _layer("2", "256oc256", "5s1"): 3,
      _layer("8", "128oc256", "2s2"): 1,
      _layer("4", "256oc256", "5s1"): 3,
      _layer("16", "64oc256", "2s2"): 1,
      _layer("8", "128oc128", "5s1"): 3,
      _layer("32", "16oc64", "2s2"): 1,
      _layer("32", "32oc32", "5s1"): 1,
      _layer("32", "32oc2", "1s1"): 1,
    },
  ),
  "i3d": Network(
    "I3D (Carreira & Zisserman 2017), a clip of 32x112x112; 3x3x3 and largest 1x1x1 of each module",
    {
      _layer("16x28x28", "64oc64", "1s1"): 1,
      _layer("16x28x28", "64oc192", "3s1"): 1,
      _layer("16x14x14", "192oc96", "1s1"): 1,
      _layer("16x14x14", "96oc128", "3s1"): 1,
      _layer("16x14x14", "16oc32", "3s1"): 1,
      _layer("16x14x14", "256oc128", "1s1"): 1,
      _layer("16x14x14", "128oc192", "3s1"): 1,
      _layer("16x14x14", "32oc96", "3s1"): 1,
      _layer("8x7x7", "480oc192", "1s1"): 1,
      _layer("8x7x7", "96oc208", "3s1"): 1,
      _layer("8x7x7", "112oc224", "3s1"): 1,
      _layer("8x7x7", "128oc256", "3s1"): 1,
      _layer("8x7x7", "144oc288", "3s1"): 1,
      _layer("8x7x7", "160oc320", "3s1"): 1,
      _layer("4", "832oc384", "1s1"): 1,
      _layer("4", "192oc384", "3s1"): 1,
    },
  ),
  "x3d": Network(
    "X3D-S (Feichtenhofer 2020), a clip of 13x160x160",
    {
      _layer("13x80x80", "24oc24g24", "5x1x1s1"): 1,
      _layer("13x80x80", "24oc54", "1s1"): 1,
      _layer("13x80x80", "54oc54g54", "3s1x2x2"): 1,
      _layer("13x40x40", "54oc24", "1s1"): 3,
      _layer("13x40x40", "24oc54", "1s1"): 2,
      _layer("13x40x40", "54oc54g54", "3s1"): 2,
      _layer("13x40x40", "108oc108g108", "3s1x2x2"): 1,
      _layer("13x20x20", "108oc48", "1s1"): 5,
      _layer("13x20x20", "48oc108", "1s1"): 4,
      _layer("13x20x20", "108oc108g108", "3s1"): 4,
      _layer("13x20x20", "216oc216g216", "3s1x2x2"): 1,
      _layer("13x10x10", "216oc96", "1s1"): 11,
      _layer("13x10x10", "96oc216", "1s1"): 10,
      _layer("13x10x10", "216oc216g216", "3s1"): 10,
      _layer("13x10x10", "432oc432g432", "3s1x2x2"): 1,
      _layer("13x5x5", "432oc192", "1s1"): 7,
      _layer("13x5x5", "192oc432", "1s1"): 6,
      _layer("13x5x5", "432oc432g432", "3s1"): 6,
    },
  ),
  "resnext3d": Network(
    "3-D ResNeXt-101 (Hara et al. 2018), a clip of 16x112x112",
    {
      _layer("8x28x28", "64oc128", "1s1"): 1,
      _layer("8x28x28", "128oc128g32", "3s1"): 3,
      _layer("8x28x28", "128oc256", "1s1"): 3,
      _layer("8x28x28", "256oc128", "1s1"): 2,
      _layer("8x28x28", "256oc256g32", "3s2"): 1,
      _layer("4x14x14", "256oc256g32", "3s1"): 3,
      _layer("4x14x14", "256oc512", "1s1"): 4,
      _layer("4x14x14", "512oc256", "1s1"): 3,
      _layer("4x14x14", "512oc512g32", "3s2"): 1,
      _layer("2x7x7", "512oc512g32", "3s1"): 22,
      _layer("2x7x7", "512oc1024", "1s1"): 23,
      _layer("2x7x7", "1024oc512", "1s1"): 22,
      _layer("2x7x7", "1024oc1024g32", "3s2"): 1,
      _layer("1x4x4", "1024oc1024g32", "3s1"): 2,
      _layer("1x4x4", "1024oc2048", "1s1"): 3,
    },
  ),
  "highres3dnet": Network(
    "HighRes3DNet (Li et al. 2017), 32x32x32",
    {
      "mb1_id32_ic16oc16_k3s1d1_ndhwc_f32": 6,
      "mb1_id32_ic16oc32_k3s1d2_ndhwc_f32": 1,
      "mb1_id32_ic32oc32_k3s1d2_ndhwc_f32": 5,
      "mb1_id32_ic32oc64_k3s1d4_ndhwc_f32": 1,
      "mb1_id32_ic64oc64_k3s1d4_ndhwc_f32": 5,
      "mb1_id32_ic64oc80_k1s1d1_ndhwc_f32": 1,
      "mb1_id32_ic80oc160_k1s1d1_ndhwc_f32": 1,
    },
  ),
}
