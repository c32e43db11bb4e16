"""The convolution without strides and its gradient in the input, each as the other.

A convolution of stride 1 is the gradient, in the input, of another one: with the taps in reverse
order, in and out channels exchanged within each group, and what is missing to `(taps - 1) *
dilation` as padding. So whatever computes the one computes the other.
"""

from __future__ import annotations

import tensorflow as tf

from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.axis import Axis
from tf_conv3d_grad.problem.definition import Problem


def flipped(problem: Problem) -> Problem:
  """Returns the problem of which the gradient in the input is a problem's convolution.

  Its convolution is the problem's gradient in the input.
  """
  depth, height, width = map(_flipped_axis, problem.axes)
  return problem.replace(
    axes=(depth, height, width),
    in_channels=problem.out_channels,
    filter_in_channels=problem.out_channels // problem.groups,
    out_channels=problem.in_channels,
  )


def flipped_filter(problem: Problem, filter: tf.Tensor) -> tf.Tensor:  # noqa: A002
  """Returns the filter of the flipped problem, given a problem's own."""
  groups, inner = problem.groups, problem.filter_in_channels
  out = problem.out_channels // groups
  filter = tf.reverse(filter, axis=[0, 1, 2])  # noqa: A001
  split = tf.reshape(filter, [*problem.taps, inner, groups, out])
  exchanged = tf.transpose(split, [0, 1, 2, 5, 4, 3])
  return tf.reshape(exchanged, [*problem.taps, out, groups * inner])


def _flipped_axis(axis: Axis) -> Axis:
  pad = geometry.extent(axis.taps, axis.dilation) - 1 - axis.pad
  return Axis(axis.output, axis.input, axis.taps, 1, axis.dilation, pad)
