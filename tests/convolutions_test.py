import contextlib
import warnings

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorflow.python.ops import nn_ops  # what is behind tf.nn.convolution has no public name

import tf_conv3d_grad
from tests import private_test
from tf_conv3d_grad.tensorflow import private

INPUT = np.random.default_rng(0).uniform(-1, 1, [2, 7, 6, 5, 4]).astype("float32")
FILTER = np.random.default_rng(1).uniform(-1, 1, [3, 2, 2, 4, 6]).astype("float32")
SPLIT = ("SpaceToBatchND", "BatchToSpaceND")
# All ways to write a dilation, besides the data format.
FORMS = (
  dict(dilations=2),
  dict(dilations=[2]),
  dict(dilations=(2, 1, 3)),
  dict(dilations=[1, 2, 1, 3, 1]),
  dict(dilations=np.array([1, 1, 2]), strides=1),
  dict(dilations=np.int64(2), strides=[1, 1, 1]),
  dict(dilations=2, strides=[1] * 5, padding="VALID"),
  dict(dilations=[1, 2, 3], padding="SAME"),
  dict(dilations=[2, 2, 2], padding="SAME", data_format="NDHWC", name="named"),
)
WAYS = {
  "eager": lambda function: function,
  "graph": lambda function: tf.function(function, autograph=False),
  "compiled": lambda function: tf.function(function, autograph=False, jit_compile=True),
}
# What TensorFlow refuses; the dilation is there in all.
MALFORMED = (
  dict(dilations=[2, 2]),
  dict(dilations=0),
  dict(dilations=-1),
  dict(dilations=[2, 0, 1]),
  dict(dilations=2**40),
  dict(dilations="two"),
  dict(dilations=2, strides=2),
  dict(dilations=2, strides=0),
  dict(dilations=2, strides=[1, 1]),
  dict(dilations=2, padding="same"),
  dict(dilations=2, padding="EXPLICIT"),
  dict(dilations=2, padding=None),
  dict(dilations=2, data_format="NHWC"),
  dict(dilations=2, data_format="channels_last"),
  dict(dilations=2, filters=np.ones([3, 2, 2, 3, 6], "float32")),
  dict(dilations=2, filters=np.ones([3, 2, 2, 0, 6], "float32")),
  dict(dilations=2, filters=np.ones([3, 2, 2, 4, 6], "int32")),
  dict(dilations=2, filters=tf.sparse.from_dense(np.ones([3, 2]))),
  dict(dilations=2, input=np.ones([7, 6, 5, 4], "float32")),
  dict(dilations=2, input=np.ones([2, 7, 6, 5, 4], "float64"), filters=tf.constant(FILTER)),
  dict(dilations=2, input=None),
)


def patched(on):
  return tf_conv3d_grad.patch_tensorflow() if on else contextlib.nullcontext()


def convolution(input=INPUT, filters=FILTER, **options):
  return tf.nn.convolution(input, filters, **options)


def operations(function, *specs):
  graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
  return [operation.type for operation in graph.get_operations()]


class DilatedTest(parameterized.TestCase):
  @parameterized.product(form=FORMS, way=tuple(WAYS))
  def test_the_result_is_tensorflows(self, form, way):
    expected = convolution(**form)
    with tf_conv3d_grad.patch_tensorflow():
      result = WAYS[way](lambda: convolution(**form))()
    np.testing.assert_allclose(result, expected, atol=1e-5)

  @parameterized.product(form=FORMS, way=tuple(WAYS))
  def test_channels_first_is_the_same_transposed(self, form, way):
    expected = tf.transpose(convolution(**form), [0, 4, 1, 2, 3])
    form = {**form, "data_format": "NCDHW"}
    if np.size(form["dilations"]) == 5:
      form["dilations"] = [1, 1, 2, 1, 3]
    with tf_conv3d_grad.patch_tensorflow():
      result = WAYS[way](lambda: convolution(INPUT.transpose([0, 4, 1, 2, 3]), **form))()
    np.testing.assert_allclose(result, expected, atol=1e-5)

  @parameterized.product(form=FORMS, dtype=("float16", "bfloat16", "float32", "float64"))
  def test_it_is_one_operation(self, form, dtype):
    specs = tf.TensorSpec(INPUT.shape, dtype), tf.TensorSpec(FILTER.shape, dtype)
    traced = [operations(lambda x, w: convolution(x, w, **form), *specs)]
    with tf_conv3d_grad.patch_tensorflow():
      traced.append(operations(lambda x, w: convolution(x, w, **form), *specs))
    self.assertContainsSubset(SPLIT, traced[0])
    self.assertNoCommonElements(SPLIT, traced[1])

  @parameterized.parameters(2, [[2, 1, 3]], [[1, 1, 2, 1, 3]])
  def test_channels_first_it_is_one_operation_too(self, dilations):
    shape = [INPUT.shape[axis] for axis in (0, 4, 1, 2, 3)]
    specs = tf.TensorSpec(shape, tf.float32), tf.TensorSpec(FILTER.shape, tf.float32)
    with tf_conv3d_grad.patch_tensorflow():
      traced = operations(
        lambda x, w: convolution(x, w, dilations=dilations, data_format="NCDHW"), *specs
      )
    self.assertNoCommonElements(SPLIT, traced)

  @parameterized.parameters("NDHWC", "NCDHW")
  def test_grouped(self, data_format):
    filters = tf.constant(FILTER[:, :, :, :2])
    groups = zip(np.split(INPUT, 2, axis=4), tf.split(filters, 2, axis=4))
    expected = tf.concat([convolution(x, w, dilations=2) for x, w in groups], axis=4)
    order = [0, 4, 1, 2, 3] if data_format == "NCDHW" else [0, 1, 2, 3, 4]
    with tf_conv3d_grad.patch_tensorflow():
      result = convolution(
        INPUT.transpose(order), filters, dilations=2, data_format=data_format
      )
    np.testing.assert_allclose(result, tf.transpose(expected, order), atol=1e-5)

  @parameterized.parameters(*WAYS)
  def test_gradients_are_tensorflows(self, way):
    def gradients(input, filters):
      with tf.GradientTape() as tape:
        tape.watch([input, filters])
        output = convolution(input, filters, dilations=[2, 1, 3], padding="SAME")
        loss = tf.reduce_sum(output**2)
      return tape.gradient(loss, [input, filters])

    operands = tf.constant(INPUT), tf.constant(FILTER)
    expected = gradients(*operands)
    with tf_conv3d_grad.patch_tensorflow():
      result = WAYS[way](gradients)(*operands)
    for one, other in zip(result, expected):
      np.testing.assert_allclose(one, other, atol=1e-3)

  def test_variables_and_lists_are_taken_as_well(self):
    expected = convolution(dilations=2)
    with tf_conv3d_grad.patch_tensorflow():
      for wrap in (tf.Variable, np.ndarray.tolist):
        np.testing.assert_allclose(
          convolution(wrap(INPUT), wrap(FILTER), dilations=2), expected, atol=1e-5
        )

  def test_tensorflow_1_has_other_names_and_another_order(self):
    with tf_conv3d_grad.patch_tensorflow():
      results = [
        tf.compat.v1.nn.convolution(INPUT, FILTER, "VALID", None, [2, 2, 2]),
        tf.compat.v1.nn.convolution(INPUT, FILTER, padding="VALID", dilation_rate=[2, 2, 2]),
        tf.compat.v1.nn.convolution(
          INPUT, None, filters=FILTER, padding="VALID", dilations=[2] * 3
        ),
        tf.compat.v2.nn.convolution(INPUT, FILTER, None, "VALID", None, 2),
      ]
    for result in results:
      np.testing.assert_allclose(result, convolution(dilations=2), atol=1e-5)

  def test_a_v1_graph_finds_the_result_under_its_name(self):
    with tf.Graph().as_default() as graph, tf_conv3d_grad.patch_tensorflow():
      tf.compat.v1.nn.convolution(INPUT, FILTER, "VALID", dilation_rate=[2, 2, 2], name="wide")
      unnamed = tf.compat.v1.nn.convolution(INPUT, FILTER, "VALID", dilation_rate=[2, 2, 2])
      with tf.compat.v1.Session(graph=graph) as session:
        result = session.run("wide:0")
    np.testing.assert_allclose(result, convolution(dilations=2), atol=1e-5)
    self.assertStartsWith(unnamed.name, "convolution")

  @parameterized.product(
    shape=([None, 7, 6, 5, 4], [2, None, 6, None, 4], [None] * 4 + [4], [None] * 5),
    padding=("SAME", "VALID"),
  )
  def test_the_static_shape_is_no_less_known_than_tensorflows(self, shape, padding):
    def static_shape():
      function = tf.function(
        lambda x: convolution(x, dilations=[2, 1, 3], padding=padding), autograph=False
      )
      return function.get_concrete_function(tf.TensorSpec(shape)).output_shapes

    expected = static_shape()
    with tf_conv3d_grad.patch_tensorflow():
      result = static_shape()
    self.assertEqual(result.rank, 5)
    self.assertTrue(result.is_compatible_with(expected), f"{result}, {expected}")
    for known, before in zip(result, expected):
      self.assertTrue(known is not None or before is None, f"{result}, {expected}")


class OthersTest(parameterized.TestCase):
  """What is no dilated 3-D convolution is TensorFlow's, as are the errors."""

  @parameterized.product(form=MALFORMED, way=("eager", "graph"))
  def test_errors_are_tensorflows(self, form, way):
    found = []
    for on in (False, True):
      with patched(on), self.assertRaises(Exception) as raised:
        WAYS[way](lambda: convolution(**form))()
      found.append(raised.exception)
    stock, ours = found
    self.assertIs(type(ours), type(stock))
    if isinstance(stock, (ValueError, OverflowError)):
      self.assertEqual(str(ours), str(stock))

  @parameterized.parameters(
    dict(input=np.ones([2, 7, 6, 4], "float32"), filters=np.ones([3, 2, 4, 6], "float32")),
    dict(input=np.ones([2, 7, 4], "float32"), filters=np.ones([3, 4, 6], "float32")),
    dict(input=np.ones([2, 3, 7, 6, 4], "float32"), filters=np.ones([3, 2, 4, 6], "float32"),
         dilations=None),
    dict(input=np.ones([2, 3, 7, 6, 5, 4], "float32"), filters=FILTER),
    dict(dilations=None),
    dict(dilations=1, strides=2, padding="SAME"),
    dict(dilations=[1, 1, 1], strides=[1, 2, 1], data_format="NDHWC"),
    dict(dilations=[2.0, 1, 1]),
    dict(dilations=[1, 2, 2, 2, 3]),
  )  # fmt: skip
  def test_other_calls_are_computed_by_tensorflow(self, **form):
    form = {"dilations": 2, **form}
    expected = convolution(**form)
    traced = operations(lambda: convolution(**form))
    with tf_conv3d_grad.patch_tensorflow():
      np.testing.assert_allclose(convolution(**form), expected, atol=1e-5)
      self.assertEqual(SPLIT[0] in operations(lambda: convolution(**form)), SPLIT[0] in traced)

  def test_an_input_of_unknown_rank_is_tensorflows(self):
    with tf_conv3d_grad.patch_tensorflow():
      function = tf.function(lambda x: convolution(x, dilations=2), autograph=False)
      result = function.get_concrete_function(tf.TensorSpec(None))(tf.constant(INPUT))
    np.testing.assert_allclose(result, convolution(dilations=2), atol=1e-5)


class SwitchTest(absltest.TestCase):
  def test_off_again_it_is_the_very_function(self):
    before = nn_ops.convolution_internal
    with tf_conv3d_grad.patch_tensorflow():
      self.assertIsNot(nn_ops.convolution_internal, before)
    self.assertIs(nn_ops.convolution_internal, before)

  def test_a_tensorflow_without_the_function_is_warned_of_and_left_as_it_is(self):
    function = nn_ops.convolution_internal
    del nn_ops.convolution_internal
    try:
      loaded, warned = private_test.load()
    finally:
      nn_ops.convolution_internal = function
    self.assertLen(warned, 1)
    self.assertIn("nn_ops.convolution_internal", str(warned[0].message))
    self.assertEmpty(loaded.convolution_attributes())

  def test_the_patch_works_without_it(self):
    with absltest.mock.patch.object(private, "_convolution_module", None):
      with warnings.catch_warnings(), tf_conv3d_grad.patch_tensorflow():
        warnings.simplefilter("error")
        result = convolution(dilations=2)
    np.testing.assert_allclose(result, convolution(dilations=2), atol=1e-5)


if __name__ == "__main__":
  absltest.main()
