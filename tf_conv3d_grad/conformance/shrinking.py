"""The smallest case that shows a fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from tf_conv3d_grad.conformance.case import Case

_PER_AXIS = ("input_size", "taps", "strides", "dilations")


def shrink(case: Case, fails: Callable[[Case], bool], attempts: int) -> Case:
  """Returns a case that fails and of whose smaller variants none does, as far as was tried.

  Args:
    case: A case that fails.
    fails: Says whether another one does.
    attempts: How many to try at most.
  """
  tried = {case}
  candidates = smaller(case)
  while attempts:
    candidate = next(candidates, None)
    if candidate is None:
      break
    if candidate in tried:
      continue
    tried.add(candidate)
    attempts -= 1
    if fails(candidate):
      case = candidate
      candidates = smaller(case)
  return case


def smaller(case: Case) -> Iterator[Case]:
  """Yields valid variants of a case that are simpler in one respect, the boldest first.

  Dtype and direction stay: their kernels are what failed.
  """
  for changes in _simplifications(case):
    try:
      candidate = dataclasses.replace(case, **changes)
    except ValueError:  # The filter no longer fits, say.
      continue
    if candidate != case:
      yield candidate


def _simplifications(case: Case) -> Iterator[dict[str, Any]]:
  in_channels, out_channels = case.in_channels // case.groups, case.out_channels // case.groups
  yield {"groups": 1, "in_channels": in_channels, "out_channels": out_channels}
  for name in _PER_AXIS:
    yield {name: (1, 1, 1)}
  for batch in _less(case.batch):
    yield {"batch": batch}
  for channels in _less(in_channels):
    yield {"in_channels": case.groups * channels}
  for channels in _less(out_channels):
    yield {"out_channels": case.groups * channels}
  for name in _PER_AXIS:
    sizes = getattr(case, name)
    for axis in range(3):
      for size in _less(sizes[axis]):
        yield {name: (*sizes[:axis], size, *sizes[axis + 1 :])}
  yield {"padding": "SAME"}
  yield {"data_format": "NDHWC"}


def _less(size: int) -> list[int]:
  """Returns smaller sizes than this; never 0, for emptiness is a case of its own."""
  return sorted({1, size // 2, size - 1} & set(range(1, size)))
