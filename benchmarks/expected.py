"""The right result of a case: the oracle's or, where that is slow, that of TensorFlow's kernel."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks import problem
from tf_conv3d_grad.conformance import differential, oracle
from tf_conv3d_grad.conformance.case import Case

# The oracle is exact and slow; what takes it longer than this is left to TensorFlow's kernel.
_ORACLE_FLOPS = 5e8

# Relative errors in the 2-norm from which on a result is wrong, whoever's it is. TensorFlow's and
# PyTorch's kernels add some halves up in their own precision, which is imprecise and not wrong.
TOLERANCE = {**differential.RAW_TOLERANCE, "float16": 2e-2, "bfloat16": 1e-1}


def save(case: Case, tensors: dict[str, np.ndarray], folder: pathlib.Path) -> None:
  """Writes the case's result to expected.npy, in float32 or float64.

  Args:
    case: The case.
    tensors: Its operands by name, in float32 or float64 whatever the case's dtype.
    folder: Where to.
  """
  np.save(folder / "expected.npy", _compute(case, tensors))


def _compute(case: Case, tensors: dict[str, np.ndarray]) -> np.ndarray:
  if case.flops > _ORACLE_FLOPS and case.groups == 1:
    try:
      op = getattr(tf.raw_ops, case.direction.op)
      return op(**tensors, **problem.arguments(case)).numpy()
    except tf.errors.OpError:
      pass  # this build's kernels do not take the case
  return oracle.exact(case, tensors)
