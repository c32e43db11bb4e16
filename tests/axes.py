"""Small axes, all there are, and what they reach by the definition."""

import itertools


def all_windows():
  """Every taps, stride and dilation of up to 5, 4 and 3."""
  return itertools.product(range(1, 6), range(1, 5), range(1, 4))


def reached(axis):
  """Which result cell each pair of output cell and tap reaches, by the definition."""
  return {
    (o, q): o * axis.stride + q * axis.dilation - axis.pad
    for o in range(axis.output)
    for q in range(axis.taps)
    if 0 <= o * axis.stride + q * axis.dilation - axis.pad < axis.input
  }
