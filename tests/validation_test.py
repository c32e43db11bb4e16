"""What is checked of a call's arguments, without making the call."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tests import malformed_calls
from tests.malformed_calls import CALLS, TOO_LARGE
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.cli.malformed import WELL_FORMED
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, FWD
from tf_conv3d_grad.problem.functions import ALL, BACKPROP_FILTER, BACKPROP_INPUT, CONV3D

ARE_QUICK = True
OF_OP = {function.op: function for function in ALL}


def validated(op, **changes):
  """Returns what becomes of the well-formed call of an op with some arguments changed."""
  return validation.validate(OF_OP[op], **{**WELL_FORMED[op], **changes})


def validating(op, call):
  return lambda: validated(op, **call.changes)[1]


class RefusedTest(parameterized.TestCase):
  """`errors_test` makes these calls, in every way of calling."""

  @parameterized.product(op=tuple(CALLS), traced=(False, True))
  def test_every_malformed_call_by_its_arguments(self, op, traced):
    for name, call in CALLS[op].items():
      if call.kind == TOO_LARGE:  # that has all the sizes that it has to have
        continue
      checked = validating(op, call)
      if traced:
        checked = tf.function(checked, autograph=False)
      outcome = malformed_calls.outcome_of(checked)
      with self.subTest(name):
        way = "traced" if traced else "eager"
        self.assertIsNone(malformed_calls.failure(way, call, outcome))


class UnknownTest(parameterized.TestCase):
  """What only the run tells."""

  @parameterized.parameters(
    ([3, 3, 3, 4, 6], None),
    ([2**40, 2**40, 2**40, 4, 6], "2\\^63 cells"),
    ([3, 3, 3, 3, 6], "multiple of the in channels"),
    ([3, 3, -3, 4, 6], "not be negative"),
    ([3, 3, 3, 4, 5], "as many channels"),
    ([3, 3, 3, 4], "vector of 5"),
  )
  def test_is_refused_when_it_is_known(self, filter_sizes, message):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.int64)], autograph=False)
    def checked(sizes):
      return validated("Conv3DBackpropFilterV2", filter_sizes=sizes)[1]

    sizes = tf.constant(filter_sizes, tf.int64)
    if message is None:
      np.testing.assert_array_equal(checked(sizes), WELL_FORMED["Conv3DBackpropFilterV2"]["input"])
      return
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
      checked(sizes)


class TakenTest(parameterized.TestCase):
  @parameterized.product(
    text=("mb2_id7x5x6_ic4oc6g2_k3x1x2s2x1x3d1x2x1_{}", "mb1_id5x4x9_ic2oc3_k2x3x4s1d2x1x2_{}"),
    data_format=("ndhwc", "ncdhw"),
    padding=("", "_valid"),
    function=((FWD, CONV3D), (BWD_D, BACKPROP_INPUT), (BWD_W, BACKPROP_FILTER)),
  )
  def test_the_problem_is_the_cases(self, text, data_format, padding, function):
    direction, function = function
    case = Case.parse(f"{text.format(data_format)}_f64{padding}")
    case = dataclasses.replace(case, direction=direction)
    problem, first, second = validation.validate(function, **case.arguments())
    self.assertEqual(problem.attributes.data_format, case.data_format)
    self.assertEqual(problem.attributes.padding, case.padding)
    self.assertEqual(problem.dtype, tf.float64)
    self.assertEqual((problem.batch, problem.groups), (case.batch, case.groups))
    self.assertEqual(tuple(problem.filter_shape), case.filter_shape)
    self.assertEqual(tuple(problem.input_shape), case.input_sizes)
    self.assertEqual(tuple(problem.out_backprop_shape), case.out_backprop_shape)
    self.assertEqual(tuple(axis.stride for axis in problem.axes), case.strides)
    self.assertEqual(tuple(axis.dilation for axis in problem.axes), case.dilations)
    for operand, tensor in zip(function.operands, (first, second)):
      expected = case.arguments()[function.argument(operand)]
      np.testing.assert_array_equal(tensor, expected)

  @parameterized.parameters(
    list,
    tuple,
    np.array,
    tf.constant,
    tf.TensorShape,
    lambda sizes: np.array(sizes, float),
    lambda sizes: [*map(tf.compat.v1.Dimension, sizes)],
    lambda sizes: [tf.compat.v1.Dimension(sizes[0]), *sizes[1:]],
    lambda sizes: np.array([*map(tf.compat.v1.Dimension, sizes)], object),
  )
  def test_sizes_may_be_written_in_many_ways(self, convert):
    for function in (BACKPROP_INPUT, BACKPROP_FILTER):
      op, name = function.op, function.asked_by
      problem, *_ = validated(op, **{name: convert(WELL_FORMED[op][name])})
      self.assertEqual(problem, validated(op)[0])

  @parameterized.parameters(*WELL_FORMED)
  def test_none_stands_for_a_default(self, op):
    self.assertEqual(validated(op, data_format=None, dilations=None)[0], validated(op)[0])


if __name__ == "__main__":
  absltest.main()
