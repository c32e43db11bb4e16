"""An exported program that calls the op runs where this package is not."""

import os

import numpy as np
import tensorflow as tf
from absl.testing import absltest

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case

CASE = Case.parse("mb2_id6x5x7_ic4oc6g2_k3x2x3s1d1x2x2_ncdhw_f32_valid")
WAYS = ("static", "compiled", "always_compiled", "never_compiled", "sizes_unknown")

# Loads the model, calls some of its functions and saves the results.
CHILD = testing.WITHOUT_THE_PACKAGE + """
import numpy as np
import tensorflow as tf

folder, *names = sys.argv[1:]
model = tf.saved_model.load(folder)
inputs = np.load(folder + "/inputs.npz")
filter, out_backprop, t = (tf.constant(inputs[key]) for key in ("filter", "out_backprop", "t"))
sizes = tf.constant(inputs["input_sizes"])
for name in names:
  function = getattr(model, name)
  with tf.GradientTape() as tape:
    tape.watch((filter, out_backprop))
    result = function(sizes, filter, out_backprop)
  results = {"result": result.numpy()}
  if name != "gradient":
    gradient = tape.gradient(result, (filter, out_backprop), output_gradients=t)
    results.update(d_filter=gradient[0].numpy(), d_out_backprop=gradient[1].numpy())
  np.savez(folder + "/" + name + ".npz", **results)
"""


class Model(tf.Module):
  """Calls the op in several ways; all its functions take input_sizes, though not all use it."""

  def __init__(self):
    super().__init__()
    known = [
      tf.TensorSpec([5], tf.int32),
      tf.TensorSpec(CASE.filter_shape),
      tf.TensorSpec(CASE.out_backprop_shape),
    ]
    unknown = [tf.TensorSpec([5], tf.int32), *[tf.TensorSpec([None] * 5)] * 2]
    self.static = tf.function(self._static, input_signature=known)
    self.compiled = tf.function(self._static, input_signature=known, jit_compile=True)
    self.always_compiled = tf.function(self._in_mode(True), input_signature=known)
    self.never_compiled = tf.function(self._in_mode(False), input_signature=known)
    self.sizes_unknown = tf.function(self._call, input_signature=unknown)
    self.gradient = tf.function(self._gradient, input_signature=known)

  def _call(self, input_sizes, filter, out_backprop):
    return tf_conv3d_grad.Conv3DBackpropInputV2(
      input_sizes, filter, out_backprop, **CASE.attributes()
    )

  def _static(self, input_sizes, filter, out_backprop):
    del input_sizes
    return self._call(CASE.input_sizes, filter, out_backprop)

  def _in_mode(self, mode):
    def call(input_sizes, filter, out_backprop):
      with tf_conv3d_grad.jit_compile(mode):
        return self._static(input_sizes, filter, out_backprop)

    return call

  def _gradient(self, input_sizes, filter, out_backprop):
    with tf.GradientTape() as tape:
      tape.watch(filter)
      result = self._static(input_sizes, filter, out_backprop)
    return tape.gradient(result, filter)


class SavedModelTest(testing.OpTestCase):
  def test_its_functions_run_and_can_be_differentiated_without_the_package(self):
    folder = self.create_tempdir().full_path
    tf.saved_model.save(Model(), folder)
    arguments = CASE.arguments()
    filter, out_backprop = arguments["filter"], arguments["out_backprop"]
    t = testing.random_array(CASE, CASE.input_sizes, seed=1)
    np.savez(
      os.path.join(folder, "inputs.npz"),
      input_sizes=np.array(CASE.input_sizes, np.int32),
      filter=filter,
      out_backprop=out_backprop,
      t=t,
    )
    child = testing.run_child(["-c", CHILD, folder, *WAYS, "gradient"])
    self.assertEqual(child.returncode, 0, child.stderr)

    def assert_results(name, **exact):
      results = np.load(os.path.join(folder, f"{name}.npz"))
      for key, value in exact.items():
        with self.subTest(f"{name}: {key}"):
          self.assert_accurate(CASE, results[key], value, tolerances={"float32": 5e-6})

    for name in WAYS:
      assert_results(
        name,
        result=oracle.conv3d_backprop_input(CASE, filter, out_backprop),
        d_filter=oracle.conv3d_backprop_filter(CASE, t, out_backprop),
        d_out_backprop=oracle.conv3d(CASE, t, filter),
      )
    ones = np.ones(CASE.input_sizes)
    assert_results("gradient", result=oracle.conv3d_backprop_filter(CASE, ones, out_backprop))


if __name__ == "__main__":
  absltest.main()
