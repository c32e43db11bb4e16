"""The op and its two derivatives as matrix products and shifts along one axis at a time.

A transposed convolution is a pointwise one followed by overlap-add: one matrix product gives every
tap's contribution (the columns), and additions along each axis put them in place. Stride, dilation
and padding live in those alone, so nothing is ever multiplied by an inserted zero (Anderson et al.
2017, "Low-memory GEMM-based convolution algorithms for deep neural networks"). On an axis that the
plan gathers, the shifts come first instead: the neighbours of each cell go into the product's inner
dimension, one product a phase of the stride.

Works for every dtype, format, dilation and group count, compiled or not. The numbers of taps, of
channels and of groups must be known, and `lead` on every axis.
"""

import math

import tensorflow as tf

from tf_conv3d_grad import geometry, sizes
from tf_conv3d_grad.lowering import shifts, tiles
from tf_conv3d_grad.plan import Plan
from tf_conv3d_grad.problem import Problem, channels_last, from_channels_last

# Channels last: batch, depth, height, width, channels.
_SPATIAL = (1, 2, 3)


def backprop_input(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its input."""
  dtype = accumulation_dtype(problem.dtype)
  filter = tf.cast(filter, dtype)  # noqa: A001
  out_backprop = tf.cast(channels_last(out_backprop, problem.data_format), dtype)

  depth, height = (
    tiles.of_result(axis, tile) for axis, tile in zip(problem.axes[:2], plan.tile)
  )
  piece = problem.replace(axes=(depth.axis, height.axis, problem.axes[2]))
  if depth.count == height.count == 1:
    result = _backprop_input_piece(piece, plan, filter, out_backprop)
  else:
    padded = tiles.pad(tiles.pad(out_backprop, 1, depth), 2, height)
    piece = piece.replace(batch=1)

    def compute(index):
      sample, place = index // (depth.count * height.count), index % (depth.count * height.count)
      window = shifts.window(padded, 0, sample, 1)
      window = tiles.read(window, 1, depth, place // height.count)
      window = tiles.read(window, 2, height, place % height.count)
      return tf.cast(_backprop_input_piece(piece, plan, filter, window), problem.dtype)

    count = problem.batch * depth.count * height.count
    result = tiles.map_pieces(compute, count, problem.dtype)
    result = _joined(result, problem, depth, height, problem.axes[2].input, problem.in_channels)
    result = shifts.window(result, 1, 0, problem.axes[0].input)
    result = shifts.window(result, 2, 0, problem.axes[1].input)
  return from_channels_last(tf.cast(result, problem.dtype), problem.data_format)


def conv3d(problem: Problem, plan: Plan, filter: tf.Tensor, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the convolution itself, the op's derivative in `out_backprop`."""
  dtype = accumulation_dtype(problem.dtype)
  input = tf.cast(channels_last(input, problem.data_format), dtype)  # noqa: A001
  groups = problem.groups
  weights = _split_groups(tf.cast(filter, dtype), groups)  # [taps, in, g, out]
  inner = math.prod(problem.taps) * problem.filter_in_channels
  weights = tf.reshape(
    tf.transpose(weights, [2, 0, 1, 3]), [groups, inner, problem.out_channels // groups]
  )
  depth, piece = _output_tiles(problem, plan)
  padded = tiles.pad(input, 1, depth)

  def compute(index):
    window = padded if depth.count == 1 else shifts.window(padded, 0, index // depth.count, 1)
    columns = _columns(piece, tiles.read(window, 1, depth, index % depth.count))
    product = tf.transpose(tf.matmul(columns, weights), [1, 0, 2])  # [M, g, out]
    shape = [piece.batch, *(axis.output for axis in piece.axes), problem.out_channels]
    return tf.cast(tf.reshape(product, sizes.as_tensor(shape)), problem.dtype)

  if depth.count == 1:
    result = compute(0)
  else:
    result = tiles.map_pieces(compute, problem.batch * depth.count, problem.dtype)
    shape = [problem.batch, -1, *(a.output for a in problem.axes[1:]), problem.out_channels]
    result = tf.reshape(result, sizes.as_tensor(shape))
    result = shifts.window(result, 1, 0, problem.axes[0].output)
  return from_channels_last(result, problem.data_format)


def backprop_filter(
  problem: Problem,
  plan: Plan,
  input: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the gradient of the convolution in its filter, the op's derivative in `filter`."""
  dtype = accumulation_dtype(problem.dtype)
  groups, out = problem.groups, problem.out_channels // problem.groups
  input, out_backprop = (  # noqa: A001
    tf.cast(channels_last(tensor, problem.data_format), dtype) for tensor in (input, out_backprop)
  )
  depth, piece = _output_tiles(problem, plan)
  padded = tiles.pad(input, 1, depth)
  missing = depth.count * depth.axis.output - problem.axes[0].output
  out_backprop = shifts.pad(out_backprop, 1, 0, 0 if depth.count == 1 else missing)

  def compute(index):
    window, gradient = padded, out_backprop
    if not (sizes.is_known(depth.count) and depth.count == 1):
      window = shifts.window(padded, 0, index // depth.count, 1)
      gradient = shifts.window(out_backprop, 0, index // depth.count, 1)
      first = sizes.cast(index % depth.count) * depth.axis.output
      gradient = shifts.window(gradient, 1, first, depth.axis.output)
    columns = _columns(piece, tiles.read(window, 1, depth, index % depth.count))
    gradient = tf.transpose(tf.reshape(gradient, [-1, groups, out]), [1, 0, 2])
    return tf.matmul(columns, gradient, transpose_a=True)

  shape = [groups, math.prod(problem.taps) * problem.filter_in_channels, out]
  count = 1 if depth.count == 1 else problem.batch * depth.count
  total = tiles.sum_pieces(compute, count, tf.zeros(shape, dtype))
  total = tf.reshape(total, [groups, *problem.taps, problem.filter_in_channels, out])
  total = tf.transpose(total, [1, 2, 3, 4, 0, 5])
  return tf.cast(tf.reshape(total, problem.filter_shape), problem.dtype)


def accumulation_dtype(dtype: tf.DType) -> tf.DType:
  """Returns the dtype in which products are added up: halves lose too much in their own."""
  return tf.float64 if dtype == tf.float64 else tf.float32


def _backprop_input_piece(
  problem: Problem,
  plan: Plan,
  filter: tf.Tensor,  # noqa: A002
  out_backprop: tf.Tensor,
) -> tf.Tensor:
  """Returns the result on one tile, channels last, in the accumulation dtype."""
  gathered = [a for a in range(3) if plan.gathered[a]]
  scattered = [a for a in range(3) if not plan.gathered[a]]
  # By the residues on the gathered axes: the neighbours that the cells of that phase gather.
  neighbours = {(): [out_backprop]}
  slices: dict[tuple, tuple] = {(): ()}
  cells = [axis.output for axis in problem.axes]
  for a in gathered:
    axis, found = problem.axes[a], {}
    per_phase = -(-axis.input // axis.stride)
    for residues, tensors in neighbours.items():
      for phase in geometry.phases(axis.taps, axis.stride, axis.dilation, axis.lead):
        key = (*residues, phase.residue)
        found[key] = [
          shifts.place(tensor, _SPATIAL[a], axis.output, shift, per_phase)
          for tensor in tensors
          for shift in phase.shifts
        ]
        step = phase.taps[1] - phase.taps[0] if len(phase.taps) > 1 else axis.taps
        slices[key] = (*slices[residues], slice(phase.taps[0], None, step))
    neighbours, cells[a] = found, per_phase

  order = [*gathered, *scattered, 3, 4]
  weights = filter if order == [0, 1, 2, 3, 4] else tf.transpose(filter, order)
  taps = [problem.axes[a].taps for a in scattered]
  phases = {
    residues: _scattered_product(problem, tensors, weights[slices[residues]], cells, taps, scattered)
    for residues, tensors in neighbours.items()
  }
  for a in reversed(gathered):
    by_prefix: dict[tuple, dict[int, tf.Tensor]] = {}
    for (*prefix, residue), tensor in phases.items():
      by_prefix.setdefault(tuple(prefix), {})[residue] = tensor
    phases = {
      prefix: shifts.interleave(by_residue, _SPATIAL[a], problem.axes[a])
      for prefix, by_residue in by_prefix.items()
    }
  return phases[()]


def _scattered_product(problem, tensors, weights, cells, taps, scattered) -> tf.Tensor:
  """Multiplies gathered neighbours by their taps, then overlap-adds along the other axes."""
  shape = [problem.batch, *cells, *taps, problem.in_channels]
  columns = tf.reshape(_product(problem, tensors, weights), sizes.as_tensor(shape))
  for position in reversed(range(len(scattered))):
    a = scattered[position]
    per_tap = tf.unstack(columns, taps[position], axis=4 + position)
    columns = shifts.overlap_add(per_tap, _SPATIAL[a], problem.axes[a])
  return columns


def _product(problem: Problem, tensors: list[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
  """Returns the columns.

  Args:
    problem: The problem.
    tensors: The gathered neighbours, each `[batch, cells..., out_channels]`.
    weights: `[gathered taps..., scattered taps..., filter_in_channels, out_channels]`; as many
      gathered taps as neighbours.

  Returns:
    A tensor of `cells x scattered taps x in_channels` values in that order.
  """
  groups, out = problem.groups, problem.out_channels // problem.groups
  if groups == 1:
    neighbours = tf.reshape(_concatenated(tensors), [-1, len(tensors) * out])
    if len(tensors) == 1:
      return tf.matmul(neighbours, tf.reshape(weights, [-1, out]), transpose_b=True)
    weights = tf.reshape(weights, [len(tensors), -1, out])
    weights = tf.reshape(tf.transpose(weights, [0, 2, 1]), [len(tensors) * out, -1])
    return tf.matmul(neighbours, weights)
  neighbours = tf.reshape(_concatenated(tensors), [-1, len(tensors), groups, out])
  neighbours = tf.reshape(
    tf.transpose(neighbours, [2, 0, 1, 3]), [groups, -1, len(tensors) * out]
  )
  weights = tf.reshape(weights, [len(tensors), -1, problem.filter_in_channels, groups, out])
  scattered = weights.shape[1]
  weights = tf.reshape(
    tf.transpose(weights, [3, 0, 4, 1, 2]), [groups, len(tensors) * out, -1]
  )
  columns = tf.matmul(neighbours, weights)  # [g, M, scattered * in]
  columns = tf.reshape(columns, [groups, -1, scattered, problem.filter_in_channels])
  return tf.transpose(columns, [1, 2, 0, 3])


def _concatenated(tensors: list[tf.Tensor]) -> tf.Tensor:
  return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=-1)


def _joined(result, problem, depth, height, width, channels) -> tf.Tensor:
  """Puts `[batch * depth pieces * height pieces, 1, piece...]` in the result's order."""
  batch = problem.batch
  if height.count == 1:
    shape = [batch, depth.count * depth.axis.input, height.axis.input, width, channels]
    return tf.reshape(result, sizes.as_tensor(shape))
  pieces = [
    batch, depth.count, height.count, depth.axis.input, height.axis.input, width, channels
  ]  # fmt: skip
  result = tf.transpose(
    tf.reshape(result, sizes.as_tensor(pieces)), [0, 1, 3, 2, 4, 5, 6]
  )
  shape = [
    batch, depth.count * depth.axis.input, height.count * height.axis.input, width, channels
  ]  # fmt: skip
  return tf.reshape(result, sizes.as_tensor(shape))


def _output_tiles(problem: Problem, plan: Plan) -> tuple[tiles.Tiling, Problem]:
  """Returns the tiling of the convolution's output, and the problem on one tile."""
  depth = tiles.of_output(problem.axes[0], plan.tile[0])
  piece = problem.replace(axes=(depth.axis, *problem.axes[1:]))
  return depth, piece if depth.count == 1 else piece.replace(batch=1)


def _columns(problem: Problem, input: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns every output cell's neighbourhood in the input, `[g, M, taps * filter_in_channels]`."""
  columns = [input]
  for a in range(3):
    columns = [
      part for column in columns for part in shifts.gather(column, _SPATIAL[a], problem.axes[a])
    ]
  groups, inner = problem.groups, problem.filter_in_channels
  joined = tf.reshape(_concatenated(columns), [-1, len(columns), groups, inner])
  return tf.reshape(tf.transpose(joined, [2, 0, 1, 3]), [groups, -1, len(columns) * inner])


def _split_groups(filter: tf.Tensor, groups: int) -> tf.Tensor:  # noqa: A002
  """Returns the filter as `[taps, in, groups, out]`."""
  *taps, inner, out = filter.shape.as_list()
  return tf.reshape(filter, [math.prod(taps), inner, groups, out // groups])
