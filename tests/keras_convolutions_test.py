import contextlib
import os
import sys
import tempfile
import warnings
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from keras.src.backend.tensorflow import nn, numpy  # what is replaced has no public name

import tf_conv3d_grad
from tests import layers as shared
from tests import testing
from tf_conv3d_grad.patching import keras_convolutions

layers = keras.layers
FORMATS = shared.FORMATS
# Layers whose input has 4 channels, and their options besides the data format.
LAYERS = {
  "plain": (layers.Conv3D, dict()),
  "strided": (layers.Conv3D, dict(strides=2, padding="same")),
  "dilated": (layers.Conv3D, dict(dilation_rate=2, padding="same")),
  "dilated_apart": (layers.Conv3D, dict(dilation_rate=(1, 2, 1))),
  "grouped": (layers.Conv3D, dict(groups=2)),
  "depthwise": (layers.Conv3D, dict(groups=4, padding="same")),
  "grouped_dilated": (layers.Conv3D, dict(groups=2, dilation_rate=2)),
  "transposed": (layers.Conv3DTranspose, dict(strides=2)),
  "transposed_padded": (layers.Conv3DTranspose, dict(strides=3, output_padding=1, padding="same")),
  "transposed_dilated": (layers.Conv3DTranspose, dict(dilation_rate=2, padding="same")),
  "recurrent": (layers.ConvLSTM3D, dict(padding="same")),
  "recurrent_strided": (layers.ConvLSTM3D, dict(strides=2, return_sequences=True)),
}


def layer_and_input(name, data_format):
  kind, options = LAYERS[name]
  return shared.layer_and_input(keras, kind, data_format, **options)


class LayersTest(parameterized.TestCase):
  @parameterized.product(name=tuple(LAYERS), data_format=FORMATS)
  def test_the_result_is_that_without_the_patch(self, name, data_format):
    layer, inputs = layer_and_input(name, data_format)
    layer.build(inputs.shape)
    # Compiled as a whole TensorFlow takes what its kernels refuse.
    expected = tf.function(layer, jit_compile=True)(inputs)
    with tf_conv3d_grad.patch_tensorflow():
      for function in (layer, tf.function(layer), tf.function(layer, jit_compile=True)):
        np.testing.assert_allclose(function(inputs), expected, atol=1e-5)

  @parameterized.parameters(*shared.in_turn(LAYERS))
  def test_it_trains_as_without_the_patch(self, name, data_format, mode):
    expected = shared.train(keras, *layer_and_input(name, data_format), jit_compile=True)
    with tf_conv3d_grad.patch_tensorflow():
      losses, prediction = shared.train(keras, *layer_and_input(name, data_format), **mode)
    np.testing.assert_allclose(losses, expected[0], rtol=1e-4)
    np.testing.assert_allclose(prediction, expected[1], atol=1e-4)
    self.assertLess(losses[-1], losses[0])

  @parameterized.product(name=tuple(LAYERS), data_format=FORMATS)
  def test_nothing_is_compiled_that_nobody_asked_for(self, name, data_format):
    layer, inputs = layer_and_input(name, data_format)
    layer.build(inputs.shape)
    with tf_conv3d_grad.patch_tensorflow():
      self.assertFalse(testing.is_compiled(shared.traced(layer, inputs)))

  @parameterized.parameters(*FORMATS)
  def test_a_dilated_layer_is_one_operation(self, data_format):
    layer, input = layer_and_input("dilated", data_format)
    with tf_conv3d_grad.patch_tensorflow():
      traced = tf.function(layer).get_concrete_function(input)
    kinds = [each.type for each in traced.graph.get_operations()]
    self.assertNotIn("SpaceToBatchND", kinds)
    self.assertNotIn("BatchToSpaceND", kinds)

  def test_without_the_patch_keras_compiles_by_itself(self):
    for name, data_format in (("plain", "channels_first"), ("grouped", "channels_last")):
      layer, inputs = layer_and_input(name, data_format)
      layer.build(inputs.shape)
      self.assertTrue(testing.is_compiled(shared.traced(layer, inputs)))

  @parameterized.parameters(*FORMATS)
  def test_with_an_unknown_batch_and_unknown_lengths(self, data_format):
    layer, inputs = layer_and_input("grouped_dilated", data_format)
    layer.build(inputs.shape)
    shape = [None] * 5
    shape[1 if data_format == "channels_first" else 4] = 4
    with tf_conv3d_grad.patch_tensorflow():
      result = tf.function(layer, input_signature=[tf.TensorSpec(shape)])(inputs)
      np.testing.assert_allclose(result, layer(inputs), atol=1e-5)

  @parameterized.product(
    policy=("float16", "float64", "mixed_bfloat16", "mixed_float16"), data_format=FORMATS
  )
  def test_in_other_dtypes(self, policy, data_format):
    self.addCleanup(keras.config.set_dtype_policy, keras.config.dtype_policy())
    keras.config.set_dtype_policy(policy)
    expected, _ = shared.train(keras, *layer_and_input("dilated", data_format), jit_compile=True)
    with tf_conv3d_grad.patch_tensorflow():
      losses, _ = shared.train(keras, *layer_and_input("dilated", data_format), jit_compile=False)
    np.testing.assert_allclose(losses, expected, rtol=1e-5 if policy == "float64" else 5e-2)


class OpsTest(parameterized.TestCase):
  """`keras.ops`, where a layer's checks have not been made."""

  @parameterized.product(
    data_format=FORMATS,
    options=(dict(), dict(strides=2, padding="same"), dict(dilation_rate=[2, 1, 1]),
             dict(strides=(1, 2, 1), padding="SAME")),
    channels=(2, 4),
  )  # fmt: skip
  def test_conv(self, data_format, options, channels):
    shape = [2, 4, 7, 6, 5] if data_format == "channels_first" else [2, 7, 6, 5, 4]
    inputs, kernel = tf.random.normal(shape), tf.random.normal([3, 2, 2, channels, 4])
    options = dict(data_format=data_format, **options)
    function = tf.function(lambda x, w: keras.ops.conv(x, w, **options), jit_compile=True)
    expected = function(inputs, kernel)
    with tf_conv3d_grad.patch_tensorflow():
      result = keras.ops.conv(inputs, kernel, **options)
    np.testing.assert_allclose(result, expected, atol=1e-4)

  @parameterized.product(
    data_format=FORMATS,
    options=(dict(strides=2), dict(strides=3, output_padding=2, padding="same"),
             dict(dilation_rate=2)),
  )  # fmt: skip
  def test_conv_transpose(self, data_format, options):
    shape = [2, 4, 3, 4, 5] if data_format == "channels_first" else [2, 3, 4, 5, 4]
    inputs, kernel = tf.random.normal(shape), tf.random.normal([3, 3, 3, 2, 4])
    options = dict(data_format=data_format, **options)
    function = tf.function(lambda x, w: keras.ops.conv_transpose(x, w, **options), jit_compile=True)
    expected = function(inputs, kernel)
    with tf_conv3d_grad.patch_tensorflow():
      result = keras.ops.conv_transpose(inputs, kernel, **options)
    np.testing.assert_allclose(result, expected, atol=1e-4)

  @parameterized.parameters(*FORMATS)
  def test_the_data_format_may_be_keras_s_own(self, data_format):
    self.addCleanup(keras.config.set_image_data_format, keras.config.image_data_format())
    keras.config.set_image_data_format(data_format)
    inputs, kernel = tf.random.normal([2, 4, 4, 4, 4]), tf.random.normal([3, 2, 2, 2, 4])
    with tf_conv3d_grad.patch_tensorflow():
      np.testing.assert_array_equal(
        keras.ops.conv(inputs, kernel), keras.ops.conv(inputs, kernel, data_format=data_format)
      )

  def test_other_ranks_are_keras_s(self):
    inputs, kernel = tf.random.normal([2, 5, 5, 4]), tf.random.normal([3, 3, 2, 4])
    with tf_conv3d_grad.patch_tensorflow():
      with mock.patch.object(tf.nn, "convolution", wraps=tf.nn.convolution) as called:
        traced = shared.traced(keras.ops.conv, inputs, kernel)
      self.assertTrue(testing.is_compiled(traced))  # grouped
    called.assert_called_once()

  @parameterized.product(
    options=(dict(padding="twice"), dict(data_format="NDHWC"), dict(strides=[1, 1]),
             dict(strides=2, dilation_rate=2)),
    data_format=FORMATS,
  )  # fmt: skip
  def test_malformed_arguments_are_refused_as_before(self, options, data_format):
    options = dict(data_format=data_format) | options
    inputs, kernel = tf.ones([1, 4, 4, 4, 4]), tf.ones([2, 2, 2, 4, 4])
    refusals = (ValueError, tf.errors.InvalidArgumentError)  # graphs have the former
    with self.assertRaises(refusals):
      keras.ops.conv(inputs, kernel, **options)
    with tf_conv3d_grad.patch_tensorflow(), self.assertRaises(refusals):
      keras.ops.conv(inputs, kernel, **options)

  @parameterized.product(data_format=FORMATS, dilation_rate=(1, 2))
  def test_an_empty_result_is_what_it_is_to_keras(self, data_format, dilation_rate):
    # One cell less than the filter spans.
    inputs, kernel = tf.ones([1, *[2 * dilation_rate] * 3, 2]), tf.ones([3, 3, 3, 2, 2])
    if data_format == "channels_first":
      inputs = tf.transpose(inputs, [0, 4, 1, 2, 3])
    options = dict(data_format=data_format, dilation_rate=dilation_rate)

    def call():
      return keras.ops.conv(inputs, kernel, **options)

    refuses = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 13)
    with tf_conv3d_grad.patch_tensorflow():
      if refuses:
        with self.assertRaisesRegex(ValueError, "empty output"):
          call()
      else:
        self.assertEqual(tf.size(call()), 0)

  @parameterized.parameters(*FORMATS)
  def test_so_it_is_of_arrays(self, data_format):
    inputs, kernel = np.ones([1, 2, 2, 2, 2]), np.ones([3, 3, 3, 2, 2])
    outcomes = []
    with tf_conv3d_grad.patch_tensorflow():
      for convert in (np.asarray, tf.constant):
        try:
          result = keras.ops.conv(convert(inputs), convert(kernel), data_format=data_format)
          outcomes.append(result.shape)
        except ValueError as error:
          outcomes.append(str(error))
    self.assertEqual(*outcomes)


class BiasTest(parameterized.TestCase):
  """Layers with a result that is as wide as it has channels."""

  @parameterized.product(kind=(layers.Conv3D, layers.Conv3DTranspose), data_format=FORMATS)
  def test_it_is_added_along_the_channels(self, kind, data_format):
    layer = kind(5, 3, padding="same", data_format=data_format)
    inputs = tf.random.normal([2, 5, 3, 4, 5])
    with tf_conv3d_grad.patch_tensorflow():
      without = layer(inputs)
      bias = np.arange(5.0)
      layer.bias.assign(bias)
      along = (5, 1, 1, 1) if data_format == "channels_first" else (5,)
      expected = without + bias.reshape(along)
      model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
      for function in (layer, tf.function(layer), tf.function(layer, jit_compile=True)):
        np.testing.assert_allclose(function(inputs), expected, atol=1e-5)
      np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, atol=1e-5)

  def test_its_gradient_sums_over_the_rest(self):
    layer = layers.Conv3D(4, 1, data_format="channels_first")
    weights = tf.random.normal([2, 4, 3, 3, 4])
    with tf_conv3d_grad.patch_tensorflow(), tf.GradientTape() as tape:
      loss = tf.reduce_sum(layer(tf.ones([2, 2, 3, 3, 4])) * weights)
    gradient = tape.gradient(loss, layer.bias.value)
    np.testing.assert_allclose(gradient, np.sum(weights, axis=(0, 2, 3, 4)), rtol=1e-4, atol=1e-4)

  @parameterized.parameters(
    ([2, 3, 3, 3, 3], [1, 1, 1, 1, 3]),
    ([2, 3, 3, 3, 3], [1, 1, 3, 3, 3]),
    ([2, 3, 4, 5, 6], [1, 3, 1, 1, 1]),
    ([2, 3, 3, 3, 3], [3]),
    ([2, 3, 3, 3, 3], [2, 3, 3, 3, 3]),
    ([2, 1, 3, 4, 1], [1, 1, 1, 1, 1]),
    ([3, 3], [3]),
  )
  def test_other_sums_are_keras_s(self, first, second):
    one, other = tf.random.normal(first), tf.random.normal(second)
    with tf_conv3d_grad.patch_tensorflow():
      np.testing.assert_array_equal(keras.ops.add(one, other), one + other)
      np.testing.assert_array_equal(keras.ops.add(one, 1), one + 1)
      self.assertEqual(keras.ops.add(tf.ones(first, tf.float16), other).dtype, tf.float32)

  def test_with_an_unknown_shape(self):
    one, other = tf.random.normal([2, 3, 4, 4, 3]), tf.random.normal([1, 3, 1, 1, 1])
    with tf_conv3d_grad.patch_tensorflow():
      for shape in ([None, 3, None, None, None], [None] * 5):
        added = tf.function(keras.ops.add, input_signature=[tf.TensorSpec(shape)] * 2)
        np.testing.assert_array_equal(added(one, other), one + other)


class SavingTest(parameterized.TestCase):
  @parameterized.parameters(*FORMATS)
  def test_a_model_is_saved_and_exported(self, data_format):
    layer, inputs = layer_and_input("grouped_dilated", data_format)
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    with tempfile.TemporaryDirectory() as folder:
      with tf_conv3d_grad.patch_tensorflow():
        expected = model.predict(inputs, verbose=0)
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_allclose(loaded.predict(inputs, verbose=0), expected, atol=1e-6)
        model.export(os.path.join(folder, "exported"), verbose=False)
      unpatched = tf.function(keras.models.load_model(path), jit_compile=True)
      np.testing.assert_allclose(unpatched(inputs), expected, atol=1e-5)
      exported = tf.saved_model.load(os.path.join(folder, "exported"))
      np.testing.assert_allclose(exported.serve(inputs), expected, atol=1e-5)


  @parameterized.parameters(
    (layers.Conv3D, (6, 6, 6, 2)), (layers.Conv3D, (None, None, None, 2)),
    (layers.Conv3DTranspose, (6, 6, 6, 2)),
  )  # fmt: skip
  def test_tensorflow_lite_converts_what_it_converts_without_the_patch(self, kind, shape):
    model = keras.Sequential([keras.Input(shape), kind(3, 3, strides=2)])
    inputs = np.random.default_rng(0).normal(size=[1, 6, 6, 6, 2]).astype("float32")
    expected = model(inputs)
    with tf_conv3d_grad.patch_tensorflow(), tempfile.TemporaryDirectory() as folder:
      model.export(folder, verbose=False)
      converted = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # that there is a newer interpreter
      lite = tf.lite.Interpreter(model_content=converted)
    (given,), (returned,) = lite.get_input_details(), lite.get_output_details()
    lite.resize_tensor_input(given["index"], inputs.shape)
    lite.allocate_tensors()
    lite.set_tensor(given["index"], inputs)
    lite.invoke()
    np.testing.assert_allclose(lite.get_tensor(returned["index"]), expected, atol=1e-5)

  def test_exporting_warns_of_no_names(self):
    layer, inputs = layer_and_input("grouped", "channels_last")
    model = keras.Sequential([keras.Input(inputs.shape[1:]), layer])
    with tempfile.TemporaryDirectory() as folder, tf_conv3d_grad.patch_tensorflow():
      with self.assertLogs("tensorflow") as logs:
        tf.get_logger().warning("so that there is one")
        model.export(folder, verbose=False)
    self.assertNotIn("node name", " ".join(logs.output))


# In processes of their own. With TF_USE_LEGACY_KERAS TensorFlow does not import Keras by itself.
_BEFORE = """
import sys
import tf_conv3d_grad
tf_conv3d_grad.patch_tensorflow()
assert "keras" not in sys.modules
"""
_AFTER = """
import keras
from keras.src.backend.tensorflow import nn
is_ours = hasattr(nn.conv, "__wrapped__")
"""


class ImportsTest(parameterized.TestCase):
  def run_child(self, program, **environment):
    child = testing.run_child(["-c", program], **{"TF_USE_LEGACY_KERAS": "1", **environment})
    self.assertEqual(child.returncode, 0, child.stderr)
    self.assertNotIn("UserWarning: tf_conv3d_grad", child.stderr)

  def test_nothing_is_imported_and_keras_is_covered_when_it_is(self):
    self.run_child(_BEFORE + _AFTER + """
assert is_ours
import tensorflow as tf
layer = keras.layers.Conv3D(2, 1, data_format="channels_first")
assert layer(tf.ones([1, 1, 2, 2, 2])).shape[1] == 2
import inspect
conv = inspect.unwrap(nn.conv)
tf_conv3d_grad.unpatch_tensorflow()
assert nn.conv is conv
with tf_conv3d_grad.patch_tensorflow():
  assert nn.conv is not conv and inspect.unwrap(nn.conv) is conv
assert nn.conv is conv
""")

  def test_a_hook_does_nothing_once_the_patch_is_off(self):
    self.run_child(_BEFORE + "tf_conv3d_grad.unpatch_tensorflow()\n" + _AFTER + """
assert not is_ours
with tf_conv3d_grad.patch_tensorflow():
  assert hasattr(nn.conv, "__wrapped__")
""")

  def test_where_tensorflow_imports_keras_it_is_covered(self):
    self.run_child(
      "import tf_conv3d_grad\ntf_conv3d_grad.patch_tensorflow()" + _AFTER + "assert is_ours",
      TF_USE_LEGACY_KERAS=None,
    )

  def test_one_that_another_thread_is_importing_is_covered(self):
    self.run_child("""
import os, sys, tempfile, threading
folder = tempfile.mkdtemp()
os.makedirs(folder + "/tf_keras/src/layers/convolutional")
for part in ("src", "src/layers", "src/layers/convolutional"):
  open(f"{folder}/tf_keras/{part}/__init__.py", "w").close()
open(folder + "/tf_keras/src/layers/convolutional/base_conv.py", "w").write(
  "class Conv:\\n  def _jit_compiled_convolution_op(self, inputs, kernel): pass\\n"
)
open(folder + "/tf_keras/__init__.py", "w").write(
  "import sys\\nsys.started.set()\\nsys.go_on.wait(20)\\n"
  "from tf_keras.src.layers.convolutional import base_conv\\n"
)
import tf_conv3d_grad  # before: TensorFlow imports a tf_keras that it finds
for name in [name for name in sys.modules if name.partition(".")[0] == "tf_keras"]:
  del sys.modules[name]
sys.path.insert(0, folder)
sys.started, sys.go_on = threading.Event(), threading.Event()
thread = threading.Thread(target=__import__, args=("tf_keras",))
thread.start()
sys.started.wait()
threading.Timer(1, sys.go_on.set).start()
tf_conv3d_grad.patch_tensorflow()
thread.join()
operation = sys.modules["tf_keras"].base_conv.Conv._jit_compiled_convolution_op
assert "_tf_keras" in operation.__qualname__, operation
""")

  def test_another_backend_is_left_alone(self):
    before = nn.conv
    with mock.patch.object(keras.config, "backend", return_value="jax"):
      with tf_conv3d_grad.patch_tensorflow():
        self.assertIs(nn.conv, before)
    self.assertIs(nn.conv, before)

  @testing.sample(0)
  def test_both_orders_in_threads(self):
    self.run_child("""
import threading
import tf_conv3d_grad

def switch():
  for _ in range(50):
    with tf_conv3d_grad.patch_tensorflow():
      pass

threads = [threading.Thread(target=switch) for _ in range(3)]
for thread in threads:
  thread.start()
import keras
for thread in threads:
  thread.join()
from keras.src.backend.tensorflow import nn
assert not hasattr(nn.conv, "__wrapped__")
with tf_conv3d_grad.patch_tensorflow():
  assert hasattr(nn.conv, "__wrapped__")
""")


class MissingTest(absltest.TestCase):
  def test_a_keras_without_the_function_is_warned_of_and_left_as_it_is(self):
    conv = nn.conv
    del nn.conv
    try:
      with self.assertWarnsRegex(UserWarning, f"Keras {keras.__version__} has no .*nn.conv; it "):
        with tf_conv3d_grad.patch_tensorflow():
          self.assertFalse(hasattr(nn, "conv"))
    finally:
      nn.conv = conv

  def test_a_keras_without_the_addition_is_warned_of(self):
    with mock.patch.object(numpy, "add"):
      del numpy.add
      with self.assertWarnsRegex(UserWarning, f"Keras {keras.__version__} has no .*numpy.add; a "):
        with tf_conv3d_grad.patch_tensorflow():
          self.assertTrue(hasattr(nn.conv, "__wrapped__"))

  def test_without_wrapt_a_keras_that_is_imported_is_covered(self):
    with contextlib.ExitStack() as stack:
      stack.enter_context(mock.patch.object(keras_convolutions, "wrapt", None))
      stack.enter_context(mock.patch.object(keras_convolutions, "_awaited", set()))
      stack.enter_context(mock.patch.dict(sys.modules))
      sys.modules.pop("tf_keras", None)
      with self.assertWarnsRegex(UserWarning, "no wrapt; a Keras that is imported later"):
        with tf_conv3d_grad.patch_tensorflow():
          self.assertTrue(hasattr(nn.conv, "__wrapped__"))
      with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        with tf_conv3d_grad.patch_tensorflow():
          pass

  def test_off_again_it_is_the_very_function(self):
    for module, name in ((nn, "conv"), (numpy, "add")):
      before = getattr(module, name)
      with tf_conv3d_grad.patch_tensorflow():
        self.assertIsNot(getattr(module, name), before)
      self.assertIs(getattr(module, name), before)


if __name__ == "__main__":
  absltest.main()
