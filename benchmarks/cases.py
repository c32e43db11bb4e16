"""What is raced: lists of cases in the short notation of `tf_conv3d_grad.conformance.case`.

`ic` are the channels of the convolution's input and `oc` those of its output, `id` the input's
size. A new case is a new line; whatever is listed here is raced in every row of the table that it
fits.
"""

from __future__ import annotations

from benchmarks.networks import NETWORKS

# By theme, cases of the gradient in the input.
_BACKPROP_INPUT: dict[str, tuple[str, ...]] = {
  # Common layers, the last ones in the other dtypes.
  "baseline": (
    "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32",
    "mb1_id32_ic32oc64_k3s1d1_ncdhw_f32",
    "mb1_id32_ic32oc32_k3s1d2_ndhwc_f32",
    "mb1_id32_ic32oc64_k3s2d1_ndhwc_f32",
    "mb1_id32_ic32oc64_k2s2d1_ndhwc_f32",
    "mb1_id32_ic32oc64_k4s2d1_ndhwc_f32",
    "mb1_id48_ic1oc32_k3s1d1_ndhwc_f32",
    "mb1_id48_ic3oc64_k7s2d1_ndhwc_f32",
    "mb1_id24_ic32oc32_k5s1d1_ndhwc_f32",
    "mb2_id8_ic256oc256_k3s1d1_ndhwc_f32",
    "mb1_id24_ic32oc32_k3s1d1_ndhwc_f64",
    "mb1_id24_ic32oc32_k3s1d1_ndhwc_f16",
    "mb1_id24_ic32oc32_k3s1d1_ndhwc_bf16",
  ),
  "grouped": (
    "mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32",
    "mb1_id32_ic32oc64g2_k3s1d1_ndhwc_f32",
    "mb1_id16_ic128oc128g32_k3s2d1_ndhwc_f32",
    "mb1_id16_ic64oc64g8_k3s1d2_ndhwc_f32",
    "mb1_id16_ic64oc64g4_k3s1d1_ncdhw_f32",
    "mb1_id16_ic64oc64g4_k3s1d1_ndhwc_bf16",
  ),
  "depthwise": (
    "mb1_id24_ic64oc64g64_k3s1d1_ndhwc_f32",
    "mb1_id24_ic64oc64g64_k3s2d1_ndhwc_f32",
    "mb1_id16_ic96oc96g96_k5s1d1_ndhwc_f32",
    "mb1_id24_ic32oc64g32_k3s1d1_ndhwc_f32",
    "mb1_id24_ic64oc64g64_k3s1d1_ncdhw_f32",
  ),
  "anisotropic": (
    "mb1_id16x32x32_ic32oc64_k1x3x3s1d1_ndhwc_f32",
    "mb1_id16x32x32_ic64oc64_k3x1x1s1d1_ndhwc_f32",
    "mb1_id16x32x32_ic32oc64_k1x3x3s1x2x2d1_ndhwc_f32",
    "mb1_id16x32x32_ic64oc64_k3x1x1s2x1x1d1_ndhwc_f32",
    "mb1_id16x48x48_ic32oc32_k3s1x2x2d1_ndhwc_f32",
    "mb1_id9x30x41_ic24oc40_k2x3x5s2x1x3d1_ndhwc_f32",
  ),
  "upsampling": (
    "mb1_id64_ic16oc32_k2s2d1_ndhwc_f32",
    "mb1_id64_ic16oc32_k4s2d1_ndhwc_f32",
    "mb1_id64_ic16oc32_k3s2d1_ndhwc_f32",
    "mb1_id32_ic64oc128_k2s2d1_ncdhw_f32",
    "mb1_id32_ic16oc64_k4s4d1_ndhwc_f32",
  ),
  "few-channels": (
    "mb1_id48_ic3oc32_k3s1d1_ndhwc_f32",
    "mb1_id48_ic32oc1_k3s1d1_ndhwc_f32",
    "mb1_id48_ic32oc3_k3s1d1_ndhwc_f32",
    "mb1_id64_ic1oc1_k3s1d1_ndhwc_f32",
    "mb1_id64_ic1oc16_k5s2d1_ndhwc_f32",
    "mb1_id128x128x64_ic1oc64_k3s2d1_ndhwc_f32",
  ),
  "dilated": (
    "mb1_id32_ic32oc32_k3s1d4_ndhwc_f32",
    "mb1_id32_ic32oc32_k3s1d8_ndhwc_f32",
    "mb1_id32_ic32oc32_k3s1d2_ncdhw_f32",
    "mb1_id16x32x32_ic32oc32_k3s1d1x2x2_ndhwc_f32",
    "mb1_id32_ic16oc32_k3s2d2_ndhwc_f32",
    "mb1_id32_ic16oc32_k3s2d3_ndhwc_f32",
    "mb1_id24_ic16oc16_k5s1d2_ndhwc_f32_valid",
  ),
  "batch": (
    "mb4_id16_ic32oc64_k3s1d1_ndhwc_f32",
    "mb2_id16_ic32oc64_k3s1d1_ndhwc_f32",
    "mb8_id16_ic32oc64_k3s1d1_ndhwc_f32",
    "mb8_id8_ic64oc128_k3s2d1_ndhwc_f32",
    "mb8_id16_ic32oc32_k3s1d2_ncdhw_f32",
  ),
  "channels-first": (
    "mb1_id32_ic32oc64_k3s2d1_ncdhw_f32",
    "mb1_id24_ic32oc32_k5s1d1_ncdhw_f32",
    "mb1_id48_ic1oc32_k3s1d1_ncdhw_f32",
    "mb2_id8_ic256oc256_k3s1d1_ncdhw_f32",
  ),
  "dtypes": (
    "mb1_id24_ic32oc32_k3s2d1_ndhwc_f16",
    "mb1_id24_ic32oc32_k3s2d1_ndhwc_bf16",
    "mb1_id24_ic32oc32_k3s2d1_ndhwc_f64",
    "mb1_id24_ic32oc32_k3s1d2_ndhwc_f16",
    "mb1_id24_ic32oc32_k3s1d2_ndhwc_bf16",
    "mb1_id24_ic32oc32_k3s1d2_ndhwc_f64",
    "mb1_id24_ic32oc32_k3s1d1_ncdhw_f16",
    "mb1_id24_ic32oc32_k3s1d1_ncdhw_bf16",
    "mb1_id24_ic32oc32_k3s1d1_ncdhw_f64",
    "mb1_id32_ic16oc32_k2s2d1_ndhwc_f16",
    "mb1_id32_ic1oc16_k3s1d1_ndhwc_f64",
  ),
  "pointwise": (
    "mb1_id32_ic64oc128_k1s1d1_ndhwc_f32",
    "mb1_id32_ic64oc128_k1s1d1_ncdhw_f32",
    "mb1_id32_ic64oc128_k1s2d1_ndhwc_f32",
    "mb1_id24_ic64oc64_k1s1d1_ndhwc_f64",
    "mb1_id24_ic64oc64_k1s1d1_ndhwc_f16",
    "mb1_id24_ic64oc64_k1s1d1_ndhwc_bf16",
  ),
  # A filter as large as the volume, tensorflow issue 19611, and transformers' patch embeddings.
  "whole-filter": (
    "mb1_id64_ic1oc384_k16s16d1_ndhwc_f32",
    "mb200_id28x28x1_ic1oc50_k28x28x1s1d1_ndhwc_f32_valid",
    "mb1_id64_ic4oc384_k16s16d1_ndhwc_f32",
  ),
  # Raced eagerly only: here the overhead of a call is what counts.
  "small": (
    "mb1_id4_ic8oc8_k3s1d1_ndhwc_f32",
    "mb1_id3_ic4oc8_k3s1d1_ndhwc_f32",
    "mb1_id5_ic8oc16_k3s1d1_ndhwc_f32",
    "mb1_id6_ic16oc16_k3s1d1_ndhwc_f32",
    "mb1_id8_ic16oc16_k3s1d1_ndhwc_f32",
    "mb1_id8_ic1oc8_k3s1d1_ndhwc_f32",
    "mb1_id6_ic8oc8_k2s2d1_ndhwc_f32",
    "mb1_id8_ic8oc16_k3s2d1_ndhwc_f32",
    "mb1_id8_ic16oc32_k1s1d1_ndhwc_f32",
    "mb1_id7_ic8oc8_k3s1d2_ndhwc_f32",
    "mb1_id8_ic8oc8_k3s1d1_ncdhw_f32",
    "mb2_id4_ic16oc16_k3s1d1_ndhwc_bf16",
    "mb1_id6_ic8oc8_k3s1d1_ndhwc_f16",
    "mb1_id6_ic8oc8_k3s1d1_ndhwc_f64",
  ),
  **{name: tuple(network.layers) for name, network in NETWORKS.items()},
}

# By theme, layers of which the convolution and its gradient in the filter are raced. A call takes
# some milliseconds, so that two more functions do not make a run twice as long.
_OTHER_FUNCTIONS: dict[str, tuple[str, ...]] = {
  "baseline": (
    "mb1_id32_ic32oc32_k3s1d1_ndhwc_f32",
    "mb1_id48_ic16oc16_k3s1d1_ndhwc_f32",
    "mb1_id16_ic64oc64_k3s1d1_ndhwc_f32",
    "mb1_id8_ic128oc256_k3s1d1_ndhwc_f32",
    "mb1_id16_ic32oc32_k5s1d1_ndhwc_f32",
  ),
  "strided": (
    "mb1_id32_ic32oc32_k3s2d1_ndhwc_f32",
    "mb1_id32_ic32oc64_k2s2d1_ndhwc_f32",
    "mb1_id32_ic32oc32_k4s2d1_ndhwc_f32",
  ),
  "few-channels": (
    "mb1_id48_ic1oc16_k3s1d1_ndhwc_f32",
    "mb1_id32_ic3oc32_k5s2d1_ndhwc_f32",
    "mb1_id32_ic32oc2_k3s1d1_ndhwc_f32",
  ),
  "dilated": (
    "mb1_id32_ic32oc32_k3s1d2_ndhwc_f32",
    "mb1_id32_ic32oc16_k3s1d4_ndhwc_f32",
  ),
  "anisotropic": (
    "mb1_id16x48x48_ic32oc32_k1x3x3s1d1_ndhwc_f32",
    "mb1_id9x30x41_ic24oc40_k2x3x5s2x1x3d1_ndhwc_f32",
  ),
  "pointwise": ("mb1_id32_ic64oc64_k1s1d1_ndhwc_f32",),
  "grouped": ("mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32",),
  "depthwise": ("mb1_id16_ic64oc64g64_k3s1d1_ndhwc_f32",),
  "channels-first": (
    "mb1_id32_ic32oc32_k3s1d1_ncdhw_f32",
    "mb1_id32_ic32oc32_k3s2d1_ncdhw_f32",
  ),
  "dtypes": (
    "mb1_id16_ic32oc32_k3s1d1_ndhwc_f64",
    "mb1_id16_ic32oc32_k3s1d1_ndhwc_f16",
    "mb1_id16_ic32oc32_k3s1d1_ndhwc_bf16",
  ),
  "batch": ("mb8_id16_ic16oc32_k3s1d1_ndhwc_f32",),
}

# By theme, whatever is raced.
SUITES: dict[str, tuple[str, ...]] = {
  theme: (
    *_BACKPROP_INPUT.get(theme, ()),
    *(f"{layer}_{name}" for name in ("fwd", "bwd_w") for layer in _OTHER_FUNCTIONS.get(theme, ())),
  )
  for theme in {**_BACKPROP_INPUT, **_OTHER_FUNCTIONS}
}

SMALL = frozenset(SUITES["small"])

# What `--quick` races.
QUICK: tuple[str, ...] = (
  "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32",
  "mb1_id32_ic32oc32_k3s1d2_ndhwc_f32",
  "mb1_id32_ic16oc32_k2s2d1_ncdhw_f32",
  "mb1_id48_ic1oc32_k3s1d1_ndhwc_f32",
  "mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32",
  "mb1_id24_ic32oc32_k3s1d1_ndhwc_f16",
  "mb1_id24_ic32oc32_k3s1d1_ndhwc_f64",
  "mb1_id4_ic8oc8_k3s1d1_ndhwc_f32",
  "mb1_id8_ic16oc16_k3s1d1_ndhwc_f32",
  "mb1_id32_ic32oc32_k3s1d1_ndhwc_f32_fwd",
  "mb1_id32_ic32oc32_k3s1d1_ncdhw_f32_fwd",
  "mb1_id32_ic32oc32_k3s1d1_ndhwc_f32_bwd_w",
  "mb1_id32_ic32oc32_k3s2d1_ndhwc_f32_bwd_w",
)

# One of each kind, for first calls in a process that has made no other.
FRESH: tuple[str, ...] = (
  "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32",
  "mb1_id32_ic16oc32_k3s2d2_ndhwc_f32",
  "mb1_id48_ic3oc64_k7s2d1_ndhwc_f32",
  "mb1_id16_ic128oc128g32_k3s2d1_ndhwc_f32",
  "mb1_id24_ic32oc32_k3s1d2_ndhwc_f16",
)

# Large filters and volumes, for what a call holds.
MEMORY: tuple[str, ...] = (
  "mb1_id64_ic32oc32_k7s1d1_ndhwc_f32",
  "mb1_id64_ic32oc32_k7s2d1_ndhwc_f32",
  "mb1_id64_ic32oc32_k7s1d1_ncdhw_f32",
  "mb1_id64_ic32oc32_k3s1d1_ncdhw_f32",
  "mb1_id96_ic32oc32_k3s1d1_ncdhw_f32",
)

# Time per voxel against the volume, and per FLOP against the filter.
VOLUMES: dict[int, str] = {
  size: f"mb1_id{size}_ic16oc16_k3s1d1_ndhwc_f32" for size in (32, 48, 64, 96, 128)
}
FILTERS: dict[int, str] = {
  taps: f"mb1_id32_ic32oc32_k{taps}s1d1_ndhwc_f32" for taps in (3, 4, 5, 6, 7)
}


def themes(case: str) -> tuple[str, ...]:
  """Returns the names of the suites that list a case."""
  return tuple(name for name, suite in SUITES.items() if case in suite)
