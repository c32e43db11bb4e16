"""Eager calls, which are checked and planned once, then looked up by all that they depend on."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.execution import compiled, eager_calls, execute
from tf_conv3d_grad.planning import autotune
from tf_conv3d_grad.problem.functions import ALL
from tf_conv3d_grad.tensorflow import xla_onednn

ARE_QUICK = True


def cells(*shape, dtype=np.float32):
  """Returns small integers, whose sums are exact."""
  return np.random.default_rng(len(shape)).integers(-3, 4, shape).astype(dtype)


# As long in channels as on its axes, so that nearly every attribute may be changed by itself.
CONV3D = {
  "input": cells(4, 4, 4, 4, 4),
  "filter": cells(3, 3, 3, 4, 4),
  "strides": [1] * 5,
  "padding": "SAME",
  "data_format": "NDHWC",
  "dilations": [1] * 5,
}
BACKPROP_INPUT = {
  "input_sizes": [1, 6, 6, 6, 2],
  "filter": cells(2, 2, 2, 2, 3),
  "out_backprop": cells(1, 3, 3, 3, 3),
  "strides": [1, 2, 2, 2, 1],
  "padding": "SAME",
}
OPERANDS = ("filter", "input", "out_backprop")


def call(op, arguments):
  return getattr(tf_conv3d_grad, op)(**arguments)


def tensors(arguments):
  """Returns a call's arguments with eager tensors as operands: only such calls are looked up."""
  return {
    name: tf.constant(value) if name in OPERANDS else value for name, value in arguments.items()
  }


class EagerCallsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    eager_calls.forget()

  def assert_are_told_apart(self, *calls):
    """Asserts that calls, made one after another, give what each gives when it is not looked up."""
    for op, arguments in (*calls, *calls[::-1]):
      result = call(op, tensors(arguments))
      expected = call(op, arguments)
      self.assertEqual((result.shape, result.dtype), (expected.shape, expected.dtype))
      np.testing.assert_array_equal(result, expected)

  @parameterized.parameters(
    dict(strides=[1, 1, 2, 1, 1]),
    dict(strides=[1, 1, 1, 2, 1]),
    dict(dilations=[1, 1, 2, 1, 1]),
    dict(dilations=[1, 2, 1, 1, 1]),
    dict(padding="VALID"),
    dict(data_format="NCDHW"),
    dict(filter=cells(3, 1, 3, 4, 4)),
    dict(filter=cells(3, 3, 3, 2, 4)),
    dict(input=cells(2, 4, 4, 4, 4)),
    dict(input=cells(4, 4, 5, 4, 4)),
  )
  def test_a_convolution_with_one_argument_changed_is_another_call(self, **change):
    self.assert_are_told_apart(("Conv3D", CONV3D), ("Conv3D", {**CONV3D, **change}))

  @parameterized.parameters(
    dict(input_sizes=[1, 5, 6, 6, 2]),
    dict(input_sizes=[1, 6, 6, 5, 2]),
    dict(input_sizes=[1, 5, 6, 6, 2], filter=cells(3, 2, 2, 2, 3)),
    dict(filter=cells(3, 2, 2, 2, 3)),
  )
  def test_so_is_a_gradient_in_the_input(self, **change):
    changed = {**BACKPROP_INPUT, **change}
    op = "Conv3DBackpropInputV2"
    self.assert_are_told_apart((op, BACKPROP_INPUT), (op, changed))

  def test_so_is_another_of_the_three_functions_of_the_same_tensors(self):
    first, second = cells(3, 3, 3, 3, 3), cells(3, 3, 3, 3, 3)[::-1]
    sizes = [3] * 5
    more = {"strides": [1] * 5, "padding": "SAME"}
    names = {
      "Conv3D": {"filter": first, "input": second},
      "Conv3DBackpropInputV2": {"input_sizes": sizes, "filter": first, "out_backprop": second},
      "Conv3DBackpropFilterV2": {"filter_sizes": sizes, "input": first, "out_backprop": second},
    }
    self.assertEqual([*names], [function.op for function in ALL])
    self.assert_are_told_apart(*((op, {**of_op, **more}) for op, of_op in names.items()))

  @parameterized.parameters("float16", "bfloat16", "float64")
  def test_so_is_one_in_another_dtype(self, dtype):
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    change = {name: CONV3D[name].astype(dtype) for name in ("filter", "input")}
    self.assert_are_told_apart(("Conv3D", CONV3D), ("Conv3D", {**CONV3D, **change}))

  @parameterized.parameters(
    ("padding", "VALID"),  # which needs another out_backprop
    ("strides", [1, 1, 2, 2, 1]),
    ("data_format", "NCDHW"),
    ("filter", np.ones([2, 2, 2, 2, 3])),
    ("out_backprop", np.ones([1, 3, 3, 3, 3])),
    ("filter", cells(2, 2, 2, 2, 4)),
    ("out_backprop", cells(1, 3, 3, 4, 3)),
    ("input_sizes", [1.0, 5.0, 6.0, 6.0, 2.0]),  # equal to the right ones, as a key
    ("strides", [1, 2 + 0j, 2, 2, 1]),
    ("dilations", [1 + 0j] * 5),
  )
  def test_one_that_a_change_makes_malformed_is_refused_after_a_right_one(self, name, value):
    right = {**BACKPROP_INPUT, "input_sizes": [1, 5, 6, 6, 2], "data_format": "NDHWC"}
    call("Conv3DBackpropInputV2", tensors(right))
    refusals = (tf.errors.InvalidArgumentError, TypeError)  # the latter for attributes
    with self.assertRaisesRegex(refusals, "must"):
      call("Conv3DBackpropInputV2", tensors({**right, name: value}))

  def test_in_another_mode_it_is_planned_anew(self):
    compiled.forget()
    for mode, count in ((False, 0), (True, 1), (False, 1)):
      with tf_conv3d_grad.jit_compile(mode):
        result = call("Conv3D", tensors(CONV3D))
      np.testing.assert_array_equal(result, call("Conv3D", CONV3D))
      self.assertLen(compiled.kept(), count)

  def test_so_it_is_once_onednn_is_not_wanted_inside_of_xla(self):
    with mock.patch.object(execute, "prepared", wraps=execute.prepared) as planned:
      for setting, count in (("1", 1), ("0", 2), ("1", 2)):
        with mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: setting}):
          call("Conv3D", tensors(CONV3D))
        self.assertEqual(planned.call_count, count)

  def test_so_it_is_once_autotuning_is_on(self):
    with mock.patch.object(execute, "prepared", wraps=execute.prepared) as planned:
      for is_on, count in ((False, 1), (True, 2), (False, 2)):
        with mock.patch.object(autotune, "is_on", return_value=is_on), mock.patch.object(
          autotune, "choose", lambda *arguments: execute.policy.choose(*arguments[:3])
        ):
          call("Conv3D", tensors(CONV3D))
        self.assertEqual(planned.call_count, count)

  @parameterized.parameters("filter", "out_backprop")
  def test_one_of_the_operands_may_be_an_array(self, name):
    arguments = tensors(BACKPROP_INPUT)
    expected = call("Conv3DBackpropInputV2", arguments)
    result = call("Conv3DBackpropInputV2", {**arguments, name: BACKPROP_INPUT[name]})
    np.testing.assert_array_equal(result, expected)

  @parameterized.parameters("list", "array", "tensor")
  def test_one_made_before_is_not_checked_again(self, kind):
    convert = {"list": list, "array": np.array, "tensor": tf.constant}[kind]
    arguments = {**BACKPROP_INPUT, "input_sizes": convert(BACKPROP_INPUT["input_sizes"])}
    with mock.patch.object(validation, "validate", wraps=validation.validate) as checked:
      for _ in range(3):
        call("Conv3DBackpropInputV2", tensors(arguments))
    self.assertEqual(checked.call_count, 1)

  @parameterized.parameters((validation, "validate"), (execute, "prepared"))
  def test_an_error_of_checking_or_planning_is_raised_by_the_first_attempt(self, module, name):
    with mock.patch.object(module, name, side_effect=TypeError("of the plan")) as broken:
      with self.assertRaisesRegex(TypeError, "of the plan"):
        call("Conv3D", tensors(CONV3D))
    self.assertEqual(broken.call_count, 1)

  @parameterized.parameters("padding", "data_format", "strides")
  def test_what_cannot_be_looked_up_is_refused_as_what_it_is(self, name):
    with self.assertRaisesRegex(TypeError, f"{name} must be"):
      call("Conv3D", tensors({**CONV3D, name: [["SAME"]]}))


if __name__ == "__main__":
  absltest.main()
