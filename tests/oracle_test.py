import dataclasses
import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case, random_case
from tf_conv3d_grad.conformance.direction import BWD_D

ARE_QUICK = True

CASES = (
  "mb2_id4x5x6_ic2oc3_k3x2x1s1x2x3d1_ndhwc_f64",
  "mb1_id5x6x7_ic2oc1_k2x3x3s1x1x2d3x2x1_ndhwc_f64_valid",
  "mb2_id3x4x5_ic4oc6g2_k3x1x2s2x1x1d1x2x1_ncdhw_f64",
  "mb1_id2x3x2_ic1oc2_k5x4x3s3x1x2d2_ncdhw_f64",
)


def random_tensors(case, seed=0):
  """Returns an input and the case's filter and out_backprop, in float64."""
  arguments = case.arguments(seed)
  x = np.random.default_rng(seed + 1).normal(size=case.input_sizes)
  return x, arguments["filter"].astype(np.float64), arguments["out_backprop"].astype(np.float64)


def literal_conv3d_backprop_input(case, filter, out_backprop):
  """The sum of the definition, one multiplication at a time."""
  if case.data_format == "NCDHW":
    out_backprop = np.moveaxis(out_backprop, 1, -1)
  leads = [
    max((o - 1) * s + (k - 1) * d + 1 - n, 0) // 2 if case.padding == "SAME" else 0
    for n, o, k, s, d in zip(
      case.input_size, case.output_size, case.taps, case.strides, case.dilations
    )
  ]
  group_in, group_out = case.in_channels // case.groups, case.out_channels // case.groups
  dx = np.zeros((case.batch, *case.input_size, case.in_channels))
  ranges = [case.batch, *case.output_size, *case.taps, group_in, case.out_channels]
  for b, od, oh, ow, qd, qh, qw, ci, co in itertools.product(*map(range, ranges)):
    i = [
      o * s + q * d - lead
      for o, q, s, d, lead in zip(
        (od, oh, ow), (qd, qh, qw), case.strides, case.dilations, leads
      )
    ]
    if all(0 <= position < n for position, n in zip(i, case.input_size)):
      channel = co // group_out * group_in + ci
      dx[b, i[0], i[1], i[2], channel] += (
        out_backprop[b, od, oh, ow, co] * filter[qd, qh, qw, ci, co]
      )
  return np.moveaxis(dx, -1, 1) if case.data_format == "NCDHW" else dx


class OracleTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_backprop_input_is_the_sum_of_the_definition(self, text):
    case = Case.parse(text)
    _, filter, out_backprop = random_tensors(case)
    np.testing.assert_allclose(
      oracle.conv3d_backprop_input(case, filter, out_backprop),
      literal_conv3d_backprop_input(case, filter, out_backprop),
      rtol=0,
      atol=1e-13,
    )

  @parameterized.parameters(range(60))
  def test_the_three_functions_are_adjoint_to_each_other(self, seed):
    case = random_case(np.random.default_rng(seed), dtype="float64", direction=BWD_D)
    x, filter, out_backprop = random_tensors(case, seed)
    through_output = np.sum(oracle.conv3d(case, x, filter) * out_backprop)
    through_input = np.sum(x * oracle.conv3d_backprop_input(case, filter, out_backprop))
    through_filter = np.sum(filter * oracle.conv3d_backprop_filter(case, x, out_backprop))
    np.testing.assert_allclose(through_input, through_output, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(through_filter, through_output, rtol=1e-10, atol=1e-10)

  @parameterized.product(
    padding=("SAME", "VALID"), strides=((1, 1, 1), (2, 1, 3)), input_size=((4, 5, 6), (7, 7, 7))
  )
  def test_all_three_are_tensorflows(self, padding, strides, input_size):
    case = Case(2, input_size, 2, 3, (3, 2, 3), strides, (1, 1, 1), 1, padding, dtype="float64")
    x, filter, out_backprop = random_tensors(case)
    attributes = {"strides": case.strides_attr, "padding": padding}
    np.testing.assert_allclose(
      oracle.conv3d(case, x, filter), tf.nn.conv3d(x, filter, **attributes), atol=1e-12
    )
    np.testing.assert_allclose(
      oracle.conv3d_backprop_input(case, filter, out_backprop),
      tf.raw_ops.Conv3DBackpropInputV2(
        input_sizes=case.input_sizes, filter=filter, out_backprop=out_backprop, **attributes
      ),
      atol=1e-12,
    )
    np.testing.assert_allclose(
      oracle.conv3d_backprop_filter(case, x, out_backprop),
      tf.raw_ops.Conv3DBackpropFilterV2(
        input=x, filter_sizes=case.filter_shape, out_backprop=out_backprop, **attributes
      ),
      atol=1e-12,
    )

  @parameterized.parameters("fwd", "bwd_d", "bwd_w")
  def test_the_direction_says_which_of_them_is_exact(self, direction):
    case = Case.parse(f"{CASES[2]}_{direction}")
    x, filter, out_backprop = random_tensors(dataclasses.replace(case, direction=BWD_D))
    expected = {
      "fwd": lambda: oracle.conv3d(case, x, filter),
      "bwd_d": lambda: oracle.conv3d_backprop_input(case, filter, out_backprop),
      "bwd_w": lambda: oracle.conv3d_backprop_filter(case, x, out_backprop),
    }[case.direction.name]()
    arguments = {"input": x, "filter": filter, "out_backprop": out_backprop, "strides": None}
    np.testing.assert_array_equal(oracle.exact(case, arguments), expected)
    self.assertEqual(expected.shape, case.result_shape)

  @parameterized.product(direction=("fwd", "bwd_d", "bwd_w"), text=CASES[:2])
  def test_the_usual_norm_is_that_over_random_signs(self, direction, text):
    case = Case.parse(f"{text}_{direction}")
    arguments = case.arguments(0)
    rng = np.random.default_rng(0)
    norms = []
    for _ in range(300):
      signed = {
        name: arguments[name] * rng.choice([-1.0, 1.0], arguments[name].shape)
        for name in case.direction.operands
      }
      norms.append(np.linalg.norm(oracle.exact(case, signed)))
    mean_square = np.mean(np.square(norms))
    self.assertAlmostEqual(oracle.usual_norm(case, arguments) / np.sqrt(mean_square), 1, delta=0.1)

  def test_groups_are_independent_convolutions_side_by_side(self):
    case = Case.parse("mb2_id4x5x3_ic6oc4g2_k3x2x2s2x1x1d1x2x1_ndhwc_f64")
    half = dataclasses.replace(case, groups=1, in_channels=3, out_channels=2)
    _, filter, out_backprop = random_tensors(case)
    halves = [
      oracle.conv3d_backprop_input(half, filter[..., part], out_backprop[..., part])
      for part in (slice(0, 2), slice(2, 4))
    ]
    np.testing.assert_array_equal(
      oracle.conv3d_backprop_input(case, filter, out_backprop), np.concatenate(halves, axis=-1)
    )

  def test_channels_first_is_channels_last_transposed(self):
    last = Case.parse("mb2_id4x5x3_ic6oc4g2_k3x2x2s2x1x1d1x2x1_ndhwc_f64")
    first = dataclasses.replace(last, data_format="NCDHW")
    _, filter, out_backprop = random_tensors(last)
    np.testing.assert_array_equal(
      oracle.conv3d_backprop_input(first, filter, np.moveaxis(out_backprop, -1, 1)),
      np.moveaxis(oracle.conv3d_backprop_input(last, filter, out_backprop), -1, 1),
    )

  def test_an_infinity_reaches_only_the_cells_of_its_terms(self):
    case = Case.parse("mb1_id5x1x1_ic1oc1_k3x1x1s1d1_ndhwc_f64")
    filter = np.ones(case.filter_shape)
    out_backprop = np.ones(case.out_backprop_shape)
    out_backprop[0, 3] = np.inf
    result = oracle.conv3d_backprop_input(case, filter, out_backprop)
    np.testing.assert_array_equal(result.ravel(), [2, 3, np.inf, np.inf, np.inf])


if __name__ == "__main__":
  absltest.main()
