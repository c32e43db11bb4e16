"""Which lowering computes a problem, and whether XLA compiles it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import tensorflow as tf

from tf_conv3d_grad import costs, eigen, geometry, mode, processor, sizes, tf_compat
from tf_conv3d_grad.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D, Function
from tf_conv3d_grad.plan import KERNEL, OVERLAP_ADD, TAP_LOOP, Plan
from tf_conv3d_grad.problem import NCDHW, NDHWC, Problem

# What overlap-add may hold of columns at a time, and what it holds for the sake of the cache. The
# matrix product packs its operands besides: 83 MB of columns are 125 MB more than 13 MB are.
_MAX_COLUMN_BYTES = 40 << 20
_CACHE_COLUMN_BYTES = (16 << 20, 6 << 20)
# Python unrolls the taps and phases of an axis; beyond these only a loop is sensible.
_MAX_UNROLLED = 64
_MAX_PHASES = 64

# Groups that the kernel is called for one by one, at most.
_MAX_GROUPS = 32

# Strides and dilations that TensorFlow's kernels are given.
_MAX_KERNEL_STEP = 2**15
# How many sets of parameters of overlap-add are timed by `autotune`: each takes a compilation.
_MOST_TIMED = 4
# Calls after which a compilation is to have paid, where TensorFlow's kernel does not take the case.
_CALLS = 200


class Choice(NamedTuple):
  """A plan that could compute a problem, and its expected cost; None where sizes are unknown."""

  plan: Plan
  cost: costs.Cost | None


@dataclasses.dataclass(frozen=True)
class Environment:
  """Where a call runs, as far as the choice of a lowering depends on it.

  Attributes:
    device: "CPU" or "GPU".
    onednn: Whether TensorFlow's CPU kernels are oneDNN's.
    in_xla: Whether the function being traced will be compiled by XLA as a whole.
    mode: Whether to compile calls: True, False or "auto".
    onednn_bfloat16: Whether, where they are, those of bfloat16 are too, which takes a processor
      with AVX-512 or AVX-NE-CONVERT. For calls in other dtypes it is not asked.
  """

  device: str
  onednn: bool
  in_xla: bool
  mode: bool | str
  onednn_bfloat16: bool = True

  @classmethod
  def here(cls, dtype: tf.DType, *tensors: tf.Tensor) -> Environment:
    """Returns the environment of a call in `dtype` with these tensors, made here and now."""
    return cls(
      tf_compat.device_type(*tensors),
      tf_compat.onednn_enabled(),
      tf_compat.in_xla_context(),
      False if tf_compat.in_v1_control_flow() else mode.current(),
      dtype != tf.bfloat16 or tf_compat.onednn_enabled(dtype),
    )


def choose(problem: Problem, environment: Environment, function: Function = BACKPROP_INPUT) -> Plan:
  """Returns how to compute `problem`.

  Args:
    problem: The problem.
    environment: Where it is computed.
    function: Which of the three functions of the convolution.
  """
  if problem.is_static:  # tensors in it would be kept alive
    return _remembered_choice(problem, environment, function)
  return _first_choice(problem, environment, function)


@functools.lru_cache(maxsize=4096)
def _remembered_choice(problem: Problem, environment: Environment, function: Function) -> Plan:
  return _first_choice(problem, environment, function)


def _first_choice(problem: Problem, environment: Environment, function: Function) -> Plan:
  # The kernel needs no figures of the others, which take longer than a small call.
  kernel = _kernel_choice(problem, environment, function)
  return (kernel or _own_choices(problem, environment, function)[0]).plan


def choices(
  problem: Problem, environment: Environment, function: Function = BACKPROP_INPUT
) -> list[Choice]:
  """Returns all that could compute `problem`, the one to take first; see `choose`."""
  first = _kernel_choice(problem, environment, function)
  if first is None:
    return _own_choices(problem, environment, function)
  if environment.device == "GPU":
    return [first]
  never = dataclasses.replace(environment, mode=False)  # what is compiled here comes first
  others = _own_choices(problem, never, function)
  if first.plan.lowering != KERNEL:
    kernel = _kernel_plan(problem, environment, function)
    others.insert(0, _kernel_itself(problem, kernel, environment))
  return list(dict.fromkeys([first, *others]))


def candidates(problem: Problem, environment: Environment) -> list[Plan]:
  """Returns the plans worth timing for a static problem, the one that `choose` takes first."""
  plans = [choice.plan for choice in choices(problem, environment)]
  if not environment.in_xla and environment.mode is not True:
    kernel = _kernel_plan(problem, environment, BACKPROP_INPUT)
    if _can_by_group(problem) and _kernel_can(problem, kernel, environment):
      plans.append(dataclasses.replace(kernel, by_group=True))
  if environment.device != "GPU" and _can_unroll(problem, BACKPROP_INPUT):
    compiled = not environment.in_xla
    if not (compiled and environment.mode is False):
      best = _overlap_add_choices(problem)[:_MOST_TIMED]
      plans += [dataclasses.replace(choice.plan, compiled=compiled) for choice in best]
  return list(dict.fromkeys(plans))


def _kernel_choice(problem: Problem, environment: Environment, function: Function) -> Choice | None:
  """Returns TensorFlow's kernel, or what beats it from the first call on, if it takes the call."""
  plan = _kernel_plan(problem, environment, function)
  if environment.device == "GPU":  # cuDNN takes every case
    return Choice(dataclasses.replace(plan, compiled=environment.mode is not False), None)
  if environment.in_xla or environment.mode is True:
    return None
  if not _kernel_can(problem, plan, environment):
    return None
  if _is_grouped(problem):
    return _choice_by_group(problem, environment, plan) if function is BACKPROP_INPUT else None
  if function is CONV3D and problem.padding == "SAME":
    # Its kernels disagree where a stride skips cells: Eigen's and XLA's begin later than oneDNN's,
    # and than what the transposed kernel takes for granted.
    if not all(sizes.is_known(axis.taps) and axis.stride <= axis.taps for axis in problem.axes):
      return None
  if function is BACKPROP_FILTER and not is_onednn(plan, environment):
    return None  # Eigen's takes up to a second where a product takes 10 ms
  kernel = _kernel_itself(problem, plan, environment)
  if kernel.cost is None or function is not BACKPROP_INPUT:
    return kernel
  # What is better has to be so with the first call. Few channels and filters as long as the stride
  # are a product and a transposition: with 16^3 taps and 4 channels that takes 9 ms, oneDNN 84.
  if problem.in_channels <= 4 and problem.is_cellwise:
    own = _own_choice(problem, function)
    if own.cost is not None and _uncompiled(problem, own.cost).seconds < kernel.cost.seconds:
      return Choice(own.plan, _uncompiled(problem, own.cost))
  # And a call may be so large that it repays its compilation, which has one core to itself.
  compiling = processor.cores() * costs.COMPILE_SECONDS
  if environment.mode == "auto" and kernel.cost.seconds > compiling:
    own = _own_choice(problem, function)
    if own.cost is not None and own.cost.seconds + compiling < kernel.cost.seconds:
      if tf_compat.xla_compiles():
        return Choice(dataclasses.replace(own.plan, compiled=True), _called(own.cost))
  return kernel


def _kernel_itself(problem: Problem, plan: Plan, environment: Environment) -> Choice:
  if not problem.is_static:
    return Choice(plan, None)
  return Choice(plan, costs.of_kernel(problem, plan.kernel_dtype, environment.onednn))


def _choice_by_group(problem: Problem, environment: Environment, plan: Plan) -> Choice | None:
  """Returns the kernel, called for each group, if that is to be faster than anything else."""
  if not _can_by_group(problem):
    return None
  cost = costs.of_kernel(problem, plan.kernel_dtype, environment.onednn)
  other = _own_choices(problem, environment, BACKPROP_INPUT)[0].cost
  if other is not None and other.seconds < cost.seconds:
    return None
  return Choice(dataclasses.replace(plan, by_group=True), cost)


def _own_choices(problem: Problem, environment: Environment, function: Function) -> list[Choice]:
  """Returns the best of this package's own lowerings, compiled or not, the one to take first."""
  own = _own_choice(problem, function)
  if environment.in_xla:
    return [own]
  compiled = Choice(dataclasses.replace(own.plan, compiled=True), own.cost and _called(own.cost))
  if environment.mode is True:
    return [compiled]
  own = Choice(own.plan, own.cost and _uncompiled(problem, own.cost))
  if environment.mode is False or own.cost is None:
    return [own]
  assert compiled.cost is not None
  saved = own.cost.seconds - compiled.cost.seconds
  return [compiled, own] if saved * _CALLS > costs.COMPILE_SECONDS else [own, compiled]


def _called(cost: costs.Cost) -> costs.Cost:
  """A compiled function of one's own has to be called."""
  return dataclasses.replace(cost, seconds=cost.seconds + costs.COMPILED_CALL_SECONDS)


def _uncompiled(problem: Problem, cost: costs.Cost) -> costs.Cost:
  """Without XLA every shifted column is copied before it is added: measured 2 to 4 times slower.

  Where nothing overlaps that is one product and one transposition: 1.3 to 1.8 times.
  """
  factor, calls_s = (1.6, 2e-4) if problem.is_cellwise else (3.0, 1.8e-3)
  return costs.Cost(factor * cost.seconds + calls_s, 2 * cost.column_bytes)


def _kernel_plan(problem: Problem, environment: Environment, function: Function) -> Plan:
  if environment.device == "GPU":
    return Plan(
      KERNEL, device="GPU", kernel_dtype=problem.dtype, kernel_format=problem.data_format
    )
  # Eigen's kernels add halves up in their own precision, and oneDNN has none for float16.
  dtype = problem.dtype
  plan = Plan(KERNEL, kernel_dtype=dtype, kernel_format=NDHWC)
  if dtype.size == 2 and not is_onednn(plan, environment):
    dtype = tf.float32
    plan = dataclasses.replace(plan, kernel_dtype=dtype)
  if is_onednn(plan, environment):
    # oneDNN's bfloat16 is 5 to 20 times slower channels first, except for pointwise filters; two
    # transposes cost less. In float32 it is about as fast, and they cost more.
    pointwise = sizes.is_known(*problem.taps) and math.prod(problem.taps) == 1
    if dtype == tf.float32 or pointwise:
      return dataclasses.replace(plan, kernel_format=problem.data_format)
    return plan
  # Its other two functions Eigen computes in one way whatever the batch, and sooner at once.
  by_sample = function is BACKPROP_INPUT and _is_faster_by_sample(problem, dtype)
  return dataclasses.replace(plan, by_sample=by_sample)


def _is_faster_by_sample(problem: Problem, dtype: tf.DType) -> bool:
  """Returns whether Eigen's kernel is to compute the samples of a batch one by one.

  It looks a batch up element by element, which takes up to 1000 times as long, where the columns of
  as many samples as fill the L3 cache are more than 25 times the three tensors, and one axis has a
  stride. Elsewhere it is now faster at once and now by sample; `eigen` has the reasons, figures and
  TensorFlow's file.
  """
  if not sizes.is_known(problem.batch):
    problem = problem.replace(batch=2)  # with the smallest batch it happens most
  if not problem.is_static:
    return problem.strides != (1, 1, 1)
  if problem.groups > 1:
    problem = problem.replace(
      in_channels=problem.filter_in_channels, out_channels=problem.out_channels // problem.groups
    )
  return problem.batch > 1 and eigen.is_faster_by_sample(problem, dtype)


def is_onednn(plan: Plan, environment: Environment) -> bool:
  """Returns whether the kernel of `plan` is oneDNN's; the CPU's other one is Eigen's."""
  if plan.kernel_dtype == tf.bfloat16:
    return environment.onednn and environment.onednn_bfloat16
  return environment.onednn and plan.kernel_dtype == tf.float32


def _kernel_can(problem: Problem, plan: Plan, environment: Environment) -> bool:
  """Returns whether TensorFlow's CPU kernel takes the call, or of a grouped one each group."""
  # Its 32-bit arithmetic overflows on larger ones, and takes the process down.
  if max(*problem.strides, *problem.dilations) > _MAX_KERNEL_STEP:
    return False
  return is_onednn(plan, environment) or problem.dilations == (1, 1, 1)


def _can_by_group(problem: Problem) -> bool:
  return problem.is_static and 1 < problem.groups <= _MAX_GROUPS and not problem.is_depthwise


def _is_grouped(problem: Problem) -> bool:
  return sizes.is_known(problem.groups) and problem.groups != 1


def _own_choice(problem: Problem, function: Function) -> Choice:
  """Returns the best of this package's own lowerings, as part of a compiled function."""
  if not _can_unroll(problem, function):
    return Choice(Plan(TAP_LOOP), None)
  if function is not BACKPROP_INPUT:
    return Choice(_im2col_plan(problem), None)
  if not problem.is_static:
    per_sample = problem.replace(batch=1)
    if per_sample.is_static:
      return Choice(_overlap_add_choices(per_sample)[0].plan, None)
    return Choice(Plan(OVERLAP_ADD, gathered=_gather_depth(problem)), None)
  return _overlap_add_choices(problem)[0]


def _can_unroll(problem: Problem, function: Function) -> bool:
  """Returns whether enough is known of the problem to unroll its taps and phases."""
  known = sizes.is_known(
    *problem.taps,
    problem.in_channels,
    problem.filter_in_channels,
    problem.out_channels,
    *(axis.lead for axis in problem.axes),
  )
  if not known:
    return False
  if function is not BACKPROP_INPUT:
    return math.prod(problem.taps) <= 343
  axes = [axis.simplified()[0] for axis in problem.axes]
  unrolled = [axis for axis in axes if not axis.is_shuffled]
  if any(max(axis.stride, axis.taps) > _MAX_UNROLLED for axis in unrolled):
    return False
  return math.prod(min(axis.stride, axis.taps) for axis in unrolled) <= _MAX_PHASES


def _gather_depth(problem: Problem) -> tuple[bool, bool, bool]:
  return (problem.axes[0].taps > 1, False, False)


def _im2col_plan(problem: Problem) -> Plan:
  """Returns a plan that holds the neighbourhoods of as many samples or planes as are allowed."""
  depth, height, width = problem.axes
  if not sizes.is_known(height.output, width.output):
    return Plan(OVERLAP_ADD)
  plane = height.output * width.output * math.prod(problem.taps) * problem.in_channels * 4
  planes = max(1, _MAX_COLUMN_BYTES // max(1, plane))
  if not (sizes.is_known(depth.output) and depth.output <= planes):
    return Plan(OVERLAP_ADD, tile=(planes, None))
  if not sizes.is_known(problem.batch):
    return Plan(OVERLAP_ADD)
  return Plan(OVERLAP_ADD, samples=_samples(problem.batch, plane * depth.output, _MAX_COLUMN_BYTES))


def _samples(batch: int, held: int, budget: int) -> int | None:
  """Returns how many samples, that hold so much each, fit a budget; None if all of them do."""
  most = max(1, budget // max(1, held))
  if batch <= most:
    return None
  return next(samples for samples in range(most, 0, -1) if batch % samples == 0)


def _overlap_add_choices(problem: Problem) -> list[Choice]:
  """Returns the parameters of overlap-add worth considering, the least expected cost first."""
  if problem.is_depthwise:
    return [_depthwise_choice(problem)]
  found = []
  for gathered, (rows_first, columns_first) in itertools.product(
    costs.overlap_add_choices(problem), _layouts(problem)
  ):
    tiled = []
    for budget in (_MAX_COLUMN_BYTES, *_CACHE_COLUMN_BYTES):
      tile, samples = _tile(problem, gathered, columns_first, budget)
      cost = costs.of_overlap_add(
        problem, gathered, rows_first, columns_first, tile, samples
      )
      plan = Plan(
        OVERLAP_ADD,
        gathered=gathered,
        rows_first=rows_first or (gathered == (True, True, True) and problem.out_channels <= 4),
        columns_first=columns_first,
        tile=tile,
        samples=samples,
      )
      tiled.append(Choice(plan, cost))
    found.append(min(tiled, key=_seconds))
  return sorted(found, key=_seconds)


def _seconds(choice: Choice) -> float:
  return math.inf if choice.cost is None else choice.cost.seconds


def _layouts(problem: Problem) -> list[tuple[bool, bool]]:
  """Returns whether rows and columns are held channels first, all that is worth considering."""
  if problem.data_format == NCDHW:
    # Height and width become the inner loops; they must be worth it.
    wide = problem.axes[2].input >= 16
    return [(wide and problem.in_channels > 8, wide)]
  return [(False, False), (False, True)] if 1 < problem.in_channels <= 8 else [(False, False)]


def _tile(
  problem: Problem, gathered: tuple[bool, bool, bool], columns_first: bool, budget: int
) -> tuple[tuple[int | None, int | None], int | None]:
  """Returns how much of depth and height, or how many samples, to compute at a time.

  That holds at most `budget` bytes, or what as many rows as the filter is long need.
  """
  depth, height, _ = (axis.simplified()[0] for axis in problem.axes)

  def held(tile: tuple[int | None, int | None]) -> int:
    one = problem.replace(batch=1)
    return costs.of_overlap_add(one, gathered, False, columns_first, tile).column_bytes

  sample = held((None, None))
  if sample <= budget:
    return (None, None), _samples(problem.batch, sample, budget)
  plane = held((depth.stride, None))
  planes = max(1, budget // max(1, plane))
  pieces = -(-depth.input // (planes * depth.stride))
  planes = -(-depth.input // (pieces * depth.stride))
  # What the last piece has too much is cut off with a copy; somewhat smaller pieces may come out.
  even = (p for p in range(planes, planes // 2, -1) if depth.input % (p * depth.stride) == 0)
  planes = next(even, planes)
  rows = None
  if plane > max(budget, _MAX_COLUMN_BYTES):
    # Pieces shorter than the filter's reach would multiply more for their neighbours than for them.
    least = max(height.stride, geometry.extent(height.taps, height.dilation))
    most = max(1, height.input // least)
    cuts = [
      -(-height.input // (pieces * height.stride)) * height.stride
      for pieces in range(min(-(-plane // budget), most), most + 1)
    ]
    rows = next((rows for rows in cuts if held((depth.stride, rows)) <= budget), cuts[-1])
  return (planes * depth.stride, rows), None


def _depthwise_choice(problem: Problem) -> Choice:
  """Shifts, scales and adds; no columns are held."""
  seconds = costs.flops(problem) / costs.DEPTHWISE_RATE
  channels_first = problem.data_format == NCDHW and problem.axes[2].input >= 16
  plan = Plan(
    OVERLAP_ADD,
    gathered=(True, True, True),
    rows_first=channels_first,
    columns_first=channels_first,
  )
  return Choice(plan, costs.Cost(seconds, 0))
