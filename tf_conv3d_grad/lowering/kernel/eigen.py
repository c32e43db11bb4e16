"""How long Eigen's kernels should take, and in which of two ways a batch is faster.

TensorFlow runs Eigen's kernels wherever it does not run oneDNN's: in float64, and where oneDNN is
off. The kernel of the gradient in the input has three ways (`Conv3DCustomBackpropInputOp` in
TensorFlow's `tensorflow/core/kernels/conv_grad_input_ops_3d.cc`):

- One sample: a matrix product on all cores gives columns, which are a run of channels for every
  tap of every cell of `out_backprop`. One thread adds them up.
- Several samples: the product and the sum of each are on one thread. As many samples are computed
  at a time as fill the L3 cache. Columns are allocated for that many even if the batch has fewer.
- Where those columns are more than 25 times the three tensors: a product with the patches of
  `out_backprop`. Patches are not held but looked up, run by run. Where a stride spreads them,
  they are looked up element by element, with divisions for each place. That takes up to 1000
  times as long.

The sizes of the cache and of the batch decide between the last two. Small batches are computed the
third way.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.kernel.plan import Plan
from tf_conv3d_grad.problem import sizes
from tf_conv3d_grad.problem.definition import Problem
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, CONV3D, Function
from tf_conv3d_grad.tensorflow import private, processor

# Columns that may be allocated, as a multiple of what the three tensors hold.
_MOST_COLUMNS = 25
# The L3 cache is between these sizes where it cannot be asked for: Eigen's default, and the most
# that an AMD processor can tell.
_L3_BYTES = (2 << 20, 512 << 20)
# glibc gives memory of this size and more back to the system, which has to clear its pages anew.
# Where TensorFlow's kernels are oneDNN's, so is its allocator, which keeps it: 24^3 cells of 32
# channels in float64, 95 MB of columns, take 18 ms then, and 48 otherwise.
_RETURNED_BYTES = 32 << 20

# FLOP a second of one core's product. This and all that follows was measured on Zen 4.
# docs/cost_model.md says how good the predictions are.
_PRODUCT_RATE = {tf.float32: 90e9, tf.float64: 42e9}
# Adding up columns: seconds for each run of channels, and for each byte.
_RUN, _COLUMN_BYTE = 2.2e-9, 0.14e-9
# Seconds for each byte of pages that have to be cleared.
_FRESH_BYTE = 0.6e-9
# Looking up patches: seconds for each run of channels and each byte of it, and for each element
# where a stride spreads them. The filter is turned around, element by element.
_PATCH, _PATCH_BYTE = 7.5e-9, 0.035e-9
_SPREAD_ELEMENT = 10e-9
# The gradient in the filter looks patches up with the batch innermost: seconds for each element and
# for each run of a batch, or for each byte where a stride spreads them. Its other operand, the
# input, it puts in order: seconds for each element.
_BATCHED_ELEMENT, _BATCH_RUN, _SPREAD_BYTE, _INPUT_ELEMENT = 0.7e-9, 5e-9, 2.5e-9, 13e-9
_FILTER_ELEMENT = 25e-9
# The gradient in the input takes less than its parts, measured one by one. With this factor
# predictions are 0.98 (float32) and 1.13 (float64) of the times on 2 cores, in the mean.
_OF_ITS_PARTS = 0.65
# The out channels with which a convolution's product reaches half of its rate.
_HALF_RATE_OUT = 10
# One more sample by itself: seconds of the calls, and of each byte of its result, which is copied
# into the result of the batch.
_SAMPLE, _RESULT_BYTE = 50e-6, 0.3e-9


def is_faster_by_sample(problem: Problem, dtype: tf.DType) -> bool:
  """Returns whether computing the samples of a batch, or of one group's, one by one is faster.

  Args:
    problem: The problem.
    dtype: The dtype in which the kernel takes it.
  """
  if not sizes.is_known(problem.batch):
    problem = problem.replace(batch=2)  # with the smallest batch patches are looked up most
  if not problem.is_static:
    return problem.strides != (1, 1, 1)
  problem = problem.one_group
  if problem.batch <= 1:
    return False
  l3 = private.eigen_l3_bytes()
  cores = processor.cores()
  whole = max(
    _whole_seconds(problem, dtype, size, cores) for size in (_L3_BYTES if l3 is None else (l3,))
  )
  return _by_sample_seconds(problem, dtype, cores) < whole


def seconds(function: Function, problem: Problem, plan: Plan) -> float:
  """Returns how long one core should take for a static problem, to compare with other lowerings."""
  if function is CONV3D:
    return _convolution_seconds(problem, plan.dtype)
  if function is BACKPROP_FILTER:
    return _filter_gradient_seconds(problem, plan.dtype)
  cores = processor.cores()
  if plan.by_sample:
    return _OF_ITS_PARTS * cores * _by_sample_seconds(problem, plan.dtype, cores)
  l3 = private.eigen_l3_bytes() or _L3_BYTES[0]
  return _OF_ITS_PARTS * cores * _whole_seconds(problem, plan.dtype, l3, cores)


def looks_patches_up(problem: Problem, dtype: tf.DType, l3: int) -> bool:
  """Returns whether the kernel takes a whole problem the third way.

  Args:
    problem: The problem, static and ungrouped.
    dtype: The one in which the kernel takes it.
    l3: How many bytes Eigen takes the L3 cache to hold.
  """
  shapes = (problem.input_shape, problem.filter_shape, problem.out_backprop_shape)
  elements = sum(math.prod(shape) for shape in shapes)
  columns = _samples_at_once(problem, dtype, l3) * _column_elements(problem)
  return columns // max(1, elements) > _MOST_COLUMNS


def _whole_seconds(problem: Problem, dtype: tf.DType, l3: int, cores: int) -> float:
  if looks_patches_up(problem, dtype, l3):
    return _patch_seconds(problem, dtype) / cores
  at_once = _samples_at_once(problem, dtype, l3)
  column_bytes = dtype.size * _column_elements(problem)
  parallel = min(at_once, problem.batch, cores)
  seconds = -(-problem.batch // parallel) * sum(_column_seconds(problem, dtype))
  if _is_returned(at_once * column_bytes):
    seconds += min(at_once, problem.batch) * column_bytes * _FRESH_BYTE / parallel
  return seconds


def _by_sample_seconds(problem: Problem, dtype: tf.DType, cores: int) -> float:
  """Samples run side by side, on as many cores as there are, and share these in their products."""
  one = problem.replace(batch=1)
  if looks_patches_up(one, dtype, l3=0):  # one sample is one at a time
    parallel, alone = _patch_seconds(one, dtype), 0.0
  else:
    parallel, alone = _column_seconds(one, dtype)
    column_bytes = dtype.size * _column_elements(one)
    if _is_returned(column_bytes):
      alone += column_bytes * _FRESH_BYTE
  alone += _SAMPLE + dtype.size * math.prod(one.input_shape) * _RESULT_BYTE
  return problem.batch * parallel / cores + -(-problem.batch // cores) * alone


def _is_returned(held: int) -> bool:
  return held >= _RETURNED_BYTES and not private.onednn_enabled()


def _samples_at_once(problem: Problem, dtype: tf.DType, l3: int) -> int:
  """Returns for how many samples the kernel allocates columns."""
  if problem.batch == 1:
    return 1
  one = problem.replace(batch=1)
  held = _column_elements(problem) + math.prod(one.out_backprop_shape)
  held += math.prod(problem.filter_shape)
  return max(1, -(-(l3 // dtype.size) // max(1, held)))


def _column_elements(problem: Problem) -> int:
  """Returns how many elements the columns of one sample have."""
  cells = math.prod(axis.output for axis in problem.axes)
  return cells * math.prod(problem.taps) * problem.in_channels


def _column_seconds(problem: Problem, dtype: tf.DType) -> tuple[float, float]:
  """Returns how long the product of one sample takes, and how long adding up its columns."""
  elements = _column_elements(problem)
  product = 2 * elements * problem.out_channels / _PRODUCT_RATE[dtype]
  runs = elements // max(1, problem.in_channels)
  return product, runs * _RUN + dtype.size * elements * _COLUMN_BYTE


def _convolution_seconds(problem: Problem, dtype: tf.DType) -> float:
  """Returns how long the convolution takes, a product with patches of the input, on one core."""
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  runs = cells * math.prod(problem.taps)
  rate = _PRODUCT_RATE[dtype] * cost.efficiency(problem.out_channels, _HALF_RATE_OUT)
  patches = runs * (_PATCH + dtype.size * problem.in_channels * _PATCH_BYTE)
  return cost.flops(problem) / rate + patches


def _filter_gradient_seconds(problem: Problem, dtype: tf.DType) -> float:
  """Returns how long the gradient in the filter takes, on one core.

  It is a product with patches of `out_backprop`, in which a stride has put zeros.
  """
  cells = math.prod(axis.input for axis in problem.axes)
  elements = cells * math.prod(problem.taps) * problem.out_channels
  if problem.strides == (1, 1, 1):
    looked_up = elements * (problem.batch * _BATCHED_ELEMENT + _BATCH_RUN)
  else:
    looked_up = elements * problem.batch * dtype.size * _SPREAD_BYTE
  looked_up += math.prod(problem.input_shape) * _INPUT_ELEMENT
  return cost.flops(problem) / _PRODUCT_RATE[dtype] + looked_up


def _patch_seconds(problem: Problem, dtype: tf.DType) -> float:
  """Returns how long the product with patches takes for the whole batch, on one core."""
  cells = problem.batch * math.prod(axis.input for axis in problem.axes)
  runs = cells * math.prod(problem.taps)
  elements = runs * problem.out_channels
  if problem.strides == (1, 1, 1):
    looked_up = runs * _PATCH + dtype.size * elements * _PATCH_BYTE
  else:
    looked_up = elements * _SPREAD_ELEMENT
  product = 2 * elements * problem.in_channels / _PRODUCT_RATE[dtype]
  return product + looked_up + math.prod(problem.filter_shape) * _FILTER_ELEMENT
