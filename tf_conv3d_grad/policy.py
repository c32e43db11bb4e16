"""Which lowering computes a problem, and whether XLA compiles it."""

import dataclasses
import math

import tensorflow as tf

from tf_conv3d_grad import mode, sizes, tf_compat
from tf_conv3d_grad.plan import KERNEL, OVERLAP_ADD, TAP_LOOP, Plan
from tf_conv3d_grad.problem import NDHWC, Problem

# Columns that overlap-add holds at a time.
_TILE_BYTES = 8 << 20
# Python unrolls the phases of a stride; beyond this only a kernel is sensible.
_MAX_STRIDE = 64
# Below this much arithmetic an XLA compilation, some 0.2 s, is not worth it.
_COMPILE_FLOPS = 1e8


@dataclasses.dataclass(frozen=True)
class Environment:
  """Where a call runs, as far as the choice of a lowering depends on it.

  Attributes:
    device: "CPU" or "GPU".
    onednn: Whether TensorFlow's CPU kernels are oneDNN's.
    in_xla: Whether the function being traced will be compiled by XLA as a whole.
    mode: Whether to compile calls: True, False or "auto".
  """

  device: str
  onednn: bool
  in_xla: bool
  mode: bool | str

  @classmethod
  def here(cls, *tensors: tf.Tensor) -> "Environment":
    """Returns the environment of a call with these tensors, made here and now."""
    device = tf_compat.device_type(*tensors)
    return cls(device, tf_compat.onednn_enabled(), tf_compat.in_xla_context(), mode.current())


def choose(problem: Problem, environment: Environment) -> Plan:
  """Returns how to compute `problem`, and equally its derivatives."""
  kernel = _kernel_plan(problem, environment)
  if environment.device == "GPU":  # cuDNN takes every case
    return dataclasses.replace(kernel, compiled=environment.mode is not False)
  own = _overlap_add_plan(problem) if _overlap_add_can(problem) else Plan(TAP_LOOP)
  if environment.in_xla:
    return own
  if environment.mode is True:
    return dataclasses.replace(own, compiled=True)
  if _kernel_can(problem, kernel, environment):
    return kernel
  large = problem.is_static and flops(problem) > _COMPILE_FLOPS
  return dataclasses.replace(own, compiled=environment.mode == "auto" and large)


def flops(problem: Problem) -> int:
  """Returns the useful arithmetic of a static problem, a multiply-add counted as two."""
  cells = problem.batch * math.prod(axis.output for axis in problem.axes)
  return 2 * cells * math.prod(problem.taps) * problem.filter_in_channels * problem.out_channels


def _kernel_plan(problem: Problem, environment: Environment) -> Plan:
  if environment.device == "GPU":
    return Plan(
      KERNEL, device="GPU", kernel_dtype=problem.dtype, kernel_format=problem.data_format
    )
  # Eigen's kernels add halves up in their own precision, and oneDNN has none for float16.
  dtype = problem.dtype
  if dtype == tf.float16 or (dtype == tf.bfloat16 and not environment.onednn):
    dtype = tf.float32
  native = environment.onednn and dtype in (tf.float32, tf.bfloat16)
  return Plan(
    KERNEL, kernel_dtype=dtype, kernel_format=problem.data_format if native else NDHWC
  )


def _kernel_can(problem: Problem, plan: Plan, environment: Environment) -> bool:
  """Returns whether TensorFlow's CPU kernel takes the call, if that turns out to have one group."""
  if sizes.is_known(problem.groups) and problem.groups != 1:
    return False
  native = environment.onednn and plan.kernel_dtype in (tf.float32, tf.bfloat16)
  return native or problem.dilations == (1, 1, 1)


def _overlap_add_can(problem: Problem) -> bool:
  """Returns whether enough is known of the problem to unroll its taps and phases."""
  return sizes.is_known(
    *problem.taps, problem.in_channels, problem.filter_in_channels, problem.out_channels,
    *(axis.lead for axis in problem.axes),
  ) and all(
    axis.stride <= _MAX_STRIDE for axis in problem.axes
  )  # fmt: skip


def _overlap_add_plan(problem: Problem) -> Plan:
  """Gathers the depth taps, and computes as many depth planes at a time as fit the cache."""
  depth, height, width = problem.axes
  if not sizes.is_known(depth.input, depth.output, height.input, height.output, width.output):
    return Plan(OVERLAP_ADD, gathered=(True, False, False))
  per_row = 4 * width.output * height.taps * width.taps * problem.in_channels
  per_row += 4 * width.output * depth.taps * problem.out_channels
  plane = max(1, per_row * height.output)
  planes = max(1, _TILE_BYTES // plane)
  rows = None
  if plane > 4 * _TILE_BYTES:
    rows = max(1, height.input * _TILE_BYTES // plane)
  return Plan(
    OVERLAP_ADD,
    gathered=(True, False, False),
    tile=(planes if planes < depth.input else None, rows),
  )
