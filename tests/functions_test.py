"""The three functions of a convolution: what they take and give, and that they are derivatives."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import lowering
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering.tap_loop import exactly
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import (
  BACKPROP_FILTER,
  BACKPROP_INPUT,
  BY_RESULT,
  CONV3D,
  FILTER,
  INPUT,
  OUTPUT,
)

CASES = (
  "mb2_id4x5x3_ic2oc3_k3x2x1s1x2x1d1_ndhwc_f64",
  "mb1_id5x4x3_ic4oc6g2_k2x1x3s1d2x1x1_ncdhw_f64_valid",
)


def problem_of(text):
  return validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments())[0]


def integers(problem):
  """Returns a tensor of small integers for each of the three, whose products are exact."""
  rng = np.random.default_rng(0)
  return {
    name: rng.integers(-4, 5, functions.shape(name, problem)).astype(np.float64)
    for name in (FILTER, INPUT, OUTPUT)
  }


def form(problem, tensors):
  """Returns the trilinear form, summed cell by cell and tap by tap."""
  inputs, outputs = (
    np.moveaxis(tensors[name], problem.layout.channels, -1) for name in (INPUT, OUTPUT)
  )
  filter = tensors[FILTER]
  inner, out = problem.filter_in_channels, problem.out_channels // problem.groups
  total = 0.0
  cells = itertools.product(*(range(axis.output) for axis in problem.axes))
  taps = list(itertools.product(*(range(axis.taps) for axis in problem.axes)))
  for o, q in itertools.product(cells, taps):
    place = tuple(
      cell * axis.stride + tap * axis.dilation - axis.pad
      for cell, tap, axis in zip(o, q, problem.axes)
    )
    if not all(0 <= i < axis.input for i, axis in zip(place, problem.axes)):
      continue
    for sample, group in itertools.product(range(problem.batch), range(problem.groups)):
      y = outputs[(sample, *o)][group * out : (group + 1) * out]
      x = inputs[(sample, *place)][group * inner : (group + 1) * inner]
      total += x @ filter[q][:, group * out : (group + 1) * out] @ y
  return total


class FunctionsTest(parameterized.TestCase):
  def test_each_takes_two_of_the_tensors_and_gives_the_third(self):
    for function, name, operands, result in (
      (CONV3D, "conv3d", (FILTER, INPUT), OUTPUT),
      (BACKPROP_INPUT, "backprop_input", (FILTER, OUTPUT), INPUT),
      (BACKPROP_FILTER, "backprop_filter", (INPUT, OUTPUT), FILTER),
    ):
      self.assertEqual((function.name, function.operands), (name, operands))
      self.assertEqual(function.result, result)
      self.assertIs(BY_RESULT[result], function)
    self.assertLen(BY_RESULT, 3)

  def test_a_derivative_is_the_function_whose_result_that_operand_is(self):
    for function in BY_RESULT.values():
      for operand in function.operands:
        (other,) = {*function.operands} - {operand}
        # Of the other operand, and of the gradient, which stands for the result.
        self.assertEqual({*BY_RESULT[operand].operands}, {other, function.result})

  def test_they_are_named_as_what_lowerings_have(self):
    for function in BY_RESULT.values():
      for each in lowering.REGISTERED:
        if hasattr(each, function.name):
          self.assertEqual(function.of(each), getattr(each, function.name))

  @parameterized.parameters(*CASES)
  def test_shapes_are_those_of_the_case(self, text):
    case, problem = Case.parse(text), problem_of(text)
    for function, expected in (
      (CONV3D, case.out_backprop_shape),
      (BACKPROP_INPUT, case.input_sizes),
      (BACKPROP_FILTER, case.filter_shape),
    ):
      self.assertEqual(tuple(function.shape(problem)), expected)
      self.assertEqual(tuple(functions.shape(function.result, problem)), expected)

  @parameterized.parameters(*CASES)
  def test_the_dimension_split_by_groups_holds_the_channels_of_the_convolution(self, text):
    problem = problem_of(text)
    for tensor, channels in (
      (FILTER, problem.out_channels), (INPUT, problem.in_channels), (OUTPUT, problem.out_channels)
    ):
      dimension = functions.group_dimension(tensor, problem)
      self.assertEqual(functions.shape(tensor, problem)[dimension], channels)

  @parameterized.parameters(*CASES)
  def test_each_is_the_derivative_of_one_trilinear_form(self, text):
    problem = problem_of(text)
    tensors = integers(problem)
    expected = form(problem, tensors)
    self.assertNotEqual(expected, 0)
    for function in BY_RESULT.values():
      operands = [tf.constant(tensors[name]) for name in function.operands]
      result = exactly(function, problem)(*operands).numpy()
      self.assertEqual(result.shape, tuple(function.shape(problem)))
      self.assertEqual((result * tensors[function.result]).sum(), expected, function.name)


if __name__ == "__main__":
  absltest.main()
