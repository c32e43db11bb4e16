"""The legacy Keras, which few have; where it is not installed there is nothing to test."""

import importlib.util
import unittest

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import layers as shared
from tests import testing

if importlib.util.find_spec("tf_keras") is None:
  raise unittest.SkipTest("tf_keras is not installed")

import tf_keras
from tf_keras.src.layers.convolutional import base_conv

layers = tf_keras.layers
FORMATS = shared.FORMATS
# Layers whose input has 4 channels, and their options besides the data format. The legacy
# Conv3DTranspose knows neither groups nor dilations.
LAYERS = {
  "plain": (layers.Conv3D, dict()),
  "strided": (layers.Conv3D, dict(strides=2, padding="same")),
  "dilated": (layers.Conv3D, dict(dilation_rate=2, padding="same")),
  "grouped": (layers.Conv3D, dict(groups=2)),
  "grouped_dilated": (layers.Conv3D, dict(groups=4, dilation_rate=(1, 2, 1))),
  "transposed": (layers.Conv3DTranspose, dict(strides=3, output_padding=1, padding="same")),
  "recurrent": (layers.ConvLSTM3D, dict(padding="same")),
}


def layer_and_input(name, data_format):
  kind, options = LAYERS[name]
  return shared.layer_and_input(tf_keras, kind, data_format, **options)


class LayersTest(parameterized.TestCase):
  @parameterized.product(name=tuple(LAYERS), data_format=FORMATS)
  def test_the_result_is_that_without_the_patch(self, name, data_format):
    layer, inputs = layer_and_input(name, data_format)
    layer.build(inputs.shape)
    expected = tf.function(lambda x: layer(x), jit_compile=True)(inputs)
    with tf_conv3d_grad.patch_tensorflow():
      np.testing.assert_allclose(layer(inputs), expected, atol=1e-5)
      np.testing.assert_allclose(tf.function(lambda x: layer(x))(inputs), expected, atol=1e-5)

  @parameterized.parameters(*shared.in_turn(LAYERS))
  def test_it_trains(self, name, data_format, mode):
    with tf_conv3d_grad.patch_tensorflow():
      losses, _ = shared.train(tf_keras, *layer_and_input(name, data_format), **mode)
    self.assertLess(losses[-1], losses[0])

  @parameterized.parameters(*FORMATS)
  def test_a_grouped_layer_is_not_compiled_by_itself(self, data_format):
    layer, inputs = layer_and_input("grouped_dilated", data_format)
    layer.build(inputs.shape)
    self.assertTrue(testing.is_compiled(shared.traced(layer, inputs)))
    with tf_conv3d_grad.patch_tensorflow():
      self.assertFalse(testing.is_compiled(shared.traced(layer, inputs)))

  def test_a_layer_of_another_rank_still_is(self):
    layer = layers.Conv2D(4, 3, groups=2)
    with tf_conv3d_grad.patch_tensorflow():
      self.assertTrue(testing.is_compiled(shared.traced(layer, tf.ones([1, 4, 4, 4]))))
      self.assertEqual(layer(tf.ones([1, 4, 4, 4])).shape, [1, 2, 2, 4])


class SwitchTest(absltest.TestCase):
  NAME = "_jit_compiled_convolution_op"

  def test_off_again_it_is_the_very_method(self):
    before = vars(base_conv.Conv)[self.NAME]
    with tf_conv3d_grad.patch_tensorflow():
      self.assertIsNot(vars(base_conv.Conv)[self.NAME], before)
    self.assertIs(vars(base_conv.Conv)[self.NAME], before)

  def test_without_the_method_it_is_warned_of_and_left_as_it_is(self):
    method = vars(base_conv.Conv)[self.NAME]
    delattr(base_conv.Conv, self.NAME)
    try:
      with self.assertWarnsRegex(UserWarning, f"tf_keras .* has no Conv.{self.NAME}; it compiles"):
        with tf_conv3d_grad.patch_tensorflow():
          self.assertNotIn(self.NAME, vars(base_conv.Conv))
    finally:
      setattr(base_conv.Conv, self.NAME, method)

  def test_imported_after_the_patch_it_is_covered(self):
    child = testing.run_child(["-c", """
import sys
import tf_conv3d_grad
tf_conv3d_grad.patch_tensorflow()
assert "tf_keras" not in sys.modules
import tensorflow as tf
import tf_keras
from tf_keras.src.layers.convolutional.base_conv import Conv
method = vars(Conv)["_jit_compiled_convolution_op"]
tf_conv3d_grad.unpatch_tensorflow()
assert vars(Conv)["_jit_compiled_convolution_op"] is not method
assert not hasattr(method, "get_concrete_function")  # TensorFlow's function has it
"""])  # fmt: skip
    self.assertEqual(child.returncode, 0, child.stderr)


if __name__ == "__main__":
  absltest.main()
