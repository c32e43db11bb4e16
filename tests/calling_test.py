"""Every way of calling the op."""

import dataclasses
import functools
import inspect
import os
import threading
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import mode

CASE = Case.parse("mb2_id4x5x6_ic2oc3_k3x2x3s1x2x1d1_ndhwc_f32")
# TensorFlow's own op refuses these two eagerly.
DILATED = Case.parse("mb2_id6x5x7_ic4oc6g2_k3x2x3s1d1x2x2_ncdhw_f64_valid")
STRIDED = Case.parse("mb3_id5x4x6_ic3oc2_k2x3x3s2x1x3d2x1x1_ncdhw_f16")
CASES = tuple((f"_{case}", case) for case in (CASE, DILATED, STRIDED))

# What the shapes of TensorFlow 1 are made of.
Dimension = tf.compat.v1.Dimension

# Ways to write down the same numbers.
SPELLINGS = {
  "half_tensor": lambda values: tf.constant(values, tf.float16),
  "float_tensor": lambda values: tf.constant(values, tf.float32),
  "double_tensor": lambda values: tf.constant(values, tf.float64),
  "half_array": lambda values: np.array(values, np.float16),
  "float_array": lambda values: np.array(values, np.float32),
  "double_array": lambda values: np.array(values, np.float64),
  "integer_array": lambda values: np.array(values, np.int64),
  "list": lambda values: np.array(values).tolist(),
}


def call(case, seed=0, **changes):
  """Calls the op on the case, with some of the arguments changed."""
  return tf_conv3d_grad.Conv3DBackpropInputV2(**{**case.arguments(seed), **changes})


def compiles(case=DILATED):
  """Whether the op, traced now, hands its work to XLA by itself."""

  @tf.function(autograph=False)
  def traced(filter, out_backprop):
    return call(case, filter=filter, out_backprop=out_backprop)

  return testing.is_compiled(traced.get_concrete_function(*testing.tensors(case)))


def untyped(op):
  """Returns an op's parameters with their defaults; TensorFlow's own have no types."""
  parameters = inspect.signature(op).parameters.values()
  return [parameter.replace(annotation=parameter.empty) for parameter in parameters]


class SignatureTest(parameterized.TestCase):
  @parameterized.parameters("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
  def test_is_the_raw_ops(self, name):
    self.assertEqual(untyped(getattr(tf_conv3d_grad, name)), untyped(getattr(tf.raw_ops, name)))

  @parameterized.parameters(
    ("conv3d", "Conv3D"),
    ("conv3d_backprop_input_v2", "Conv3DBackpropInputV2"),
    ("conv3d_backprop_filter_v2", "Conv3DBackpropFilterV2"),
  )
  def test_both_spellings_are_the_same_function(self, spelled, name):
    self.assertIs(getattr(tf_conv3d_grad, spelled), getattr(tf_conv3d_grad, name))

  @parameterized.parameters("Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")
  def test_is_documented(self, name):
    op = getattr(tf_conv3d_grad, name)
    for parameter in inspect.signature(op).parameters:
      self.assertIn(f"{parameter}:", op.__doc__)


class EagerTest(testing.OpTestCase):
  @parameterized.named_parameters(*CASES)
  def test_by_keyword(self, case):
    result = call(case)
    self.assertIsInstance(result, tf.Tensor)
    self.assert_right(case, case.arguments(), result)

  @parameterized.named_parameters(*CASES)
  def test_by_position(self, case):
    arguments = case.arguments()
    result = tf_conv3d_grad.Conv3DBackpropInputV2(
      arguments["input_sizes"],
      arguments["filter"],
      arguments["out_backprop"],
      arguments["strides"],
      arguments["padding"],
      arguments["data_format"],
      arguments["dilations"],
      "a_name",
    )
    self.assert_right(case, arguments, result)

  def test_format_and_dilations_have_defaults(self):
    arguments = CASE.arguments()
    del arguments["data_format"], arguments["dilations"]
    self.assert_right(CASE, arguments, tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))

  @parameterized.named_parameters(
    ("list", list),
    ("tuple", tuple),
    ("int32_array", lambda sizes: np.array(sizes, np.int32)),
    ("int64_array", lambda sizes: np.array(sizes, np.int64)),
    ("int16_array", lambda sizes: np.array(sizes, np.int16)),
    ("list_of_numpy_integers", lambda sizes: list(np.array(sizes))),
    ("list_of_scalar_tensors", lambda sizes: [tf.constant(size) for size in sizes]),
    ("int32_tensor", lambda sizes: tf.constant(sizes, tf.int32)),
    ("int64_tensor", lambda sizes: tf.constant(sizes, tf.int64)),
    ("variable", lambda sizes: tf.Variable(sizes, dtype=tf.int32)),
    ("tensor_shape", lambda sizes: tf.TensorShape(sizes)),
    ("object_array", lambda sizes: np.array(sizes, object)),
    ("object_array_of_numpy_integers", lambda sizes: np.array(list(np.uint16(sizes)), object)),
    ("dimensions", lambda sizes: list(map(Dimension, sizes))),
    ("tuple_of_dimensions_and_integers", lambda sizes: (Dimension(sizes[0]), *sizes[1:])),
    ("dimensions_and_tensors", lambda sizes: [Dimension(sizes[0]), *map(tf.constant, sizes[1:])]),
    ("object_array_of_dimensions", lambda sizes: np.array(list(map(Dimension, sizes)), object)),
    ("shape_of_a_tensor", lambda sizes: tf.shape(tf.zeros(sizes))),
  )
  def test_input_sizes_as(self, convert):
    for case in (CASE, DILATED):
      calling = functools.partial(call, case, input_sizes=convert(case.input_sizes))
      for way in (calling, tf.function(calling, autograph=False)):
        self.assert_right(case, case.arguments(), way())

  @parameterized.product(traced=(False, True), padding=("SAME", "VALID"))
  def test_input_sizes_as_the_shape_of_a_tensor_in_tensorflow_1(self, traced, padding):
    tf.compat.v1.disable_v2_tensorshape()
    self.addCleanup(tf.compat.v1.enable_v2_tensorshape)
    case = dataclasses.replace(CASE, padding=padding)

    def calling(x):
      self.assertIsInstance(x.shape[1], Dimension)
      return call(case, input_sizes=x.shape), call(case, input_sizes=[x.shape[0], *x.shape[1:]])

    function = tf.function(calling, autograph=False) if traced else calling
    for result in function(tf.zeros(case.input_sizes)):
      self.assert_right(case, case.arguments(), result)

  @parameterized.named_parameters(
    ("array", np.asarray),
    ("tensor", tf.constant),
    ("variable", tf.Variable),
  )
  def test_filter_and_out_backprop_as(self, convert):
    for case in (CASE, DILATED, STRIDED):
      arguments = case.arguments()
      tensors = {name: convert(arguments[name]) for name in ("filter", "out_backprop")}
      self.assert_right(case, arguments, call(case, **tensors))

  def test_filter_and_out_backprop_as_nested_lists(self):
    arguments = CASE.arguments()
    tensors = {name: arguments[name].tolist() for name in ("filter", "out_backprop")}
    self.assert_right(CASE, arguments, call(CASE, **tensors))

  @parameterized.named_parameters(
    ("tuples", {"strides": (1, 1, 2, 1, 1), "dilations": (1, 1, 1, 1, 1)}),
    ("whole_floats", {"strides": [1.0, 1.0, 2.0, 1.0, 1.0]}),
    ("numpy_integers", {"strides": list(np.array([1, 1, 2, 1, 1]))}),
    ("eager_tensors", {"strides": [1, tf.constant(1), tf.constant(2, tf.int64), 1, 1]}),
    ("a_shape", {"strides": tf.TensorShape([1, 1, 2, 1, 1])}),
    ("bytes", {"padding": b"SAME", "data_format": b"NDHWC"}),
    ("none_for_the_default", {"data_format": None, "dilations": None}),
  )
  def test_attributes_spelt_as_the_raw_op_takes_them(self, spelling):
    arguments = CASE.arguments()
    self.assert_right(CASE, arguments, call(CASE, **spelling))
    tf.raw_ops.Conv3DBackpropInputV2(**{**arguments, **spelling})

  @parameterized.product(traced=(False, True), first=tuple(SPELLINGS), second=tuple(SPELLINGS))
  def test_the_two_dtypes_are_matched_as_by_the_raw_op(self, traced, first, second):
    filter = SPELLINGS[first](np.ones([1, 1, 1, 2, 3]))
    out_backprop = SPELLINGS[second](np.ones([1, 2, 2, 2, 3]))

    def outcome(op, traced):
      def run():
        return op(
          input_sizes=[1, 2, 2, 2, 2],
          filter=filter,
          out_backprop=out_backprop,
          strides=[1] * 5,
          padding="SAME",
        )

      try:
        return (tf.function(run, autograph=False) if traced else run)().dtype.name
      except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        return "refused"

    actual = outcome(tf_conv3d_grad.Conv3DBackpropInputV2, traced)
    # While tracing the raw op refuses some pairs that it takes eagerly; taking them is no harm.
    expected = {outcome(tf.raw_ops.Conv3DBackpropInputV2, traced)}
    if "refused" in expected:
      expected.add(outcome(tf.raw_ops.Conv3DBackpropInputV2, traced=False))
    self.assertIn(actual, expected)


class UnknownDimensionsTest(parameterized.TestCase):
  """`input_sizes` of which tracing knows a part, and which are no tensors that a run could fill."""

  @parameterized.product(
    traced=(False, True),
    input_sizes=(
      [Dimension(None), 5, 6, 7, 2],
      [Dimension(None), *map(Dimension, (5, 6, 7, 2))],
      np.array([Dimension(None), 5, 6, 7, 2], object),
      tf.TensorShape([None, 5, 6, 7, 2]),
      tf.TensorShape(None),
    ),
  )
  def test_are_refused_by_name_where_the_raw_op_refuses_them(self, traced, input_sizes):
    def calling(op):
      return op(**{**CASE.arguments(), "input_sizes": input_sizes})

    if traced:
      with self.assertRaises((TypeError, ValueError)):
        tf.function(calling, autograph=False)(tf.raw_ops.Conv3DBackpropInputV2)
      calling = tf.function(calling, autograph=False)
    kind = ValueError if traced else tf.errors.InvalidArgumentError
    with self.assertRaisesRegex(kind, r"input_sizes must be .* 5 integers, got .*None"):
      calling(tf_conv3d_grad.Conv3DBackpropInputV2)

  def test_are_refused_beside_tensors(self):
    sizes = [Dimension(None), *map(tf.constant, CASE.input_sizes[1:])]
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "input_sizes must be"):
      call(CASE, input_sizes=sizes)


class TracedTest(testing.OpTestCase):
  @parameterized.named_parameters(*CASES)
  def test_with_static_shapes(self, case):
    @tf.function
    def traced(filter, out_backprop):
      result = call(case, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape, case.input_sizes)
      return result

    self.assert_right(case, case.arguments(), traced(*testing.tensors(case)))

  @parameterized.named_parameters(*CASES)
  def test_with_an_unknown_batch(self, case):
    @tf.function(
      input_signature=[
        tf.TensorSpec(case.filter_shape, case.dtype),
        tf.TensorSpec([None, *case.out_backprop_shape[1:]], case.dtype),
      ]
    )
    def traced(filter, out_backprop):
      sizes = tf.stack([tf.shape(out_backprop)[0], *case.input_sizes[1:]])
      result = call(case, input_sizes=sizes, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape.as_list(), [None, *case.input_sizes[1:]])
      return result

    self.assert_right(case, case.arguments(), traced(*testing.tensors(case)))
    one = Case.parse(str(case).replace(f"mb{case.batch}", "mb1"))
    self.assert_right(one, one.arguments(), traced(*testing.tensors(one)))

  @parameterized.product(
    case=(CASE, DILATED, STRIDED), rank_known=(True, False), index=("int32", "int64")
  )
  def test_with_nothing_known(self, case, rank_known, index):
    shape = [None] * 5 if rank_known else None

    @tf.function(
      input_signature=[
        tf.TensorSpec([5] if rank_known else None, index),
        tf.TensorSpec(shape, case.dtype),
        tf.TensorSpec(shape, case.dtype),
      ]
    )
    def traced(input_sizes, filter, out_backprop):
      result = call(case, input_sizes=input_sizes, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape.rank, 5)
      return result

    sizes = tf.constant(case.input_sizes, index)
    self.assert_right(case, case.arguments(), traced(sizes, *testing.tensors(case)))

  def test_one_trace_serves_every_size(self):
    @tf.function(
      input_signature=[
        tf.TensorSpec([5], tf.int32),
        tf.TensorSpec([None] * 5, tf.float32),
        tf.TensorSpec([None] * 5, tf.float32),
      ]
    )
    def traced(input_sizes, filter, out_backprop):
      return tf_conv3d_grad.Conv3DBackpropInputV2(
        input_sizes, filter, out_backprop, [1, 2, 1, 2, 1], "SAME"
      )

    for text in (
      "mb2_id4x5x6_ic2oc3_k3x2x3s2x1x2d1_ndhwc_f32",
      "mb1_id1x1x9_ic1oc1_k1x1x4s2x1x2d1_ndhwc_f32",
      "mb3_id7x3x2_ic6oc9g3_k2x5x1s2x1x2d1_ndhwc_f32",
      "mb0_id7x3x2_ic6oc9g3_k2x5x1s2x1x2d1_ndhwc_f32",
      "mb2_id0x5x6_ic2oc3_k3x2x3s2x1x2d1_ndhwc_f32",
    ):
      case = Case.parse(text)
      self.assert_right(
        case, case.arguments(), traced(tf.constant(case.input_sizes), *testing.tensors(case))
      )

  @parameterized.product(case=(CASE, DILATED), rank_known=(True, False))
  def test_the_static_shape_is_set_whenever_input_sizes_is_known(self, case, rank_known):
    shape = [None] * 5 if rank_known else None

    @tf.function(input_signature=[tf.TensorSpec(shape, case.dtype)] * 2)
    def traced(filter, out_backprop):
      result = call(case, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape, case.input_sizes)
      return result

    result = traced(*testing.tensors(case))
    self.assertEqual(result.shape, case.input_sizes)
    self.assert_right(case, case.arguments(), result)

  def test_the_static_shape_of_another_tensor_is_known(self):
    @tf.function(
      input_signature=[
        tf.TensorSpec(CASE.input_sizes),
        tf.TensorSpec([None] * 5),
        tf.TensorSpec([None] * 5),
      ]
    )
    def traced(like, filter, out_backprop):
      result = call(CASE, input_sizes=tf.shape(like), filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape, CASE.input_sizes)
      return result

    result = traced(tf.zeros(CASE.input_sizes), *testing.tensors(CASE))
    self.assert_right(CASE, CASE.arguments(), result)

  def test_a_variable_as_filter_is_read_when_the_function_runs(self):
    filter, out_backprop = testing.tensors(CASE)
    variable = tf.Variable(tf.zeros_like(filter))
    traced = tf.function(lambda: call(CASE, filter=variable, out_backprop=out_backprop))
    np.testing.assert_array_equal(traced(), np.zeros(CASE.input_sizes))
    variable.assign(filter)
    self.assert_right(CASE, CASE.arguments(), traced())

  def test_name_names_the_results_op(self):
    @tf.function
    def traced(filter, out_backprop):
      result = call(CASE, filter=filter, out_backprop=out_backprop, name="upsampled")
      self.assertEqual(result.name, "upsampled:0")
      return result

    graph = traced.get_concrete_function(*testing.tensors(CASE)).graph
    self.assertEqual(graph.get_tensor_by_name("upsampled:0").shape, CASE.input_sizes)


class InsideACompiledFunctionTest(testing.OpTestCase):
  @parameterized.named_parameters(*CASES)
  def test_with_static_shapes(self, case):
    @tf.function(jit_compile=True)
    def compiled(filter, out_backprop):
      result = call(case, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape, case.input_sizes)
      return result

    self.assert_right(case, case.arguments(), compiled(*testing.tensors(case)))

  @parameterized.named_parameters(*CASES)
  def test_with_an_unknown_batch(self, case):
    @tf.function(
      jit_compile=True,
      input_signature=[
        tf.TensorSpec(case.filter_shape, case.dtype),
        tf.TensorSpec([None, *case.out_backprop_shape[1:]], case.dtype),
      ],
    )
    def compiled(filter, out_backprop):
      sizes = tf.stack([tf.shape(out_backprop)[0], *case.input_sizes[1:]])
      return call(case, input_sizes=sizes, filter=filter, out_backprop=out_backprop)

    self.assert_right(case, case.arguments(), compiled(*testing.tensors(case)))

  @parameterized.product(case=(CASE, DILATED, STRIDED), rank_known=(True, False))
  def test_with_nothing_known(self, case, rank_known):
    shape = [None] * 5 if rank_known else None

    @tf.function(
      jit_compile=True,
      input_signature=[
        tf.TensorSpec([5] if rank_known else None, tf.int32),
        tf.TensorSpec(shape, case.dtype),
        tf.TensorSpec(shape, case.dtype),
      ],
    )
    def compiled(input_sizes, filter, out_backprop):
      return call(case, input_sizes=input_sizes, filter=filter, out_backprop=out_backprop)

    sizes = tf.constant(case.input_sizes)
    self.assert_right(case, case.arguments(), compiled(sizes, *testing.tensors(case)))

  @parameterized.named_parameters(*CASES)
  def test_with_the_shape_of_an_input_of_unknown_size(self, case):
    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([None] * 5, case.dtype)] * 3)
    def compiled(like, filter, out_backprop):
      return call(case, input_sizes=tf.shape(like), filter=filter, out_backprop=out_backprop)

    like = tf.zeros(case.input_sizes, case.dtype)
    self.assert_right(case, case.arguments(), compiled(like, *testing.tensors(case)))

  @parameterized.parameters(True, False, "auto")
  def test_in_a_nested_function_and_a_loop(self, mode):
    @tf.function
    def nested(filter, out_backprop):
      return call(DILATED, filter=filter, out_backprop=out_backprop)

    @tf.function(jit_compile=True)
    def compiled(filter, out_backprop):
      total = tf.zeros(DILATED.input_sizes, DILATED.dtype)
      for _ in tf.range(3):
        total += nested(filter, out_backprop)
      return total / 3

    with tf_conv3d_grad.jit_compile(mode):
      result = compiled(*testing.tensors(DILATED))
    self.assert_right(DILATED, DILATED.arguments(), result)


class V1GraphTest(testing.OpTestCase):
  def run_in_session(self, build, feeds):
    """Runs what `build` returns, given placeholders, in a session of its own graph."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
      placeholders = [
        tf.compat.v1.placeholder(value.dtype, shape) for value, shape in feeds
      ]
      fetch = build(*placeholders)
      values = [value.numpy() for value, _ in feeds]
      return session.run(fetch, dict(zip(placeholders, values)))

  @parameterized.named_parameters(*CASES)
  def test_with_static_shapes(self, case):
    def build(filter, out_backprop):
      result = call(case, filter=filter, out_backprop=out_backprop)
      self.assertEqual(result.shape, case.input_sizes)
      return result

    feeds = [(tensor, tensor.shape) for tensor in testing.tensors(case)]
    self.assert_right(case, case.arguments(), self.run_in_session(build, feeds))

  @parameterized.product(case=(CASE, DILATED, STRIDED), rank=(5, None))
  def test_with_nothing_known(self, case, rank):
    def build(input_sizes, filter, out_backprop):
      return call(case, input_sizes=input_sizes, filter=filter, out_backprop=out_backprop)

    shape = None if rank is None else [None] * rank
    feeds = [(tensor, shape) for tensor in testing.tensors(case)]
    feeds.insert(0, (tf.constant(case.input_sizes, tf.int64), None if rank is None else [rank]))
    self.assert_right(case, case.arguments(), self.run_in_session(build, feeds))

  @parameterized.product(case=(CASE, DILATED, STRIDED), mode=(True, False, "auto"))
  def test_the_result_can_be_fetched_by_name(self, case, mode):
    def build(filter, out_backprop):
      with tf_conv3d_grad.jit_compile(mode):
        result = call(case, filter=filter, out_backprop=out_backprop, name="name")
      self.assertEqual(result.name, "name:0")
      return "name:0"

    feeds = [(tensor, tensor.shape) for tensor in testing.tensors(case)]
    self.assert_right(case, case.arguments(), self.run_in_session(build, feeds))

  def test_a_name_is_put_into_its_scope_and_made_unique(self):
    with tf.Graph().as_default(), tf.name_scope("decoder"):
      filter, out_backprop = testing.tensors(CASE)
      first = call(CASE, filter=filter, out_backprop=out_backprop, name="name")
      second = call(CASE, filter=filter, out_backprop=out_backprop, name="name")
    self.assertEqual(first.name, "decoder/name:0")
    self.assertEqual(second.name, "decoder/name_1:0")

  def test_two_sessions_and_graphs_do_not_mix(self):
    for _ in range(2):
      feeds = [(tensor, tensor.shape) for tensor in testing.tensors(DILATED)]

      def build(filter, out_backprop):
        return call(DILATED, filter=filter, out_backprop=out_backprop)

      self.assert_right(DILATED, DILATED.arguments(), self.run_in_session(build, feeds))


class LoopsTest(testing.OpTestCase):
  """Each loop eagerly, traced and compiled."""

  STACK = 3
  WAYS = {
    "eager": lambda function: function,
    "traced": tf.function,
    "compiled": lambda function: tf.function(function, jit_compile=True),
  }

  def stacked(self, case):
    """Returns tensors of several seeds along a new leading axis, and the exact results."""
    pairs = [testing.tensors(case, seed) for seed in range(self.STACK)]
    return tf.stack([filter for filter, _ in pairs]), tf.stack([dy for _, dy in pairs])

  def assert_stack_right(self, case, results):
    self.assertEqual(results.shape, (self.STACK, *case.input_sizes))
    for seed in range(self.STACK):
      self.assert_right(case, case.arguments(seed), results[seed])

  @parameterized.product(case=(CASE, DILATED), way=("eager", "traced", "compiled"))
  def test_while_loop(self, case, way):
    def loop(filters, out_backprops):
      def body(i, results):
        result = call(case, filter=filters[i], out_backprop=out_backprops[i])
        return i + 1, tf.tensor_scatter_nd_update(results, [[i]], result[None])

      start = tf.zeros((self.STACK, *case.input_sizes), case.dtype)
      return tf.while_loop(lambda i, _: i < self.STACK, body, (0, start))[1]

    self.assert_stack_right(case, self.WAYS[way](loop)(*self.stacked(case)))

  @parameterized.product(case=(CASE, DILATED), way=("eager", "traced", "compiled"))
  def test_map_fn(self, case, way):
    def mapped(filters, out_backprops):
      return tf.map_fn(
        lambda pair: call(case, filter=pair[0], out_backprop=pair[1]),
        (filters, out_backprops),
        fn_output_signature=case.dtype,
      )

    self.assert_stack_right(case, self.WAYS[way](mapped)(*self.stacked(case)))

  @parameterized.product(
    case=(CASE, DILATED), way=("eager", "traced", "compiled"), mode=(True, False, "auto")
  )
  def test_vectorized_map(self, case, way, mode):
    def vectorized(filters, out_backprops):
      return tf.vectorized_map(
        lambda pair: call(case, filter=pair[0], out_backprop=pair[1]), (filters, out_backprops)
      )

    with tf_conv3d_grad.jit_compile(mode):
      self.assert_stack_right(case, self.WAYS[way](vectorized)(*self.stacked(case)))

  @parameterized.product(case=(CASE, DILATED), way=("eager", "traced", "compiled"))
  def test_vectorized_map_over_out_backprop_alone(self, case, way):
    filter, _ = testing.tensors(case)
    _, out_backprops = self.stacked(case)

    def vectorized(filter, out_backprops):
      return tf.vectorized_map(
        lambda out_backprop: call(case, filter=filter, out_backprop=out_backprop), out_backprops
      )

    results = self.WAYS[way](vectorized)(filter, out_backprops)
    for seed in range(self.STACK):
      arguments = {**case.arguments(seed), "filter": filter.numpy()}
      self.assert_right(case, arguments, results[seed])


class JitCompileTest(testing.OpTestCase):
  @parameterized.product(case=(CASE, DILATED, STRIDED), mode=(True, False, "auto"))
  def test_every_mode_gives_the_same_result(self, case, mode):
    with tf_conv3d_grad.jit_compile(mode):
      self.assert_right(case, case.arguments(), call(case))
      traced = tf.function(lambda: call(case))
      self.assert_right(case, case.arguments(), traced())

  @parameterized.parameters(CASE, DILATED, STRIDED)
  def test_true_always_compiles_and_false_never_does(self, case):
    with tf_conv3d_grad.jit_compile(True):
      self.assertTrue(compiles(case))
    with tf_conv3d_grad.jit_compile(False):
      self.assertFalse(compiles(case))

  def test_the_mode_ends_with_its_block(self):
    with tf_conv3d_grad.jit_compile(True):
      with tf_conv3d_grad.jit_compile(False):
        self.assertFalse(compiles())
      self.assertTrue(compiles())
      with self.assertRaises(ZeroDivisionError), tf_conv3d_grad.jit_compile(False):
        raise ZeroDivisionError
      self.assertTrue(compiles())

  def test_the_mode_is_the_threads_own(self):
    inside = []

    def other():
      with tf_conv3d_grad.jit_compile(False):
        inside.append(compiles())

    with tf_conv3d_grad.jit_compile(True):
      thread = threading.Thread(target=other)
      thread.start()
      thread.join()
      inside.append(compiles())
    self.assertEqual(inside, [False, True])

  def test_another_thread_has_the_default(self):
    default = compiles()
    inside = []
    with tf_conv3d_grad.jit_compile(not default):
      thread = threading.Thread(target=lambda: inside.append(compiles()))
      thread.start()
      thread.join()
    self.assertEqual(inside, [default])

  @parameterized.parameters("yes", None, 2, "AUTO ")
  def test_another_mode_is_refused(self, mode):
    with self.assertRaisesRegex(ValueError, "mode"):
      tf_conv3d_grad.jit_compile(mode)  # before any block begins


class EnvironmentVariableTest(parameterized.TestCase):
  def set(self, value):
    self.enter_context(mock.patch.dict(os.environ, {mode.ENVIRONMENT_VARIABLE: value}))

  @parameterized.parameters(
    ("True", True), ("1", True), ("false", False), ("0", False)
  )
  def test_sets_the_default_of_the_process(self, value, expected):
    self.set(value)
    self.assertEqual(compiles(), expected)
    with tf_conv3d_grad.jit_compile(not expected):
      self.assertEqual(compiles(), not expected)
    self.assertEqual(compiles(), expected)

  def test_auto_is_the_default(self):
    self.set("auto")
    self.assertEqual(mode.current(), "auto")
    del os.environ[mode.ENVIRONMENT_VARIABLE]
    self.assertEqual(mode.current(), "auto")

  @parameterized.parameters("", " ", "\t")
  def test_one_that_is_empty_counts_as_not_set(self, value):
    self.set(value)
    self.assertEqual(mode.current(), "auto")


if __name__ == "__main__":
  absltest.main()
