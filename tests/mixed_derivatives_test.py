"""Forward and reverse mode in every mixture to third order, in every way of calling.

Of h(w, y) = sum(r^2) / 2 with r = op(w, y), every mixture of three derivatives along the directions
1, 2 and 3 is the same number. With r_k and r_kl the derivatives of r, which is bilinear, that is

    first   sum(r r_1)
    second  sum(r_1 r_2 + r r_12)
    third   sum(r_12 r_3 + r_13 r_2 + r_23 r_1)
"""

import functools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case

SMALL = Case.parse("mb2_id3x2x3_ic2oc3_k2x1x3s1x2x1d1_ndhwc_f32")
# By default XLA compiles these two in graphs as well.
DILATED = Case.parse("mb1_id5_ic2oc2_k3x2x3s1d2_ndhwc_f64")
DEPTHWISE = Case.parse("mb1_id4x3x4_ic4oc4g4_k3x1x2s1d1_ncdhw_f32_valid")
# Innermost first. Left out, as TensorFlow gets them wrong or not at all without this op as well:
# reverse over twice forward (in a graph it takes x^4 to have a third derivative of 8 x), and in the
# gradient of a `tf.function` that was differentiated forward. Three times forward in eager code
# takes TensorFlow half a minute.
THIRD = ("FRF", "FRR", "RFF", "RFR", "RRF", "RRR")
OF_A_FUNCTION = ("F", "R", "RF", "RR")
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def op(case, filter, out_backprop):
  return tf_conv3d_grad.Conv3DBackpropInputV2(
    list(case.input_sizes), filter, out_backprop, **case.attributes()
  )


def derivative(function, mode):
  """Returns the derivative of a scalar function of filter and out_backprop along a direction."""

  def forward(operands, direction, *others):
    with tf.autodiff.ForwardAccumulator(operands, direction) as accumulator:
      value = function(operands, *others)
    return accumulator.jvp(value, unconnected_gradients=tf.UnconnectedGradients.ZERO)

  def reverse(operands, direction, *others):
    with tf.GradientTape() as tape:
      tape.watch(operands)
      value = function(operands, *others)
    gradients = tape.gradient(value, operands, unconnected_gradients="zero")
    return sum(tf.reduce_sum(g * d) for g, d in zip(gradients, direction))

  return forward if mode == "F" else reverse


def in_mixtures(mixtures, of_operands):
  """Returns a function of operands and directions with the derivative in each of the mixtures."""

  def squared(operands):
    result = of_operands(*operands)
    return tf.reduce_sum(result * result) / 2

  def derivatives(operands, directions):
    values = []
    for mixture in mixtures:
      function = squared
      for mode in mixture:
        function = derivative(function, mode)
      values.append(function(operands, *directions[: len(mixture)]))
    return values

  return derivatives


def tensors(case):
  """Returns the operands and three directions, each a pair of arrays in float64."""
  pairs = []
  for seed in range(4):
    rng = np.random.default_rng(seed)
    shapes = (case.filter_shape, case.out_backprop_shape)
    pairs.append(tuple(rng.uniform(-1, 1, shape).astype(case.dtype) for shape in shapes))
  return pairs[0], pairs[1:]


def exact(case):
  """Returns the first, second and third derivative."""
  (w, y), directions = tensors(case)

  def r(filter, out_backprop):
    return oracle.conv3d_backprop_input(case, filter, out_backprop)

  r0 = r(w, y)
  r1, r2, r3 = (r(dw, y) + r(w, dy) for dw, dy in directions)

  def mixed(k, m):
    (dw, dy), (ew, ey) = directions[k], directions[m]
    return r(dw, ey) + r(ew, dy)

  r12, r13, r23 = mixed(0, 1), mixed(0, 2), mixed(1, 2)
  return (
    np.sum(r0 * r1),
    np.sum(r1 * r2 + r0 * r12),
    np.sum(r12 * r3 + r13 * r2 + r23 * r1),
  )


def eager(case, mixtures):
  return in_mixtures(mixtures, functools.partial(op, case))


def graph(case, mixtures):
  return tf.function(eager(case, mixtures), autograph=False)


def compiled(case, mixtures):
  return tf.function(eager(case, mixtures), autograph=False, jit_compile=True)


def of_a_function(case, mixtures):
  return in_mixtures(mixtures, tf.function(functools.partial(op, case), autograph=False))


def of_a_compiled_function(case, mixtures):
  traced = tf.function(functools.partial(op, case), autograph=False, jit_compile=True)
  return in_mixtures(mixtures, traced)


class MixedDerivativesTest(parameterized.TestCase):
  @parameterized.parameters(
    (eager, SMALL, False),
    (graph, DILATED, "auto"),
    (eager, DEPTHWISE, True),
    (graph, DEPTHWISE, True),
    (compiled, SMALL, "auto"),
  )
  @testing.sample(1)
  def test_every_mixture_to_third_order(self, way, case, mode):
    self.assert_right(way, case, mode, ("FFF", *THIRD) if way is not eager else THIRD)

  @parameterized.parameters((of_a_compiled_function, SMALL), (of_a_function, DILATED))
  @testing.sample(1)
  def test_of_a_function_from_outside(self, way, case):
    self.assert_right(way, case, "auto", OF_A_FUNCTION)

  def assert_right(self, way, case, mode, mixtures):
    operands, directions = tensors(case)
    with tf_conv3d_grad.jit_compile(mode):
      results = way(case, mixtures)(
        tuple(map(tf.constant, operands)), [tuple(map(tf.constant, pair)) for pair in directions]
      )
    by_order = exact(case)
    for mixture, result in zip(mixtures, results):
      with self.subTest(mixture):
        value = by_order[len(mixture) - 1]
        np.testing.assert_allclose(result, value, rtol=TOLERANCES[case.dtype])


if __name__ == "__main__":
  absltest.main()
