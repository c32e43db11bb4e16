"""A convolution problem, written as one short string that anybody can re-run.

`mb2_id8x9x10_ic4oc6g2_k3x1x2s2x1x1d1x2x1_ncdhw_f16_valid` reads: a batch of 2, an input of 8x9x10
with 4 channels, 6 out channels in 2 groups, a filter of 3x1x2 taps, strides 2x1x1, dilations 1x2x1,
channels first, half precision, VALID padding. Three equal numbers are written once, `g` appears
with more than one group, and `_valid` only for VALID; SAME is the default.

Last comes the direction, named as benchdnn's `--dir` in lower case. `_fwd` is the convolution
itself, `Conv3D`. `_bwd_w` is its gradient in the filter, `Conv3DBackpropFilterV2`. The gradient in
the input, `Conv3DBackpropInputV2`, is the default and is not written; `_bwd_d` is read.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, DIRECTIONS, FWD, Direction

DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
DATA_FORMATS = ("NDHWC", "NCDHW")
PADDINGS = ("SAME", "VALID")

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_SHORT_DTYPES = {name: short for short, name in DTYPES.items()}
_Sizes = tuple[int, int, int]

_EXAMPLE = "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32"
_SIZES = r"\d+(?:x\d+x\d+)?"
_NOTATION = re.compile(
  r"mb(?P<batch>\d+)"
  rf"_id(?P<input_size>{_SIZES})"
  r"_ic(?P<in_channels>\d+)oc(?P<out_channels>\d+)(?:g(?P<groups>\d+))?"
  rf"_k(?P<taps>{_SIZES})s(?P<strides>{_SIZES})d(?P<dilations>{_SIZES})"
  r"_(?P<data_format>ndhwc|ncdhw)"
  rf"_(?P<dtype>{'|'.join(DTYPES)})"
  r"(?:_(?P<padding>same|valid))?"
  rf"(?:_(?P<direction>{'|'.join(DIRECTIONS)}))?"
)


@dataclasses.dataclass(frozen=True)
class Case:
  """One valid call of one of the three ops; triples are in the order depth, height, width.

  A case whose filter does not fit into the input with VALID padding is valid: the output is empty,
  and gradients are zeros. But for `Conv3D`, TensorFlow's formula for the output must not be
  negative.

  Attributes:
    batch: The batch size.
    input_size: The three spatial lengths of the convolution's input.
    in_channels: The channels of the convolution's input.
    out_channels: The channels of its output, which is what gradients know as `out_backprop`.
    taps: The three spatial lengths of the filter.
    strides: The three strides, at least 1.
    dilations: The three dilations, at least 1.
    groups: How many groups the channels are split into; divides both channel counts.
    padding: "SAME" or "VALID".
    data_format: "NDHWC" or "NCDHW".
    dtype: The name of the floating-point type, as NumPy and TensorFlow spell it.
    direction: Which of the three functions is computed.
  """

  batch: int
  input_size: _Sizes
  in_channels: int
  out_channels: int
  taps: _Sizes
  strides: _Sizes
  dilations: _Sizes
  groups: int = 1
  padding: str = "SAME"
  data_format: str = "NDHWC"
  dtype: str = "float32"
  direction: Direction = BWD_D

  def __post_init__(self) -> None:
    _require(self.batch >= 0, f"batch must not be negative, got {self.batch}")
    for name, least, most in (
      ("input_size", 0, _INT64_MAX),
      ("taps", 0, _INT64_MAX),
      ("strides", 1, _INT32_MAX),
      ("dilations", 1, _INT32_MAX),
    ):
      sizes = getattr(self, name)
      _require(
        len(sizes) == 3 and least <= min(sizes) and max(sizes) <= most,
        f"{name} must be three integers between {least} and {most}, got {sizes}",
      )
    _require(self.groups >= 1, f"groups must be at least 1, got {self.groups}")
    for name in ("in_channels", "out_channels"):
      channels = getattr(self, name)
      _require(
        channels >= 0 and channels % self.groups == 0,
        f"{name} must be a multiple of groups, but {self.groups} does not divide {channels}",
      )
    _require(self.padding in PADDINGS, f"padding must be one of {PADDINGS}, got {self.padding!r}")
    _require(
      self.data_format in DATA_FORMATS,
      f"data_format must be one of {DATA_FORMATS}, got {self.data_format!r}",
    )
    _require(
      self.dtype in _SHORT_DTYPES,
      f"dtype must be one of {tuple(_SHORT_DTYPES)}, got {self.dtype!r}",
    )
    for name in ("input_sizes", "filter_shape", "out_backprop_shape"):
      shape = getattr(self, name)
      _require(
        math.prod(size for size in shape if size) <= _INT64_MAX,
        f"{name} must have fewer than 2^63 cells, got {shape}",
      )
    if self.direction == FWD:
      _require(
        min(self._windows) >= 0,
        f"taps must fit into the input of a convolution, got {self.taps} for {self.input_size}",
      )

  @classmethod
  def parse(cls, text: str) -> Case:
    """Returns the case that `text` stands for.

    Args:
      text: The notation, such as "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32".

    Raises:
      ValueError: If `text` is not in the notation, or no valid case.
    """
    match = _NOTATION.fullmatch(text.strip())
    if match is None:
      raise ValueError(
        f"case must read like {_EXAMPLE}, optionally with g<groups> after the channels, AxBxC for "
        f"unequal sizes, and _valid, _fwd or _bwd_w at the end, got {text!r}"
      )
    fields = match.groupdict()
    try:
      return cls(
        batch=int(fields["batch"]),
        input_size=_parse_sizes(fields["input_size"]),
        in_channels=int(fields["in_channels"]),
        out_channels=int(fields["out_channels"]),
        taps=_parse_sizes(fields["taps"]),
        strides=_parse_sizes(fields["strides"]),
        dilations=_parse_sizes(fields["dilations"]),
        groups=int(fields["groups"] or 1),
        padding=(fields["padding"] or "same").upper(),
        data_format=fields["data_format"].upper(),
        dtype=DTYPES[fields["dtype"]],
        direction=DIRECTIONS[fields["direction"] or BWD_D.name],
      )
    except ValueError as error:
      raise ValueError(f"{error}, in case {text!r}") from None

  def __str__(self) -> str:
    groups = f"g{self.groups}" if self.groups > 1 else ""
    padding = "_valid" if self.padding == "VALID" else ""
    direction = "" if self.direction == BWD_D else f"_{self.direction.name}"
    return (
      f"mb{self.batch}_id{_format_sizes(self.input_size)}"
      f"_ic{self.in_channels}oc{self.out_channels}{groups}"
      f"_k{_format_sizes(self.taps)}s{_format_sizes(self.strides)}d{_format_sizes(self.dilations)}"
      f"_{self.data_format.lower()}_{_SHORT_DTYPES[self.dtype]}{padding}{direction}"
    )

  @functools.cached_property
  def output_size(self) -> tuple[int, ...]:
    """The three spatial lengths of the output; 0 where a filter does not fit with VALID."""
    return tuple(max(0, length) for length in self._windows)

  @property
  def _windows(self) -> list[int]:
    """How many windows fit on each axis, negative by how many strides a filter is too long."""
    return [
      -(-n // s) if self.padding == "SAME" else (n - (k - 1) * d - 1) // s + 1
      for n, k, s, d in zip(self.input_size, self.taps, self.strides, self.dilations)
    ]

  @property
  def input_sizes(self) -> tuple[int, ...]:
    """The shape of the input, five integers in the case's data format."""
    return self._in_format(self.batch, self.input_size, self.in_channels)

  @property
  def filter_shape(self) -> tuple[int, ...]:
    """The shape of `filter`: depth, height, width, in channels of a group, out channels."""
    return (*self.taps, self.in_channels // self.groups, self.out_channels)

  @property
  def out_backprop_shape(self) -> tuple[int, ...]:
    """The shape of the output, five integers in the case's data format."""
    return self._in_format(self.batch, self.output_size, self.out_channels)

  @property
  def result_shape(self) -> tuple[int, ...]:
    """The shape of what the op returns."""
    return self.shape_of(self.direction.result)

  def shape_of(self, tensor: str) -> tuple[int, ...]:
    """Returns the shape of "input", "filter" or "out_backprop", as the ops' arguments are named."""
    return self.input_sizes if tensor == "input" else getattr(self, f"{tensor}_shape")

  @property
  def strides_attr(self) -> tuple[int, ...]:
    """The attribute `strides`, five integers in the case's data format."""
    return self._in_format(1, self.strides, 1)

  @property
  def dilations_attr(self) -> tuple[int, ...]:
    """The attribute `dilations`, five integers in the case's data format."""
    return self._in_format(1, self.dilations, 1)

  @property
  def flops(self) -> int:
    """The useful arithmetic, a multiply-add counted as two.

    Every tap of every output cell counts, also where it falls on padding, as is the custom of the
    field; zeros that a stride or dilation would insert do not.
    """
    cells = self.batch * math.prod(self.output_size)
    return 2 * cells * math.prod(self.taps) * (self.in_channels // self.groups) * self.out_channels

  @property
  def is_empty(self) -> bool:
    """Whether any of the three tensors has no elements."""
    shapes = self.input_sizes + self.filter_shape + self.out_backprop_shape
    return 0 in shapes

  def attributes(self) -> dict[str, Any]:
    """Returns the op's attributes as keyword arguments."""
    return {
      "strides": list(self.strides_attr),
      "padding": self.padding,
      "data_format": self.data_format,
      "dilations": list(self.dilations_attr),
    }

  def arguments(self, seed: int = 0) -> dict[str, Any]:
    """Returns all keyword arguments of the call, with random tensors.

    No element of the tensors is zero, so that an element that is dropped shows in the result, and
    one of them is scaled so that the elements of the result are about 1.

    Args:
      seed: What the random tensors depend on.

    Returns:
      A dict by the names that the op has for its arguments, with NumPy arrays for tensors.

    Raises:
      MemoryError: If there is no memory for the tensors.
    """
    rng = np.random.default_rng(seed)
    dtype = tf.as_dtype(self.dtype).as_numpy_dtype
    scaled = "out_backprop" if self.direction == BWD_W else "filter"
    arguments: dict[str, Any] = {}
    for name in self.direction.tensors:
      if name == self.direction.sizes:
        index = np.int32 if max(self.result_shape) <= _INT32_MAX else np.int64
        arguments[name] = np.array(self.result_shape, index)
        continue
      scale = math.sqrt(self._terms) if name == scaled else 1.0
      arguments[name] = (_nonzero(rng, self.shape_of(name)) / scale).astype(dtype)
    return {**arguments, **self.attributes()}

  @property
  def _terms(self) -> float:
    """About how many products an element of the result is the sum of; at least 1."""
    if self.direction == BWD_W:
      return max(1.0, self.batch * math.prod(self.output_size))
    if self.direction == FWD:
      return max(1.0, math.prod(self.taps) * self.in_channels / self.groups)
    taps_per_cell = math.prod(max(k / s, 1) for k, s in zip(self.taps, self.strides))
    return max(1.0, taps_per_cell * self.out_channels / self.groups)

  def _in_format(self, batch: int, spatial: Iterable[int], channels: int) -> tuple[int, ...]:
    if self.data_format == "NDHWC":
      return (batch, *spatial, channels)
    return (batch, channels, *spatial)


def random_case(
  rng: np.random.Generator,
  *,
  max_size: int = 10,
  dtype: str | None = None,
  data_format: str | None = None,
  padding: str | None = None,
  dilated: bool | None = None,
  grouped: bool | None = None,
  direction: Direction | None = None,
) -> Case:
  """Returns a random valid case. Arguments that are None are drawn, too.

  Now and then the case is empty in one place, its filter is larger than its input or its stride
  larger than its filter.

  Args:
    rng: A `numpy.random.Generator`.
    max_size: The largest spatial length of the input.
    dtype: The dtype's name.
    data_format: "NDHWC" or "NCDHW".
    padding: "SAME" or "VALID".
    dilated: Whether some dilation exceeds 1.
    grouped: Whether there is more than one group.
    direction: Which of the three functions is computed.
  """
  dilated = bool(rng.integers(2)) if dilated is None else dilated
  grouped = bool(rng.integers(4) == 0) if grouped is None else grouped
  fixed: dict[str, Any] = {
    "dtype": dtype or str(rng.choice(list(_SHORT_DTYPES))),
    "data_format": data_format or str(rng.choice(DATA_FORMATS)),
    "padding": padding or str(rng.choice(PADDINGS)),
    "direction": direction or DIRECTIONS[str(rng.choice(list(DIRECTIONS)))],
  }
  while True:
    groups = int(rng.integers(2, 5)) if grouped else 1
    sizes: dict[str, Any] = {
      "batch": int(rng.integers(1, 4)),
      "input_size": _triple(rng, range(1, max_size + 1)),
      "in_channels": groups * int(rng.integers(1, 6)),
      "out_channels": groups * int(rng.integers(1, 6)),
      "taps": _triple(rng, (1, 1, 2, 2, 3, 3, 3, 4, 5)),
      "strides": _triple(rng, (1, 1, 1, 2, 2, 3, 4)),
      "dilations": _triple(rng, (1, 1, 2, 2, 3)) if dilated else (1, 1, 1),
      "groups": groups,
    }
    if dilated and max(sizes["dilations"]) == 1:
      continue
    if rng.integers(12) == 0:
      _make_empty(rng, sizes, grouped)
    try:
      case = Case(**sizes, **fixed)
    except ValueError:
      continue
    # A filter that does not fit makes VALID's result empty or zeros: worth a try, but a rare one.
    fits = 0 not in case.output_size or 0 in case.input_size
    if fits or rng.integers(16) == 0:
      return case


def _make_empty(rng: np.random.Generator, sizes: dict[str, Any], grouped: bool) -> None:
  """Empties one randomly chosen dimension of a case in place."""
  # Without channels the shapes no longer tell how many groups there are.
  scalars = ("batch",) if grouped else ("batch", "in_channels", "out_channels")
  name = str(rng.choice([*scalars, "input_size", "taps"]))
  if name in scalars:
    sizes[name] = 0
  else:
    emptied = list(sizes[name])
    emptied[rng.integers(3)] = 0
    sizes[name] = tuple(emptied)


def _triple(rng: np.random.Generator, choices: Sequence[int]) -> _Sizes:
  """Returns three draws, all equal about every third time, as most real cases are."""
  if rng.integers(3) == 0:
    return (int(rng.choice(choices)),) * 3
  depth, height, width = rng.choice(choices, 3)
  return int(depth), int(height), int(width)


def _nonzero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
  """Returns random values of either sign with a magnitude between 1/4 and 7/4."""
  try:
    return rng.uniform(0.25, 1.75, shape) * rng.choice((-1.0, 1.0), shape)
  except ValueError:
    raise MemoryError(f"an array of shape {shape} takes more bytes than have addresses") from None


def _format_sizes(sizes: Iterable[int]) -> str:
  texts = [str(size) for size in sizes]
  return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def _parse_sizes(text: str) -> _Sizes:
  sizes = [int(size) for size in text.split("x")]
  depth, height, width = sizes * 3 if len(sizes) == 1 else sizes
  return depth, height, width


def _require(condition: bool, message: str) -> None:
  if not condition:
    raise ValueError(message)
