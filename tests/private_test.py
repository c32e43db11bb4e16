import contextlib
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import threading
import warnings
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import private

# Where each private name is, and what that leaves in the module that takes them.
PRIVATE = {
  "tensorflow.python.ops.control_flow_util": "_graph_in_xla",
  "tensorflow.python.eager.record": "_could_possibly_record",
  "tensorflow.python.eager.context": "_context",
  "tensorflow.python.ops.gen_nn_ops": "_op_modules",
  "tensorflow.python.framework.ops": "_gradients",
  "tensorflow.python.eager.forwardprop": "_clear_jvp_functions",
  "tensorflow.compiler.tf2xla.ops.gen_xla_ops": "_update_slice",
  "tensorflow.core.protobuf.saved_model_pb2": "_SavedModel",
  "tensorflow.python.saved_model.fingerprinting_utils": "_fingerprint",
}
ABSENT = {"_op_modules": [], "_gradients": {}, "stop_recording": contextlib.nullcontext}
CASES = tuple(
  map(Case.parse, ("mb1_id4x5x6_ic2oc3_k3s2d1_ndhwc_f32", "mb1_id4x5x6_ic2oc3_k3s1d2_ncdhw_f64"))
)


class MissingNamesTest(testing.OpTestCase):
  def test_no_other_file_takes_private_names(self):
    package = pathlib.Path(tf_conv3d_grad.__file__).parent
    takes = [
      path.relative_to(package).as_posix()
      for path in package.rglob("*.py")
      if re.search(r"^\s*(from|import) tensorflow\.", path.read_text(), re.MULTILINE)
    ]
    self.assertCountEqual(takes, ["tensorflow/private.py", "tensorflow/xla_onednn.py"])

  def test_with_this_tensorflow_none_is_missing(self):
    _, warned = load()
    self.assertEmpty(warned)

  @parameterized.parameters(*PRIVATE.items())
  def test_one_that_is_missing_is_warned_of_once(self, module, attribute):
    loaded, warned = load(without=module)
    self.assertLen(warned, 1)
    self.assertIn(tf.__version__, str(warned[0].message))
    self.assertEqual(getattr(loaded, attribute) or None, None)

  @parameterized.product(
    case=CASES, attribute=(*PRIVATE.values(), "stop_recording", "_record_operation")
  )
  def test_the_op_and_its_patch_work_without_it(self, case, attribute):
    arguments = case.arguments(0)
    filter, out_backprop = testing.tensors(case)
    attributes = {
      name: value for name, value in arguments.items() if name not in ("filter", "out_backprop")
    }

    def call(filter, out_backprop):
      return tf_conv3d_grad.Conv3DBackpropInputV2(
        filter=filter, out_backprop=out_backprop, **attributes
      )

    with without(attribute):
      for function in (call, tf.function(call), tf.function(call, jit_compile=True)):
        self.assert_right(case, arguments, function(filter, out_backprop))
      with tf.GradientTape() as tape, tf_conv3d_grad.patch_tensorflow():
        tape.watch(filter)
        result = tf.raw_ops.Conv3DBackpropInputV2(
          filter=filter, out_backprop=out_backprop, **attributes
        )
      self.assert_right(case, arguments, result)
      self.assertEqual(tape.gradient(result, filter).shape, filter.shape)
    self.assertIs(tf.raw_ops.Conv3DBackpropInputV2, private.raw_backprop_input)


ASKS = """
import tensorflow as tf
if {v1}:
  tf.compat.v1.disable_v2_behavior()
from tf_conv3d_grad.tensorflow import private
with tf.Graph().as_default():
  in_graph = private.onednn_enabled.__wrapped__()
with tf.init_scope():
  lifted = private.onednn_enabled.__wrapped__()
print(in_graph, lifted, *map(private.onednn_enabled, (tf.float32, tf.bfloat16)))
"""


class OneDnnTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_switched_off_is_seen_from_everywhere(self, v1):
    run = subprocess.run(
      [sys.executable, "-c", ASKS.format(v1=v1)],
      env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertEqual(run.stdout.split(), ["False"] * 4, run.stderr)

  @parameterized.parameters("float32", "bfloat16")
  def test_is_the_same_in_a_graph_as_outside(self, dtype):
    dtype = tf.as_dtype(dtype)
    enabled = private.onednn_enabled(dtype)
    with tf.Graph().as_default():
      self.assertEqual(private.onednn_enabled.__wrapped__(dtype), enabled)

  @parameterized.parameters(private.onednn_enabled, private.xla_compiles)
  def test_what_may_befall_any_call_is_no_answer(self, ask):
    ask.cache_clear()
    self.addCleanup(ask.cache_clear)
    error = tf.errors.ResourceExhaustedError(None, None, "no memory")
    with mock.patch.object(private, "raw_backprop_input", side_effect=error):
      with mock.patch.object(tf, "function", side_effect=error):
        with self.assertRaises(tf.errors.ResourceExhaustedError):
          ask()
    expected = ask.__wrapped__()
    self.assertEqual(ask(), expected)


def without_threads():
  """What Python 3.12 does while it ends, and any where the system has no more."""
  refusal = RuntimeError("can't create new thread at interpreter shutdown")
  return mock.patch.object(threading.Thread, "start", side_effect=refusal)


@contextlib.contextmanager
def in_a_graph():
  with tf.Graph().as_default():
    yield


class OutsideTest(parameterized.TestCase):
  """What is asked of TensorFlow wherever a call is."""

  def facts(self):
    # Not what was asked before.
    return private.onednn_enabled.__wrapped__(), private.xla_compiles.__wrapped__()

  def traced(self):
    """Asks within a `tf.function` while that is traced."""
    found = []
    tf.function(lambda: found.append(self.facts()), autograph=False)()
    return found[0]

  def test_it_is_called_eagerly_from_within_a_graph(self):
    eager = []
    with tf.Graph().as_default(), tf.device("/GPU:3"):
      private.outside(lambda: eager.append((tf.executing_eagerly(), tf.constant(1).device)))
    (found,) = eager
    self.assertEqual(found, (True, tf.constant(1).device))

  def test_neither_device_nor_tape_of_eager_code_matter(self):
    expected = self.facts()
    with tf.GradientTape() as tape, tf.device("/job:elsewhere/task:7"):
      self.assertEqual(self.facts(), expected)
      tape.watch(one := private.outside(lambda: tf.constant(1.0)))
      two = private.outside(lambda: 2 * one)
    self.assertIsNone(tape.gradient(two, one))

  @parameterized.parameters(contextlib.nullcontext, in_a_graph)
  def test_its_exceptions_are_the_callers(self, place):
    class OwnError(BaseException):
      pass

    def fail():
      raise OwnError

    with place(), self.assertRaises(OwnError):
      private.outside(fail)

  def test_without_threads_the_answers_are_the_same(self):
    expected = self.facts()
    with without_threads():
      self.assertEqual(self.facts(), expected)
      self.assertEqual(self.traced(), expected)
      with tf.Graph().as_default():
        self.assertEqual(private.onednn_enabled.__wrapped__(), expected[0])

  def test_so_they_are_without_onednn(self):
    test = "OutsideTest.test_without_threads_the_answers_are_the_same"
    child = testing.run_child(["-m", "tests.private_test", test], TF_ENABLE_ONEDNN_OPTS="0")
    self.assertEqual(child.returncode, 0, child.stdout + child.stderr)


def load(without=None):
  """Loads the module anew, with a module of TensorFlow's missing; returns it and its warnings."""
  spec = importlib.util.spec_from_file_location("loaded_anew", private.__file__)
  loaded = importlib.util.module_from_spec(spec)
  missing = {} if without is None else {without: None}
  with mock.patch.dict(sys.modules, missing), warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    # `from package import name` finds a module that was imported before on its package.
    with hidden(without):
      spec.loader.exec_module(loaded)
  return loaded, warned


@contextlib.contextmanager
def hidden(module):
  """Takes a module off its package."""
  if module is None:
    yield
    return
  package, _, name = module.rpartition(".")
  value = getattr(sys.modules[package], name)
  delattr(sys.modules[package], name)
  try:
    yield
  finally:
    setattr(sys.modules[package], name, value)


def without(attribute):
  return mock.patch.object(private, attribute, ABSENT.get(attribute))


class XlaTest(absltest.TestCase):
  def test_this_build_compiles(self):
    self.assertTrue(private.xla_compiles())

  def test_from_within_a_graph_too(self):
    private.xla_compiles.cache_clear()
    with tf.Graph().as_default():
      self.assertTrue(private.xla_compiles())


if __name__ == "__main__":
  absltest.main()
