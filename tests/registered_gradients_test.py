import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import private

OPERANDS = {"Conv3D": "xw", "Conv3DBackpropInputV2": "wy", "Conv3DBackpropFilterV2": "xy"}
WAYS = {
  "static": lambda function, specs: tf.function(
    function, jit_compile=True, input_signature=specs, autograph=False
  ),
  "unknown": lambda function, specs: tf.function(
    function,
    jit_compile=True,
    input_signature=[tf.TensorSpec(None, spec.dtype) for spec in specs],
    autograph=False,
  ),
}


class RegisteredGradientsTest(testing.OpTestCase):
  @parameterized.product(
    case=(
      "mb1_id5x6x7_ic2oc3_k3s2d1_ncdhw_f64",
      # TensorFlow infers a wrong shape for this convolution: height and width are swapped.
      "mb1_id6x7x8_ic2oc3_k2s1d2x1x3_ncdhw_f64_valid",
      "mb1_id6x7x8_ic4oc6g2_k2s1d1x2x1_ndhwc_f64_valid",
    ),
    operation=tuple(OPERANDS),
    way=tuple(WAYS),
  )
  def test_are_right_where_only_xla_computes_the_operation(self, case, operation, way):
    case = Case.parse(case)
    self.check(case, operation, WAYS[way])

  @parameterized.product(
    case=(
      "mb2_id5x6x7_ic2oc3_k3x2x3s2x1x2d1_ndhwc_f64",
      "mb2_id5x6x7_ic2oc3_k3x2x3s2x1x2d1_ndhwc_f16",
      "mb2_id5x6x7_ic2oc3_k3s1d1_ndhwc_f32_valid",
    ),
    operation=tuple(OPERANDS),
  )
  def test_are_right_when_executing_eagerly(self, case, operation):
    self.check(Case.parse(case), operation, lambda function, specs: function)

  @parameterized.parameters(*OPERANDS)
  def test_trace_where_tensorflow_infers_a_wrong_shape(self, operation):
    case = Case.parse("mb1_id10_ic2oc3_k3s1d1x2x1_ndhwc_f32_valid")

    @tf.function
    def gradients(a, b):
      return tf.gradients(raw(operation, case, a, b), [a, b])

    shapes = {"x": case.input_sizes, "w": case.filter_shape, "y": case.out_backprop_shape}
    specs = [tf.TensorSpec(shapes[name]) for name in OPERANDS[operation]]
    with tf_conv3d_grad.patch_tensorflow():
      results = gradients.get_concrete_function(*specs).structured_outputs
    self.assertEqual([result.shape for result in results], [spec.shape for spec in specs])

  def check(self, case, operation, way):
    arguments = case.arguments(0)
    values = {"w": arguments["filter"], "y": arguments["out_backprop"]}
    values["x"] = testing.random_array(case, case.input_sizes, 1)
    exact = {
      "x": oracle.conv3d_backprop_input(case, values["w"], values["y"]),
      "w": oracle.conv3d_backprop_filter(case, values["x"], values["y"]),
      "y": oracle.conv3d(case, values["x"], values["w"]),
    }
    operands = OPERANDS[operation]
    (seed,) = set("xwy") - set(operands)

    def gradients(a, b, seed):
      with tf.GradientTape() as tape:
        tape.watch([a, b])
        result = raw(operation, case, a, b)
      return tape.gradient(result, [a, b], output_gradients=seed)

    tensors = [tf.constant(values[name]) for name in (*operands, seed)]
    function = way(gradients, [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors])
    with tf_conv3d_grad.patch_tensorflow():
      results = function(*tensors)
    for name, result in zip(operands, results):
      self.assert_accurate(case, result, exact[name])


def raw(operation, case, a, b):
  """Calls TensorFlow's own raw operation with its two differentiable operands."""
  attributes = {
    "strides": case.strides_attr,
    "padding": case.padding,
    "data_format": case.data_format,
    "dilations": case.dilations_attr,
  }
  if operation == "Conv3D":
    return private.raw_conv3d(input=a, filter=b, **attributes)
  if operation == "Conv3DBackpropInputV2":
    return private.raw_backprop_input(
      input_sizes=case.input_sizes, filter=a, out_backprop=b, **attributes
    )
  return private.raw_backprop_filter(
    input=a, filter_sizes=case.filter_shape, out_backprop=b, **attributes
  )


if __name__ == "__main__":
  absltest.main()
