import itertools
import sys
import threading
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorflow.python.framework import ops  # the gradient registry has no public name

import tf_conv3d_grad
from tests import testing
from tests.arrivals import arrivals
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.patching import patch
from tf_conv3d_grad.tensorflow import private

# A reference from before the patch, as other code may hold one.
STOCK_RAW_OP = tf.raw_ops.Conv3DBackpropInputV2
STOCK_CONV3D = tf.raw_ops.Conv3D
# `conv3d` is not among them: TensorFlow has other functions of that name.
NAMES = (
  "Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2", "conv3d_backprop_input_v2",
  "conv3d_backprop_filter_v2",
)  # fmt: skip
OPERATIONS = ("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")

CASE = Case.parse("mb2_id5x6x7_ic2oc3_k3x2x3s2x1x2d1_ndhwc_f32")
# Stock TensorFlow refuses each of these, in eager and in graph mode, with oneDNN or without.
REFUSED = (
  "mb1_id5x6x7_ic2oc3_k3s2d1_ncdhw_f64",
  "mb1_id5x6x7_ic2oc3_k3s1d2_ndhwc_f64",
  "mb1_id5x6x7_ic2oc3_k2s1d2x1x3_ncdhw_f64_valid",
  "mb2_id4x5x6_ic4oc6g2_k3s2d1_ndhwc_f32",
)


def raw_arguments(case=CASE):
  return {
    "input_sizes": case.input_sizes,
    "strides": case.strides_attr,
    "padding": case.padding,
    "data_format": case.data_format,
    "dilations": case.dilations_attr,
  }


def nn_arguments(case=CASE):
  arguments = raw_arguments(case)
  return {"output_shape": arguments.pop("input_sizes"), **arguments}


def conv3d(input, filter, case=CASE):
  arguments = raw_arguments(case)
  del arguments["input_sizes"]
  return STOCK_CONV3D(input=input, filter=filter, **arguments)


def gradient_of_conv3d(filter, out_backprop, case=CASE):
  """The input gradient of a convolution is the op, whatever the input."""
  input = tf.zeros(case.input_sizes, filter.dtype)
  with tf.GradientTape() as tape:
    tape.watch(input)
    output = conv3d(input, filter, case)
  return tape.gradient(output, input, output_gradients=out_backprop)


def second_gradient_of_the_raw_op(filter, out_backprop, case=CASE):
  """The raw op is linear in out_backprop: the derivative of that derivative leads back to it."""
  with tf.GradientTape() as outer:
    gradient = tf.zeros(case.input_sizes, filter.dtype)
    outer.watch(gradient)
    with tf.GradientTape() as inner:
      inner.watch(out_backprop)
      result = STOCK_RAW_OP(filter=filter, out_backprop=out_backprop, **raw_arguments(case))
    first = inner.gradient(result, out_backprop, output_gradients=gradient)
  return outer.gradient(first, gradient, output_gradients=out_backprop)


def second_gradient_of_conv3d(filter, out_backprop, case=CASE):
  """A convolution's filter gradient is linear in its input, with the op as the derivative."""
  input = tf.zeros(case.input_sizes, filter.dtype)
  with tf.GradientTape() as outer:
    outer.watch(input)
    with tf.GradientTape() as inner:
      inner.watch(filter)
      output = conv3d(input, filter, case)
    first = inner.gradient(output, filter, output_gradients=out_backprop)
  return outer.gradient(first, input, output_gradients=filter)


# How to reach the op: each of these computes it, from filter and out_backprop.
ENTRIES = {
  "raw_op": lambda w, y, case=CASE: tf.raw_ops.Conv3DBackpropInputV2(
    filter=w, out_backprop=y, **raw_arguments(case)
  ),
  "v1_raw_op": lambda w, y, case=CASE: tf.compat.v1.raw_ops.Conv3DBackpropInputV2(
    filter=w, out_backprop=y, **raw_arguments(case)
  ),
  "nn_conv3d_transpose": lambda w, y, case=CASE: tf.nn.conv3d_transpose(
    y, w, **nn_arguments(case)
  ),
  "v1_nn_conv3d_transpose": lambda w, y, case=CASE: tf.compat.v1.nn.conv3d_transpose(
    y, w, **nn_arguments(case)
  ),
  "nn_conv_transpose": lambda w, y, case=CASE: tf.nn.conv_transpose(y, w, **nn_arguments(case)),
  "gradient_of_conv3d": gradient_of_conv3d,
  "second_gradient_of_conv3d": second_gradient_of_conv3d,
  "second_gradient_of_the_raw_op": second_gradient_of_the_raw_op,
}
# At what each of them arrives, if not at the op itself.
ARRIVES_AS = {
  "gradient_of_conv3d": "gradient of Conv3D",
  "second_gradient_of_conv3d": "gradient of Conv3D",
  "second_gradient_of_the_raw_op": "gradient of Conv3DBackpropInputV2",
}
WAYS = {
  "eager": lambda function: function,
  "graph": tf.function,
  "compiled": lambda function: tf.function(function, jit_compile=True),
}


class EntriesTest(testing.OpTestCase):
  @parameterized.product(entry=tuple(ENTRIES), way=tuple(WAYS))
  def test_the_call_arrives_and_the_result_is_right(self, entry, way):
    arguments = CASE.arguments(0)
    filter, out_backprop = testing.tensors(CASE)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      result = WAYS[way](ENTRIES[entry])(filter, out_backprop)
    self.assertIn(ARRIVES_AS.get(entry, "conv3d_backprop_input_v2"), arrived)
    self.assert_right(CASE, arguments, result)

  @parameterized.parameters(*ENTRIES)
  def test_without_the_patch_nothing_arrives(self, entry):
    with arrivals() as arrived:
      ENTRIES[entry](*testing.tensors(CASE))
    self.assertEmpty(arrived)

  @parameterized.product(
    entry=("raw_op", "v1_raw_op", "nn_conv3d_transpose", "v1_nn_conv3d_transpose",
           "nn_conv_transpose"),
    case=REFUSED,
  )  # fmt: skip
  def test_what_stock_tensorflow_refuses_works_through_every_entry(self, entry, case):
    case = Case.parse(case)
    filter, out_backprop = testing.tensors(case)
    with self.assertRaises(tf.errors.OpError):
      ENTRIES[entry](filter, out_backprop, case)
    with tf_conv3d_grad.patch_tensorflow():
      result = ENTRIES[entry](filter, out_backprop, case)
    self.assert_right(case, case.arguments(0), result)

  def test_no_module_of_tensorflow_keeps_the_original(self):
    originals = [original for _, _, original in tensorflow_attributes()]
    with tf_conv3d_grad.patch_tensorflow():
      for module, name, value in tensorflow_attributes():
        self.assertFalse(any(value is original for original in originals), f"{module}.{name}")

  def test_names_that_were_one_function_stay_one(self):
    with tf_conv3d_grad.patch_tensorflow():
      self.assertIs(tf.raw_ops.Conv3DBackpropInputV2, tf.compat.v1.raw_ops.Conv3DBackpropInputV2)

  def test_a_v1_graph_finds_the_result_under_its_name(self):
    filter, out_backprop = CASE.arguments(0)["filter"], CASE.arguments(0)["out_backprop"]
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow(), tf.Graph().as_default() as graph:
      tf.compat.v1.nn.conv3d_transpose(out_backprop, filter, name="up", **nn_arguments())
      weights = tf.constant(filter)
      tf.compat.v1.gradients(conv3d(tf.zeros(CASE.input_sizes), weights), weights)
      with tf.compat.v1.Session(graph=graph) as session:
        result = session.run("up:0")
    self.assertLen(arrived, 2)
    self.assert_right(CASE, CASE.arguments(0), result)

  def test_a_function_traced_before_takes_its_gradient_from_the_op(self):
    filter, out_backprop = testing.tensors(CASE)
    function = tf.function(conv3d).get_concrete_function(
      tf.TensorSpec(CASE.input_sizes), tf.TensorSpec(CASE.filter_shape)
    )
    input = tf.zeros(CASE.input_sizes)
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow(), tf.GradientTape() as tape:
      tape.watch(input)
      output = function(input, filter)
      result = tape.gradient(output, input, output_gradients=out_backprop)
    self.assertLen(arrived, 1)
    self.assert_right(CASE, CASE.arguments(0), result)

  def test_inside_the_patch_the_package_still_calls_tensorflow(self):
    filter, out_backprop = testing.tensors(CASE)
    with tf_conv3d_grad.patch_tensorflow(), tf_conv3d_grad.jit_compile(False):
      traced = tf.function(ENTRIES["raw_op"]).get_concrete_function(filter, out_backprop)
    kinds = [node.type for node in traced.graph.get_operations()]
    self.assertIn("Conv3DBackpropInputV2", kinds)  # one, or where it is Eigen's one a sample

  def test_malformed_arguments_get_the_ops_errors(self):
    filter, out_backprop = testing.tensors(CASE)
    arguments = {**nn_arguments(), "output_shape": [2, 5, 6, 7]}
    with tf_conv3d_grad.patch_tensorflow():
      with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "input_sizes must be a vector"):
        tf.nn.conv3d_transpose(out_backprop, filter, **arguments)


ATTRIBUTES = {name: value for name, value in raw_arguments().items() if name != "input_sizes"}
# How to reach the convolution, from input and filter, and its gradient in the filter, from input
# and out_backprop.
CONVOLUTIONS = {
  "raw_op": lambda x, w: tf.raw_ops.Conv3D(input=x, filter=w, **ATTRIBUTES),
  "v1_raw_op": lambda x, w: tf.compat.v1.raw_ops.Conv3D(input=x, filter=w, **ATTRIBUTES),
  "nn": lambda x, w: tf.nn.conv3d(x, w, **ATTRIBUTES),
  "v1_nn": lambda x, w: tf.compat.v1.nn.conv3d(x, w, **ATTRIBUTES),
}
FILTER_GRADIENTS = {
  "raw_op": lambda x, y: tf.raw_ops.Conv3DBackpropFilterV2(
    input=x, filter_sizes=CASE.filter_shape, out_backprop=y, **ATTRIBUTES
  ),
  "v1_nn": lambda x, y: tf.compat.v1.nn.conv3d_backprop_filter_v2(
    x, CASE.filter_shape, y, **ATTRIBUTES
  ),
  "v1_nn_without_version": lambda x, y: tf.compat.v1.nn.conv3d_backprop_filter(
    x, CASE.filter_shape, y, **ATTRIBUTES
  ),
}


class OtherOpsTest(testing.OpTestCase):
  """The convolution and its gradient in the filter, through every name that they have."""

  def check(self, call, way, exact, name, *operands):
    operands = [tf.constant(operand, tf.float32) for operand in operands]
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      result = WAYS[way](call)(*operands)
    self.assertEqual([*arrived], [name])
    np.testing.assert_allclose(result, exact, atol=2e-6 * np.abs(exact).max())

  @parameterized.product(entry=tuple(CONVOLUTIONS), way=tuple(WAYS))
  def test_the_convolution(self, entry, way):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=CASE.input_sizes), rng.normal(size=CASE.filter_shape)
    self.check(CONVOLUTIONS[entry], way, oracle.conv3d(CASE, x, w), "conv3d", x, w)

  @parameterized.product(entry=tuple(FILTER_GRADIENTS), way=tuple(WAYS))
  def test_the_gradient_in_the_filter(self, entry, way):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=CASE.input_sizes), rng.normal(size=CASE.out_backprop_shape)
    exact = oracle.conv3d_backprop_filter(CASE, x, y)
    self.check(FILTER_GRADIENTS[entry], way, exact, "conv3d_backprop_filter_v2", x, y)

  def test_in_a_graph_what_the_kernel_takes_stays_tensorflows_operation(self):
    # So TensorFlow fuses it with what comes after, and it costs nothing.
    def operations():
      with tf.Graph().as_default() as graph:
        x, w = tf.zeros([2, 4, 4, 4, 8]), tf.zeros([3, 3, 3, 8, 8])
        tf.compat.v1.nn.conv3d(x, w, [1] * 5, "SAME", name="here")
      return [(each.type, each.name) for each in graph.get_operations()]

    before = operations()
    with tf_conv3d_grad.patch_tensorflow():
      self.assertEqual(operations(), before)

  @parameterized.parameters(([None, 6, 6, 6, 2],), ([None, None, None, None, 2],))
  def test_nor_has_it_anything_with_a_state_beside_it(self, shape):
    # TensorFlow Lite converts no such model, and `tf.data` saves no iterator of such a function.
    filter = tf.ones([3, 3, 3, 2, 4])
    signature = [tf.TensorSpec(shape)]
    with tf_conv3d_grad.patch_tensorflow():
      function = tf.function(
        lambda x: tf.nn.conv3d(x, filter, [1] * 5, "SAME"), input_signature=signature
      )
      graph = function.get_concrete_function().graph
    kinds = [each.type for each in graph.get_operations()]
    self.assertIn("Conv3D", kinds)
    self.assertFalse(any(each.op_def.is_stateful for each in graph.get_operations()))

  @parameterized.parameters((16, False), (256, True))
  def test_but_what_is_large_by_the_sample_is_asked_for_first(self, length, asked):
    # Where it cannot be allocated, the kernel would end the process.
    filter, sizes = tf.ones([3, 3, 3, 8, 8]), [length, length, length, 8]
    with tf_conv3d_grad.patch_tensorflow():
      function = tf.function(
        lambda x: tf.nn.conv3d(x, filter, [1] * 5, "SAME"),
        input_signature=[tf.TensorSpec([None, *sizes])],
      )
      graph = function.get_concrete_function().graph
    kinds = [each.type for each in graph.get_operations()]
    self.assertIn("Conv3D", kinds)
    self.assertEqual("Empty" in kinds, asked)


class NotLookedAtTest(parameterized.TestCase):
  """In graphs, what the patch directs to this package is not looked at for infinities."""

  def looks(self, function, *tensors):
    """Returns how many tensors a graph looks at."""
    graph = function.get_concrete_function(*tensors).graph.as_graph_def()
    bodies = [graph.node, *(each.node_def for each in graph.library.function)]
    return sum(node.op == "IsFinite" for nodes in bodies for node in nodes)

  @parameterized.parameters(False, True)
  def test_a_call_and_its_gradients(self, compiled):
    volume, filter = tf.ones([1, 5, 5, 5, 4]), tf.ones([3, 3, 3, 2, 6])

    def gradients(op):
      def call(volume, filter):
        with tf.GradientTape() as tape:
          tape.watch([volume, filter])
          result = op(volume, filter, [1, 2, 2, 2, 1], "SAME")
        return result, *tape.gradient(result, [volume, filter])

      return tf.function(call, autograph=False, jit_compile=compiled)

    self.assertGreater(self.looks(gradients(tf_conv3d_grad.Conv3D), volume, filter), 2)
    with tf_conv3d_grad.patch_tensorflow():
      self.assertEqual(self.looks(gradients(tf.nn.conv3d), volume, filter), 0)

  def test_eager_calls_are(self):
    volume, filter = np.ones([1, 3, 3, 3, 2]), np.ones([3, 3, 3, 1, 2])
    filter[0, 0, 0, 0, 0] = np.inf
    case = Case.parse("mb1_id3_ic2oc2g2_k3s1d1_ndhwc_f64_fwd")
    with tf_conv3d_grad.patch_tensorflow():
      result = tf.nn.conv3d(volume, filter, [1] * 5, "SAME")
    exact = oracle.exact(case, {"input": volume, "filter": filter})
    np.testing.assert_array_equal(result, exact)


class OffAgainTest(testing.OpTestCase):
  def test_every_attribute_and_registry_entry_is_the_one_it_was(self):
    attributes, entries = tensorflow_attributes(), registry_entries()
    self.assertGreater(len(attributes), 6)
    with tf_conv3d_grad.patch_tensorflow():
      self.assertFalse(any(map(same, entries, registry_entries())))
    self.assertTrue(all(map(same, attributes, tensorflow_attributes())))
    self.assertTrue(all(map(same, entries, registry_entries())))

  @parameterized.parameters(*ENTRIES)
  def test_results_are_the_same_bits(self, entry):
    filter, out_backprop = testing.tensors(CASE)
    before = ENTRIES[entry](filter, out_backprop)
    with tf_conv3d_grad.patch_tensorflow():
      ENTRIES[entry](filter, out_backprop)
    after = ENTRIES[entry](filter, out_backprop)
    self.assertEqual(before.numpy().tobytes(), after.numpy().tobytes())

  @parameterized.parameters(*ENTRIES)
  def test_graphs_are_the_same(self, entry):
    before = graph_of(ENTRIES[entry])
    with tf_conv3d_grad.patch_tensorflow():
      graph_of(ENTRIES[entry])
    self.assertEqual(before, graph_of(ENTRIES[entry]))

  def test_forward_mode_follows_the_patch_on_and_off(self):
    # TensorFlow keeps what it compiled for forward mode, by operation and shape.
    filter, _ = testing.tensors(CASE)
    input = tf.ones(CASE.input_sizes)

    def derivative():
      with tf.autodiff.ForwardAccumulator(input, tf.ones_like(input)) as accumulator:
        output = conv3d(input, filter)
      return accumulator.jvp(output)

    with arrivals() as arrived:
      before = derivative()
      self.assertEmpty(arrived)
      with tf_conv3d_grad.patch_tensorflow():
        np.testing.assert_allclose(before, derivative(), rtol=1e-5)
        self.assertNotEmpty(arrived)
        count = len(arrived)
      after = derivative()
    self.assertLen(arrived, count)
    self.assertEqual(before.numpy().tobytes(), after.numpy().tobytes())


class SwitchTest(parameterized.TestCase):
  def tearDown(self):
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertFalse(is_on())
    super().tearDown()

  def test_a_plain_call_holds_until_undone(self):
    tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(is_on())
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertFalse(is_on())

  def test_twice_is_once(self):
    tf_conv3d_grad.patch_tensorflow()
    attributes = tensorflow_attributes()
    tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(all(map(same, attributes, tensorflow_attributes())))
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertFalse(is_on())
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertFalse(is_on())

  def test_a_block_ends_with_the_block(self):
    with tf_conv3d_grad.patch_tensorflow():
      self.assertTrue(is_on())
    self.assertFalse(is_on())

  def test_blocks_nest(self):
    with tf_conv3d_grad.patch_tensorflow():
      with tf_conv3d_grad.patch_tensorflow():
        self.assertTrue(is_on())
      self.assertTrue(is_on())
    self.assertFalse(is_on())

  def test_blocks_need_not_end_in_order(self):
    first, second = tf_conv3d_grad.patch_tensorflow(), tf_conv3d_grad.patch_tensorflow()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    self.assertTrue(is_on())
    second.__exit__(None, None, None)
    self.assertFalse(is_on())

  def test_a_block_in_a_plain_call_leaves_it_on(self):
    tf_conv3d_grad.patch_tensorflow()
    with tf_conv3d_grad.patch_tensorflow():
      self.assertTrue(is_on())
    self.assertTrue(is_on())

  def test_a_plain_call_in_a_block_outlasts_it(self):
    with tf_conv3d_grad.patch_tensorflow():
      tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(is_on())

  def test_an_open_block_keeps_the_patch(self):
    with tf_conv3d_grad.patch_tensorflow():
      tf_conv3d_grad.unpatch_tensorflow()
      self.assertTrue(is_on())
    self.assertFalse(is_on())

  def test_a_plain_call_can_become_a_block_later_and_again(self):
    handle = tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(is_on())
    for _ in range(2):
      with handle:
        self.assertTrue(is_on())
      self.assertFalse(is_on())

  def test_a_block_that_raises_ends_too_and_lets_the_exception_through(self):
    with self.assertRaisesRegex(RuntimeError, "from within"):
      with tf_conv3d_grad.patch_tensorflow():
        raise RuntimeError("from within")
    self.assertFalse(is_on())

  def test_a_patch_that_fails_halfway_leaves_nothing_behind(self):
    attributes, entries = tensorflow_attributes(), registry_entries()
    broken = mock.Mock(side_effect=RuntimeError("broken"))
    with mock.patch.object(private, "gradient_registry", broken):
      with self.assertRaisesRegex(RuntimeError, "broken"):
        tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(all(map(same, attributes, tensorflow_attributes())))
    self.assertTrue(all(map(same, entries, registry_entries())))
    tf_conv3d_grad.patch_tensorflow()
    self.assertTrue(is_on())

  def test_nor_does_a_block_that_fails_to_begin(self):
    patch = tf_conv3d_grad.patch_tensorflow()
    tf_conv3d_grad.unpatch_tensorflow()
    broken = mock.Mock(side_effect=RuntimeError("broken"))
    with mock.patch.object(private, "gradient_registry", broken):
      with self.assertRaisesRegex(RuntimeError, "broken"), patch:
        pass
    tf_conv3d_grad.patch_tensorflow()
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertFalse(is_on())

  def test_threads_patch_and_unpatch_at_will(self):
    attributes = tensorflow_attributes()
    failures, barrier = [], threading.Barrier(8)
    filter, out_backprop = testing.tensors(CASE)
    expected = ENTRIES["nn_conv3d_transpose"](filter, out_backprop).numpy()

    def work(number):
      rng = np.random.default_rng(number)
      barrier.wait()
      try:
        for _ in range(40):
          choice = rng.integers(4)
          if choice == 0:
            tf_conv3d_grad.patch_tensorflow()
          elif choice == 1:
            tf_conv3d_grad.unpatch_tensorflow()
          else:
            with tf_conv3d_grad.patch_tensorflow():
              assert is_on()
              result = ENTRIES["nn_conv3d_transpose"](filter, out_backprop)
              np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
              assert is_on()
      except BaseException as error:  # noqa: BLE001 - reported below
        failures.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self.assertEmpty(failures)
    tf_conv3d_grad.unpatch_tensorflow()
    self.assertTrue(all(map(same, attributes, tensorflow_attributes())))


def tensorflow_attributes():
  """Every attribute of a loaded module of TensorFlow's that is one of the ops."""
  found = []
  for (path, module), name in itertools.product(sorted(sys.modules.items()), NAMES):
    value = getattr(module, "__dict__", {}).get(name)
    # `Conv3D` is also a class of layers.
    if path.startswith("tensorflow") and value is not None and not isinstance(value, type):
      found.append((path, name, value))
  return found


def registry_entries():
  registry = ops.gradient_registry._registry
  return [(name, "", registry[name]) for name in OPERATIONS]


def same(one, other):
  return one[:2] == other[:2] and one[2] is other[2]


def is_on():
  on = tf.raw_ops.Conv3DBackpropInputV2 is not STOCK_RAW_OP
  assert on == (patch._state._undo is not None)
  return on


def graph_of(function):
  """The operations of a function's graph; inner functions have numbers, so no names."""
  traced = tf.function(function, autograph=False).get_concrete_function(*testing.tensors(CASE))
  return [(node.op, list(node.input)) for node in traced.graph.as_graph_def().node]


if __name__ == "__main__":
  absltest.main()
