import importlib.util
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tests.arrivals import arrivals
from tf_conv3d_grad.tensorflow import private

BATCH, STEPS = 2, 3


class LayersTest(parameterized.TestCase):
  """Every layer gets to the op, when called, trained and used for prediction."""

  def test_conv3d_transpose_when_called(self):
    layer = keras.layers.Conv3DTranspose(3, 3, strides=2)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      layer(tf.ones([1, 4, 4, 4, 2]))
    self.assertEqual(arrived, ["conv3d_backprop_input_v2"])

  @parameterized.product(
    arrival=(
      (keras.layers.Conv3DTranspose, "conv3d_backprop_input_v2"),
      (keras.layers.Conv3D, "conv3d"),
      (keras.layers.ConvLSTM3D, "conv3d"),
    ),
    options=(dict(jit_compile=True), dict(jit_compile=False), dict(run_eagerly=True)),
  )
  def test_when_trained_and_predicting(self, arrival, options):
    layer, name = arrival
    shape = [BATCH, 2, 5, 5, 5, 2] if layer is keras.layers.ConvLSTM3D else [BATCH, 5, 5, 5, 2]
    model = keras.Sequential([keras.layers.Input(shape[1:]), layer(2, 3, padding="same")])
    model.compile("sgd", "mse", **options)
    target = np.zeros([BATCH, 5, 5, 5, 2])
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      model.fit(np.ones(shape), target, verbose=0)
      self.assertIn(name, arrived)
      del arrived[:]
      model.predict(np.ones(shape), verbose=0)
      self.assertIn(name, arrived)


class FitTest(parameterized.TestCase):
  """A network learns what it learns with TensorFlow's own op."""

  @parameterized.named_parameters(
    ("compiled", dict(jit_compile=True)),
    ("not_compiled", dict(jit_compile=False)),
    ("auto", dict(jit_compile="auto")),
    ("eagerly", dict(run_eagerly=True)),
  )
  def test_the_losses_are_the_same(self, options):
    expected = train(network("float32"), **options)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      losses = train(network("float32"), **options)
    self.assertNotEmpty(arrived)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    self.assertLess(losses[-1], losses[0])

  @parameterized.parameters("mixed_float16", "mixed_bfloat16")
  def test_mixed_precision(self, policy):
    expected = train(network("float32"))
    self.addCleanup(keras.config.set_dtype_policy, keras.config.dtype_policy())
    keras.config.set_dtype_policy(policy)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      losses = train(network(None))
    self.assertNotEmpty(arrived)
    np.testing.assert_allclose(losses, expected, rtol=3e-2)


class RefusedModelsTest(parameterized.TestCase):
  """Channels-first and dilated models that TensorFlow takes only as a whole, through XLA."""

  @parameterized.product(
    dtype=("float16", "float32", "float64"), data_format=("channels_first", "channels_last")
  )
  def test_train_and_predict(self, dtype, data_format):
    if dtype == "float64" or not private.onednn_enabled():
      with self.assertRaises(tf.errors.OpError):
        train(upsampling(dtype, data_format), jit_compile=False)
    expected = upsampling(dtype, data_format)
    expected_losses = train(expected, jit_compile=True)
    model = upsampling(dtype, data_format)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      losses = train(model, jit_compile=False)
      self.assertIn("conv3d_backprop_input_v2", arrived)
      prediction = model.predict(inputs_for(model), verbose=0)
    tolerance = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-5}[dtype]
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)
    np.testing.assert_allclose(
      prediction.astype("float64"),
      expected.predict(inputs_for(expected), verbose=0).astype("float64"),
      atol=tolerance,
    )

  @parameterized.parameters(2, 0, 3)
  @testing.sample(1)
  def test_without_onednn(self, number):
    test = f"RefusedModelsTest.test_train_and_predict{number}"
    result = testing.run_child(["-m", "tests.keras_test", test], TF_ENABLE_ONEDNN_OPTS="0")
    self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


class SavedModelTest(absltest.TestCase):
  """What was traced with the patch on runs where this package is not."""

  def test_an_exported_and_a_saved_model_run_without_the_package(self):
    model = upsampling("float64", "channels_first")
    inputs = inputs_for(model)
    with tempfile.TemporaryDirectory() as folder:
      np.save(os.path.join(folder, "inputs.npy"), inputs)
      with tf_conv3d_grad.patch_tensorflow():
        expected = model.predict(inputs, verbose=0)
        tf.saved_model.save(model, os.path.join(folder, "saved"))
        model.export(os.path.join(folder, "exported"), verbose=False)
      result = testing.run_child(["-c", _LOAD_AND_RUN, folder])
      self.assertEqual(result.returncode, 0, result.stderr)
      for name in ("saved", "exported"):
        output = np.load(os.path.join(folder, f"{name}.npy"))
        np.testing.assert_allclose(output, expected, rtol=1e-12)
      gradient = np.load(os.path.join(folder, "gradient.npy"))
    with tf_conv3d_grad.patch_tensorflow(), tf.GradientTape() as tape:
      tape.watch(variable := tf.constant(inputs))
      output = model(variable)
    np.testing.assert_allclose(gradient, tape.gradient(output, variable), rtol=1e-10)


_LOAD_AND_RUN = """
import os, sys
sys.modules["tf_conv3d_grad"] = None  # importing it is an ImportError from here on
import numpy as np
import tensorflow as tf

folder = sys.argv[1]
inputs = tf.constant(np.load(os.path.join(folder, "inputs.npy")))
saved = tf.saved_model.load(os.path.join(folder, "saved"))
np.save(os.path.join(folder, "saved.npy"), saved.signatures["serving_default"](inputs)["output_0"])
exported = tf.saved_model.load(os.path.join(folder, "exported"))
np.save(os.path.join(folder, "exported.npy"), exported.serve(inputs))
with tf.GradientTape() as tape:
  tape.watch(inputs)
  output = exported.serve(inputs)
np.save(os.path.join(folder, "gradient.npy"), tape.gradient(output, inputs))
assert not any(name.startswith("tf_conv3d_grad.") for name in sys.modules)
"""


class KerasOwnTestsTest(parameterized.TestCase):
  """Keras's own tests of the layers, which are in its wheel, end as they do without the patch."""

  MODULES = (
    "keras.src.layers.convolutional.conv_transpose_test",
    "keras.src.layers.convolutional.conv_test",
    "keras.src.layers.rnn.conv_lstm3d_test",
  )

  @testing.sample(0)
  def test_pass(self):
    if any(importlib.util.find_spec(module) is None for module in self.MODULES):
      self.skipTest(f"the wheel of Keras {keras.__version__} is without its tests")
    patched = testing.run_child(["-c", _RUN_KERAS_TESTS, "patched", *self.MODULES])
    failed = _failed(patched)
    if failed:
      # Not every Keras passes its own tests with every TensorFlow.
      stock = _failed(testing.run_child(["-c", _RUN_KERAS_TESTS, "stock", *failed]))
      self.assertEqual(failed, stock, patched.stdout)


def _failed(child):
  """The tests that failed in a child process that ran some of Keras's."""
  (summary,) = [line for line in child.stdout.splitlines() if line.startswith("SUMMARY")]
  arrived, passed, *failed = summary.split()[1:]
  if not (int(passed) + len(failed) and (int(arrived) or "stock" in child.args)):
    raise AssertionError(f"no test got to the op: {child.stdout}{child.stderr}")
  return failed


_RUN_KERAS_TESTS = """
import contextlib, importlib, sys
import pytest
import tf_conv3d_grad
from tests.arrivals import arrivals

class Outcomes:
  failed, passed = [], 0
  def pytest_runtest_logreport(self, report):
    Outcomes.passed += report.when == "call" and report.passed
    if report.failed:
      Outcomes.failed.append(report.nodeid)

mode, *tests = sys.argv[1:]
paths = ["/" + test if mode == "stock" else importlib.util.find_spec(test).origin for test in tests]
with arrivals() as arrived, contextlib.ExitStack() as stack:
  if mode == "patched":
    stack.enter_context(tf_conv3d_grad.patch_tensorflow())
  options = ["-q", "-c", "/dev/null", "--rootdir=/", "-p", "no:cacheprovider", "-p", "no:xdist"]
  options += ["-k", "not 1d and not 2d"]  # the patch leaves these alone
  pytest.main([*options, *paths], plugins=[Outcomes()])
print("SUMMARY", len(arrived), Outcomes.passed, *Outcomes.failed)
"""


def network(dtype):
  """A network that halves a volume's lengths and doubles them again."""
  keras.utils.set_random_seed(0)
  layers = keras.layers
  return keras.Sequential([
    layers.Input([6, 6, 6, 1]),
    layers.Conv3D(2, 3, padding="same", activation="relu", dtype=dtype),
    layers.Conv3D(3, 3, strides=2, padding="same", activation="relu", dtype=dtype),
    layers.Conv3DTranspose(1, 3, strides=2, padding="same", dtype=dtype),
  ])


def upsampling(dtype, data_format):
  """A network that doubles a volume's lengths, after a dilated layer."""
  keras.utils.set_random_seed(0)
  options = dict(padding="same", data_format=data_format, dtype=dtype)
  # No width is a number of channels: Keras would add the bias along it, channels first.
  shape = (2, 4, 5, 6) if data_format == "channels_first" else (4, 5, 6, 2)
  return keras.Sequential([
    keras.layers.Input(shape, dtype=dtype),
    keras.layers.Conv3DTranspose(3, 3, dilation_rate=2, **options),
    keras.layers.Conv3DTranspose(1, 3, strides=2, **options),
  ])


def inputs_for(model):
  rng = np.random.default_rng(1)
  # Keras hands data of any precision over as float32.
  inputs = rng.uniform(-1, 1, [BATCH, *model.input_shape[1:]]).astype("float32")
  return inputs.astype(model.inputs[0].dtype)


def train(model, **options):
  """Trains a model for a few steps and returns the losses."""
  inputs = inputs_for(model)
  targets = np.random.default_rng(2).uniform(-1, 1, [BATCH, *model.output_shape[1:]])
  model.compile(keras.optimizers.SGD(0.1), "mse", **options)
  return model.fit(inputs, targets, epochs=STEPS, batch_size=BATCH, verbose=0).history["loss"]


if __name__ == "__main__":
  absltest.main()
