"""The op, and its derivatives, where graphs are built in other ways than by tracing a function.

Branches, loops of TensorFlow 1, sparse upstream gradients, frozen and imported graphs, vectorized
loops in each other.
"""

import gc
import weakref

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorflow.python.framework import convert_to_constants

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case

CASE = Case.parse("mb3_id3x2x4_ic2oc3_k2x1x3s1x2x1d2x1x1_ndhwc_f32")
MODES = (True, False, "auto")
LIMITS = {"tolerances": {"float32": 5e-6}}


def op(case, filter, out_backprop, input_sizes=None):
  sizes = list(case.input_sizes) if input_sizes is None else input_sizes
  return tf_conv3d_grad.Conv3DBackpropInputV2(sizes, filter, out_backprop, **case.attributes())


def eager(function):
  return function


def graph(function):
  return tf.function(function, autograph=False)


def compiled(function):
  return tf.function(function, autograph=False, jit_compile=True)


class GraphsTestCase(testing.OpTestCase):
  def assert_gradients(self, case, results, upstream):
    """Asserts the gradients in filter and out_backprop for an upstream gradient."""
    arguments = case.arguments()
    exact = (
      oracle.conv3d_backprop_filter(case, upstream, arguments["out_backprop"]),
      oracle.conv3d(case, upstream, arguments["filter"]),
    )
    for result, value in zip(results, exact):
      self.assert_accurate(case, result, value, **LIMITS)


class GatheredResultTest(GraphsTestCase):
  """Of what was gathered along the batch TensorFlow gives the gradient as `tf.IndexedSlices`."""

  @parameterized.product(way=(eager, graph, compiled), mode=MODES)
  def test_gradients(self, way, mode):
    def gradients(filter, out_backprop):
      with tf_conv3d_grad.jit_compile(mode), tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        loss = tf.reduce_sum(tf.gather(op(CASE, filter, out_backprop), [2, 0, 2]))
      return tape.gradient(loss, (filter, out_backprop))

    upstream = np.zeros(CASE.input_sizes)
    upstream[0], upstream[2] = 1, 2
    self.assert_gradients(CASE, way(gradients)(*testing.tensors(CASE)), upstream)

  def test_of_unknown_sizes_in_a_v1_graph(self):
    arguments = CASE.arguments()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      filter, out_backprop = (tf.compat.v1.placeholder(tf.float32) for _ in range(2))
      sizes = tf.compat.v1.placeholder(tf.int32)
      result = op(CASE, filter, out_backprop, sizes)
      gathered = tf.nn.embedding_lookup(result, [1])
      gradients = tf.gradients(gathered, [filter, out_backprop])
      results = session.run(
        gradients,
        {
          filter: arguments["filter"],
          out_backprop: arguments["out_backprop"],
          sizes: CASE.input_sizes,
        },
      )
    upstream = np.zeros(CASE.input_sizes)
    upstream[1] = 1
    self.assert_gradients(CASE, results, upstream)

  def test_of_a_patched_transposed_convolution(self):
    filter, out_backprop = testing.tensors(CASE)
    with tf_conv3d_grad.patch_tensorflow(), tf.GradientTape() as tape:
      tape.watch((filter, out_backprop))
      result = tf.nn.conv3d_transpose(
        out_backprop,
        filter,
        CASE.input_sizes,
        strides=CASE.attributes()["strides"],
        dilations=CASE.attributes()["dilations"],
      )
      loss = tf.reduce_sum(tf.gather(result, [0]))
    upstream = np.zeros(CASE.input_sizes)
    upstream[0] = 1
    self.assert_gradients(CASE, tape.gradient(loss, (filter, out_backprop)), upstream)


class BranchTest(GraphsTestCase):
  """An operand may be made inside of the branch, whose gradient is another function."""

  @parameterized.product(
    branch=(
      lambda taken, call: tf.cond(taken, call, lambda: tf.zeros(CASE.input_sizes)),
      lambda taken, call: tf.switch_case(
        tf.cast(taken, tf.int32), [lambda: tf.zeros(CASE.input_sizes), call]
      ),
    ),
    way=(graph, compiled),
    mode=MODES,
  )
  def test_gradients_of_operands_made_inside(self, branch, way, mode):
    def gradients(filter, out_backprop, taken):
      with tf_conv3d_grad.jit_compile(mode):
        result = branch(taken, lambda: op(CASE, filter * 3, out_backprop / 3))
        return tf.gradients(result, [filter, out_backprop])

    results = way(gradients)(*testing.tensors(CASE), tf.constant(True))
    self.assert_gradients(CASE, results, np.ones(CASE.input_sizes))


class NegativeSizeTest(GraphsTestCase):
  """TensorFlow's shape function of `Conv3D` swaps dilations, and may find no size at all."""

  CASE = Case.parse("mb1_id3x3x2_ic3oc2_k1x3x1s2x1x3d2x1x3_ncdhw_f32_valid")

  @parameterized.parameters(eager, graph, compiled)
  def test_gradients(self, way):
    def gradients(filter, out_backprop):
      with tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        result = op(self.CASE, filter, out_backprop)
      return tape.gradient(result, (filter, out_backprop))

    results = way(gradients)(*testing.tensors(self.CASE))
    self.assert_gradients(self.CASE, results, np.ones(self.CASE.input_sizes))


class NestedVectorizedMapTest(GraphsTestCase):
  @parameterized.parameters((eager, "auto"), (compiled, False), (graph, True))
  @testing.sample(2)
  def test_results(self, way, mode):
    filter, out_backprop = testing.tensors(CASE)

    def doubly_mapped(filter, out_backprops):
      def inner(tensors):
        return tf.vectorized_map(lambda tensor: op(CASE, filter, tensor), tensors)

      with tf_conv3d_grad.jit_compile(mode):
        return tf.vectorized_map(inner, out_backprops)

    factors = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), [2, 2, 1, 1, 1, 1, 1])
    results = way(doubly_mapped)(filter, factors * out_backprop)
    for i, j in np.ndindex(2, 2):
      self.assert_right(CASE, CASE.arguments(), results[i, j] / factors[i, j])


# A loop of TensorFlow 1's control flow, with which a whole process begins.
V1_LOOP = """
import sys
import numpy as np
import tensorflow as tf
tf.compat.v1.disable_control_flow_v2()
import tf_conv3d_grad
from tf_conv3d_grad.conformance.case import Case

case = Case.parse(sys.argv[1])
arguments = case.arguments()
for mode in (True, False, "auto"):
  for known in (True, False):
    with tf.Graph().as_default(), tf_conv3d_grad.jit_compile(mode):
      placeholder = tf.compat.v1.placeholder
      filter = placeholder(tf.float32, case.filter_shape if known else None)
      out_backprop = placeholder(tf.float32, case.out_backprop_shape if known else None)
      sizes = placeholder(tf.int32, [5] if known else None)

      def body(i, total):
        scaled = out_backprop * tf.cast(i, tf.float32)
        input_sizes = list(case.input_sizes) if known else sizes
        return i + 1, total + tf_conv3d_grad.Conv3DBackpropInputV2(
          input_sizes, filter, scaled, **case.attributes()
        )

      _, result = tf.compat.v1.while_loop(
        lambda i, _: i < 3, body, (0, tf.zeros(case.input_sizes)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape(None)),
      )
      gradients = tf.gradients(result, [filter, out_backprop])
      feeds = {sizes: case.input_sizes, **{filter: arguments["filter"]}}
      feeds[out_backprop] = arguments["out_backprop"]
      with tf.compat.v1.Session() as session:
        found = session.run([result, *gradients], feeds)
    np.savez(f"{sys.argv[2]}/{mode}_{known}.npz", *found)
"""


class V1LoopTest(GraphsTestCase):
  def test_results_and_gradients(self):
    folder = self.create_tempdir().full_path
    child = testing.run_child(["-c", V1_LOOP, CASE, folder])
    self.assertEqual(child.returncode, 0, child.stderr)
    for mode in MODES:
      for known in (True, False):
        with self.subTest(mode=mode, known=known):
          result, *gradients = np.load(f"{folder}/{mode}_{known}.npz").values()
          # The loop adds up 0, 1 and 2 times out_backprop.
          self.assert_right(CASE, CASE.arguments(), result / 3)
          self.assert_gradients(
            CASE, [gradient / 3 for gradient in gradients], np.ones(CASE.input_sizes)
          )


class ForgottenTest(GraphsTestCase):
  @parameterized.parameters(*MODES)
  def test_a_graph_is_freed_when_nobody_has_it(self, mode):
    filter, out_backprop = testing.tensors(CASE)
    graph = tf.Graph()
    with graph.as_default(), tf_conv3d_grad.jit_compile(mode):
      operands = [tf.compat.v1.placeholder(t.dtype, t.shape) for t in (filter, out_backprop)]
      tf.gradients(op(CASE, *operands), operands)
    freed = weakref.ref(graph)
    del graph, operands
    gc.collect()
    self.assertIsNone(freed())


class FrozenTest(GraphsTestCase):
  """Freezing replaces functions in a list that the whole process shares."""

  def model(self, filter, mode):
    variable = tf.Variable(filter)

    def call(tensor):
      with tf_conv3d_grad.jit_compile(mode):
        return op(CASE, variable, tensor)

    return call

  @parameterized.parameters("auto", True, False)
  @testing.sample(1)
  def test_one_model_after_another(self, mode):
    filter, out_backprop = testing.tensors(CASE)
    spec = tf.TensorSpec(CASE.out_backprop_shape)
    for _ in range(2):
      call = self.model(filter, mode)
      wrapped = tf.compat.v1.wrap_function(call, [spec])
      traced = tf.function(call, autograph=False).get_concrete_function(spec)
      for function in (wrapped, traced):
        frozen = convert_to_constants.convert_variables_to_constants_v2(function)
        self.assert_right(CASE, CASE.arguments(), frozen(out_backprop)[0])
        self.assert_right(CASE, CASE.arguments(), function(out_backprop))


class ImportedTest(GraphsTestCase):
  @parameterized.parameters(*MODES)
  def test_gradients_of_a_copy(self, mode):
    specs = [tf.TensorSpec(CASE.filter_shape), tf.TensorSpec(CASE.out_backprop_shape)]
    with tf_conv3d_grad.jit_compile(mode):
      traced = tf.function(lambda filter, out_backprop: op(CASE, filter, out_backprop))
      function = traced.get_concrete_function(*specs)
    arguments = CASE.arguments()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      filter, out_backprop = (
        tf.constant(arguments[name]) for name in ("filter", "out_backprop")
      )
      (result,) = tf.import_graph_def(
        function.graph.as_graph_def(),
        {"filter": filter, "out_backprop": out_backprop},
        [function.structured_outputs.name],
      )
      gradients = tf.gradients(result, [filter, out_backprop])
      result, *gradients = session.run([result, *gradients])
    self.assert_right(CASE, arguments, result)
    self.assert_gradients(CASE, gradients, np.ones(CASE.input_sizes))


if __name__ == "__main__":
  absltest.main()
