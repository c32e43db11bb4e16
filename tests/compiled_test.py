"""Calls that XLA compiles, and what runs where it cannot."""

import dataclasses
import warnings
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import compiled, eager_calls, execute
from tf_conv3d_grad.lowering.im2col import Im2col
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow import private, xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment

FAILURES = (
  tf.errors.InvalidArgumentError,
  tf.errors.UnimplementedError,
  tf.errors.InternalError,
  tf.errors.UnknownError,
)


def not_for_xla(compute):
  """Returns a lowering's function with an operation in it that XLA cannot compile."""

  def computed(lowering, problem, plan, *operands):
    result = compute(lowering, problem, plan, *operands)
    text = tf.strings.as_string(tf.reduce_sum(operands[0]))
    return result + tf.cast(tf.strings.length(text) * 0, result.dtype)

  return computed


class RepaidTest(testing.OpTestCase):
  """Calls that TensorFlow's kernel takes, but compiled: as if compiling took no time."""

  def setUp(self):
    super().setUp()
    self.enter_context(
      mock.patch.multiple(policy, COMPILE_SECONDS=0, LONG=0, LONG_IN_GRAPH=0, CLEARLY=0)
    )
    self.forget()
    self.addCleanup(self.forget)

  def forget(self):
    eager_calls.forget()
    policy.forget()

  @parameterized.product(
    notation=("mb2_id9x10x11_ic6oc8_k3s1d1_ndhwc_f64", "mb1_id12_ic4oc3_k3s1d1_ndhwc_f64_valid"),
    graph=(False, True),
  )
  def test_is_right_and_so_are_its_gradients(self, notation, graph):
    case = Case.parse(notation)
    problem = validation.validate(BACKPROP_INPUT, **case.arguments())[0]
    here = Environment.here(problem.dtype)
    self.assertTrue(policy.choose(BACKPROP_INPUT, problem, here).compiled)
    sources = testing.tensors(case)
    upstream = testing.random_array(case, case.input_sizes, seed=1)

    def call(filter, out_backprop):
      with tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        result = tf_conv3d_grad.Conv3DBackpropInputV2(
          case.input_sizes, filter, out_backprop, **case.attributes()
        )
      return result, *tape.gradient(result, (filter, out_backprop), upstream)

    call = tf.function(call, autograph=False) if graph else call
    result, in_filter, in_out_backprop = call(*sources)
    arguments = case.arguments()
    self.assert_right(case, arguments, result)
    self.assert_accurate(
      case,
      in_filter,
      oracle.conv3d_backprop_filter(case, upstream, arguments["out_backprop"]),
    )
    self.assert_accurate(
      case, in_out_backprop, oracle.conv3d(case, upstream, arguments["filter"])
    )

  def test_vectorized_it_is_the_kernel(self):  # compiled it would have to be in one piece
    case = Case.parse("mb2_id9x10x11_ic6oc8_k3s1d1_ndhwc_f64")
    filter, out_backprop = testing.tensors(case)

    @tf.function(autograph=False)
    def several(gradients):
      return tf.vectorized_map(
        lambda gradient: tf_conv3d_grad.Conv3DBackpropInputV2(
          case.input_sizes, filter, gradient, **case.attributes()
        ),
        gradients,
      )

    gradients = tf.stack([out_backprop, out_backprop])
    self.assertFalse(testing.is_compiled(several.get_concrete_function(gradients)))
    for result in several(gradients):
      self.assert_right(case, case.arguments(), result)


class EagerTest(testing.OpTestCase):
  """Of eager calls, TensorFlow looks for the trace that fits the first one only."""

  @parameterized.parameters(
    ("mb2_id5x4x6_ic4oc8g2_k3s1d1_ndhwc_f32_fwd", True),
    ("mb1_id4x5x6_ic4oc6_k3s2d1_ncdhw_f16", True),
    ("mb1_id6x5x4_ic3oc4_k3s1d2_ndhwc_f64_bwd_w", True),
    ("mb3_id4x5x3_ic3oc5_k2x3x3s1d1_ndhwc_f64", False),  # may be a graph of samples
  )
  def test_later_ones_do_not_pass_through_tf_function(self, notation, mode):
    case = Case.parse(notation)
    op = getattr(tf_conv3d_grad, case.direction.op)

    def call(seed):
      arguments = case.arguments(seed)
      tensors = {name: tf.constant(arguments[name]) for name in case.direction.operands}
      return arguments, op(**{**arguments, **tensors})

    with tf_conv3d_grad.jit_compile(mode):
      call(0)
      function = type(tf.function(lambda: None))
      with mock.patch.object(function, "__call__", side_effect=AssertionError("was called")):
        for seed in (1, 2):
          self.assert_right(case, *call(seed))

  def test_without_a_private_name_of_tensorflows_they_are_right(self):
    function = tf.function(lambda x, y: x - y, jit_compile=True)
    concrete = mock.Mock(spec=["captured_inputs"], side_effect=lambda x, y: x - y)
    with mock.patch.object(type(function), "get_concrete_function", return_value=concrete):
      call = private.of_one_trace(function, tf.ones([2]), tf.ones([2]))
    self.assertEqual(call(tf.constant([5.0]), tf.constant([3.0])).numpy(), [2])

  def test_what_a_trace_captures_is_passed_on(self):
    captured = tf.constant([4.0])
    call = private.of_one_trace(tf.function(lambda x: x * captured), tf.ones([1]))
    self.assertEqual(call(tf.constant([5.0])).numpy(), [20])

  def test_a_debugger_that_comes_later_sees_the_operations(self):
    case = Case.parse("mb2_id5x4x6_ic4oc8_k3s1d1_ndhwc_f32")
    arguments = case.arguments()
    with tf_conv3d_grad.jit_compile(True):
      self.assert_right(case, arguments, tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))
      tf.config.run_functions_eagerly(True)
      self.addCleanup(tf.config.run_functions_eagerly, False)
      with mock.patch.object(compiled.Compiled, "__call__", side_effect=AssertionError("compiled")):
        self.assert_right(case, arguments, tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))


class FailedCompilationTest(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "0"}))
    self.forget()
    self.addCleanup(self.forget)

  def forget(self):
    eager_calls.forget()
    compiled.forget()

  def break_for_xla(self, lowering, name):
    broken = not_for_xla(getattr(lowering, name))
    self.enter_context(mock.patch.object(lowering, name, broken))

  def call(self, case, arguments, mode=True):
    with tf_conv3d_grad.jit_compile(mode):
      return tf_conv3d_grad.Conv3DBackpropInputV2(**arguments)

  @parameterized.parameters(
    "mb1_id4x5x6_ic2oc3_k3s1d1_ndhwc_f32",
    "mb1_id4x5x6_ic4oc6g2_k3s2d1_ncdhw_f16",
    "mb1_id6x7x8_ic2oc3_k3s1d2_ndhwc_f64_valid",
  )
  def test_runs_uncompiled_with_one_warning_that_names_the_case(self, notation):
    case = Case.parse(notation)
    arguments = case.arguments()
    self.break_for_xla(OverlapAdd, "backprop_input")
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      for _ in range(3):
        self.assert_right(case, arguments, self.call(case, arguments))
        tensors = {name: tf.constant(arguments[name]) for name in ("filter", "out_backprop")}
        self.assert_right(case, arguments, self.call(case, {**arguments, **tensors}))
    self.assertLen(caught, 1)
    message = str(caught[0].message)
    self.assertIn("XLA cannot compile", message)
    for value in (case.dtype, case.data_format, case.padding, f"batch={case.batch}"):
      self.assertIn(value, message)
    for length, taps, stride in zip(case.input_size, case.taps, case.strides):
      self.assertIn(f"input={length}", message)
      self.assertIn(f"taps={taps}, stride={stride}", message)

  def test_what_was_planned_for_the_inside_of_xla_runs_outside_of_it(self):
    # Autotuning compiles, by itself, what a larger compiled function would have in it.
    case = Case.parse("mb1_id4x5x6_ic2oc3_k3s1d1_ndhwc_f32")
    self.break_for_xla(OverlapAdd, "backprop_input")
    problem, filter, out_backprop = validation.validate(BACKPROP_INPUT, **case.arguments())
    inside = dataclasses.replace(Environment.here(problem.dtype), in_xla=True)
    offers = policy.candidates(BACKPROP_INPUT, problem, inside)
    offer = next(offer for offer in offers if offer.lowering.name == "overlap_add")
    chosen = []
    choose = policy.choose

    def watched(function, problem, environment):
      chosen.append(environment)
      return choose(function, problem, environment)

    compute = execute.by_offer(BACKPROP_INPUT, problem, inside, offer._replace(compiled=True))
    with mock.patch.object(policy, "choose", watched), self.assertWarns(RuntimeWarning):
      self.assert_right(case, case.arguments(), compute(filter, out_backprop))
    self.assertEqual([(each.in_xla, each.mode) for each in chosen], [(False, False)])

  def test_the_derivatives_run_uncompiled_too(self):
    case = Case.parse("mb1_id4x5x6_ic2oc3_k3s1d1_ndhwc_f32")
    arguments = case.arguments()
    sources = [tf.Variable(arguments.pop(name)) for name in ("filter", "out_backprop")]

    def gradients():
      with tf_conv3d_grad.jit_compile(True):
        with tf.GradientTape() as tape:
          result = tf_conv3d_grad.Conv3DBackpropInputV2(
            filter=sources[0], out_backprop=sources[1], **arguments
          )
        return tape.gradient(result, sources)

    expected = gradients()
    self.forget()
    self.break_for_xla(OverlapAdd, "backprop_input")
    self.break_for_xla(Im2col, "conv3d")
    self.break_for_xla(Im2col, "backprop_filter")
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      for gradient, exact in zip(gradients(), expected):
        self.assert_accurate(
          case, tf.reshape(gradient, exact.shape), exact.numpy().astype("float64")
        )
    self.assertLen(caught, 3)

  @parameterized.parameters(*FAILURES)
  def test_whatever_the_failure_is_called(self, failure):
    def fails(*_):
      raise failure(None, None, "no code for this")

    with self.assertWarnsRegex(RuntimeWarning, "a key.*no code for this"):
      function = compiled.function("a key", fails, lambda x: x + 1)
      self.assertEqual(function(tf.constant(1)), 2)

  def test_a_long_reason_is_cut(self):
    def fails(*_):
      raise tf.errors.InternalError(None, None, "word " * 1000)

    with self.assertWarns(RuntimeWarning) as caught:
      compiled.function("a long key", fails, lambda x: x)(tf.constant(1))
    message = str(caught.warning)
    self.assertTrue(message.endswith("..."), message)
    self.assertLess(len(message), 700)

  def test_what_is_no_failure_to_compile_is_raised(self):
    for failure in (tf.errors.ResourceExhaustedError, tf.errors.CancelledError):

      def fails(*_, failure=failure):
        raise failure(None, None, "not now")

      function = compiled.function(failure.__name__, fails, lambda x: x + 1)
      with self.assertRaisesRegex(failure, "not now"):
        function(tf.constant(1))

  def test_operands_that_are_at_fault_raise_and_leave_the_function_compiled(self):
    function = compiled.function("add", lambda x: x + tf.ones([2]), lambda x: x + tf.ones([2]))
    with self.assertRaises((ValueError, tf.errors.InvalidArgumentError)):
      function(tf.ones([3]))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self.assertAllEqual(function(tf.ones([2])), [2, 2])

  def assertAllEqual(self, result, expected):
    self.assertEqual(result.numpy().tolist(), expected)


if __name__ == "__main__":
  absltest.main()
