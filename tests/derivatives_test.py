"""First and second derivatives, in every way of calling.

The op is linear in `filter` and in `out_backprop`, and so are its derivatives: with an upstream
gradient `t`, of the shape of the result,

    d/d filter       = conv3d_backprop_filter(t, out_backprop)
    d/d out_backprop = conv3d(t, filter)

and the derivatives of these two are again one of the three convolutions.
"""

import contextlib
import functools
import itertools
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import DATA_FORMATS, Case, random_case
from tf_conv3d_grad.conformance.direction import BWD_D
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.tensorflow import private

# Derivatives are other convolutions, and of the second ones some are sums of two, each rounded.
LIMITS = {"tolerances": {"float32": 5e-6, "float64": 2e-13}, "roundings": 3.0}

GROUPED_DILATED = Case.parse("mb2_id6x5x7_ic4oc6g2_k3x2x3s1d1x2x2_ncdhw_f64_valid")
STRIDED = Case.parse("mb2_id5x4x6_ic3oc2_k2x3x3s2x1x3d1_ndhwc_f32")
UNEQUAL_DILATIONS = Case.parse("mb1_id10_ic2oc3_k3s1d1x2x1_ndhwc_f32_valid")
STRIDE_BEYOND_TAPS = Case.parse("mb1_id9_ic2oc3_k1s3d1_ndhwc_bf16")
HALF = Case.parse("mb2_id5x4x6_ic4oc2g2_k2x3x3s2x1x3d2x1x1_ncdhw_f16")
CASES = (GROUPED_DILATED, STRIDED, UNEQUAL_DILATIONS, STRIDE_BEYOND_TAPS, HALF)


def call(case, filter, out_backprop, input_sizes=None, name=None):
  sizes = list(case.input_sizes) if input_sizes is None else input_sizes
  return tf_conv3d_grad.Conv3DBackpropInputV2(
    sizes, filter, out_backprop, name=name, **case.attributes()
  )


def first_derivatives(case, filter, out_backprop, t, input_sizes=None):
  """Returns the derivatives in filter and out_backprop, given the upstream gradient."""
  with tf.GradientTape() as tape:
    tape.watch((filter, out_backprop))
    result = call(case, filter, out_backprop, input_sizes)
  return tape.gradient(result, (filter, out_backprop), output_gradients=t)


def both_derivatives(case, filter, out_backprop, t, u, v, input_sizes=None):
  """Returns the two first derivatives and three second ones.

  The second ones are how <u, d/d filter> + <v, d/d out_backprop> depends on filter, out_backprop
  and t.
  """
  with tf.GradientTape() as tape:
    tape.watch((filter, out_backprop, t))
    first = first_derivatives(case, filter, out_backprop, t, input_sizes)
  second = tape.gradient(first, (filter, out_backprop, t), output_gradients=(u, v))
  return (*first, *second)


def exact_first(case, filter, out_backprop, t):
  return (
    oracle.conv3d_backprop_filter(case, t, out_backprop),
    oracle.conv3d(case, t, filter),
  )


def exact_both(case, filter, out_backprop, t, u, v):
  return (
    *exact_first(case, filter, out_backprop, t),
    oracle.conv3d_backprop_filter(case, t, v),
    oracle.conv3d(case, t, u),
    oracle.conv3d_backprop_input(case, u, out_backprop)
    + oracle.conv3d_backprop_input(case, filter, v),
  )


def operands(case, seed=0):
  """Returns filter, out_backprop, t, and u and v of the shapes of the first two, as arrays."""
  arguments = case.arguments(seed)
  return (
    arguments["filter"],
    arguments["out_backprop"],
    testing.random_array(case, case.input_sizes, seed + 1),
    testing.random_array(case, case.filter_shape, seed + 2),
    testing.random_array(case, case.out_backprop_shape, seed + 3),
  )


def eager(function, case, values):
  return function(case, *map(tf.constant, values))


def graph(function, case, values):
  traced = tf.function(lambda *tensors: function(case, *tensors), autograph=False)
  return traced(*map(tf.constant, values))


def compiled(function, case, values):
  traced = tf.function(
    lambda *tensors: function(case, *tensors), autograph=False, jit_compile=True
  )
  return traced(*map(tf.constant, values))


def nothing_known(function, case, values, jit_compile=None, rank=None):
  shape = None if rank is None else [None] * rank

  @tf.function(
    autograph=False,
    jit_compile=jit_compile,
    input_signature=[
      tf.TensorSpec(None if rank is None else [5], tf.int32),
      *[tf.TensorSpec(shape, case.dtype)] * len(values),
    ],
  )
  def traced(input_sizes, *tensors):
    return function(case, *tensors, input_sizes=input_sizes)

  return traced(tf.constant(case.input_sizes), *map(tf.constant, values))


def sizes_unknown(function, case, values):
  return nothing_known(function, case, values, rank=5)


def compiled_sizes_unknown(function, case, values):
  return nothing_known(function, case, values, jit_compile=True, rank=5)


def unknown_batch(function, case, values):
  """Only the batch is unknown: the result's static shape is there to be trusted otherwise."""
  batched = [case.input_sizes, case.out_backprop_shape]

  @tf.function(
    autograph=False,
    input_signature=[
      tf.TensorSpec([None, *value.shape[1:]] if value.shape in batched else value.shape, case.dtype)
      for value in values
    ],
  )
  def traced(*tensors):
    sizes = tf.stack([tf.shape(tensors[1])[0], *case.input_sizes[1:]])
    return function(case, *tensors, input_sizes=sizes)

  return traced(*map(tf.constant, values))


def unknown_depth(function, case, values, jit_compile=None):
  """Only depths are unknown."""
  place = 2 if case.data_format == "NCDHW" else 1

  def spec(value):
    shape = list(value.shape)
    if value.shape != case.filter_shape:
      shape[place] = None
    return tf.TensorSpec(shape, case.dtype)

  sizes = list(case.input_sizes)

  @tf.function(
    autograph=False,
    jit_compile=jit_compile,
    input_signature=[tf.TensorSpec([], tf.int32), *map(spec, values)],
  )
  def traced(depth, *tensors):
    input_sizes = tf.stack([*sizes[:place], depth, *sizes[place + 1 :]])
    return function(case, *tensors, input_sizes=input_sizes)

  return traced(tf.constant(sizes[place]), *map(tf.constant, values))


def compiled_unknown_depth(function, case, values):
  return unknown_depth(function, case, values, jit_compile=True)


def in_mode(mode):
  def way(function, case, values):
    with tf_conv3d_grad.jit_compile(mode):
      return eager(function, case, values)

  return way


WAYS = {
  "eager": eager,
  "graph": graph,
  "compiled": compiled,
  "unknown_batch": unknown_batch,
  "unknown_depth": unknown_depth,
  "compiled_unknown_depth": compiled_unknown_depth,
  "sizes_unknown": sizes_unknown,
  "nothing_known": nothing_known,
  "compiled_sizes_unknown": compiled_sizes_unknown,
  "always_compiled": in_mode(True),
  "never_compiled": in_mode(False),
}


def named(cases, ways):
  """Yields test name, case and way of each case in each way."""
  for case, way in itertools.product(cases, ways):
    yield f"_{way}_{case}", case, way


def problems_of_every_kind():
  """Yields test name, case, way and seed."""
  kinds = itertools.product(
    testing.DTYPES, DATA_FORMATS, ("SAME", "VALID"), (False, True), (False, True)
  )
  for seed, (dtype, data_format, padding, dilated, grouped) in enumerate(kinds):
    case = random_case(
      np.random.default_rng(seed),
      direction=BWD_D,
      max_size=6,
      dtype=dtype,
      data_format=data_format,
      padding=padding,
      dilated=dilated,
      grouped=grouped,
    )
    way = tuple(WAYS)[seed % len(WAYS)]
    yield f"_{way}_{case}", case, way, seed


class DerivativesTestCase(testing.OpTestCase):
  def assert_all_accurate(self, case, results, exact):
    self.assertLen(results, len(exact))
    for number, (result, value) in enumerate(zip(results, exact)):
      with self.subTest(derivative=number):
        self.assertIsNotNone(result)
        self.assert_accurate(case, result, value, **LIMITS)

  def assert_first_and_second(self, case, way, seed=0):
    values = operands(case, seed)
    self.assert_all_accurate(
      case, WAYS[way](both_derivatives, case, values), exact_both(case, *values)
    )


def in_turn():
  """Yields what `named` does, each way twice: with one of the cases, and then with another."""
  for turn in range(2):
    for number, way in enumerate(WAYS):
      yield from named([CASES[(number + turn) % len(CASES)]], [way])


class EveryWayTest(DerivativesTestCase):
  @parameterized.named_parameters(in_turn())
  @testing.sample(len(WAYS))
  def test_first_and_second(self, case, way):
    self.assert_first_and_second(case, way)


class EveryKindTest(DerivativesTestCase):
  """Every dtype, format, padding, dilated or not, grouped or not; the ways take turns."""

  @parameterized.named_parameters(problems_of_every_kind())
  def test_first_and_second(self, case, way, seed):
    self.assert_first_and_second(case, way, seed)


class UnequalDilationsTest(DerivativesTestCase):
  """TensorFlow infers the wrong static shape here, which must not matter."""

  @parameterized.named_parameters(
    named(
      map(
        Case.parse,
        (
          "mb1_id10_ic2oc3_k3s1d1x2x1_ndhwc_f32_valid",
          "mb1_id10_ic2oc3_k3s1d1x1x3_ncdhw_f64_valid",
          "mb1_id11x10x9_ic4oc2g2_k2x3x2s1d3x2x1_ndhwc_f16_valid",
          "mb1_id9_ic2oc2_k2s1x2x1d1x1x2_ndhwc_f64_valid",
        ),
      ),
      ("graph", "compiled", "unknown_batch", "sizes_unknown"),
    )
  )
  def test_while_tracing(self, case, way):
    self.assert_first_and_second(case, way)


class StrideBeyondTheTapsTest(DerivativesTestCase):
  """With SAME, TensorFlow's own forward convolution may read other cells than its gradient."""

  @parameterized.named_parameters(
    named(
      map(
        Case.parse,
        (
          "mb1_id9_ic2oc3_k1s3d1_ndhwc_f64",
          "mb1_id12x9x8_ic2oc2_k1x2x1s4x3x2d1_ndhwc_f16",
          "mb1_id9x12x5_ic4oc2g2_k1x1x2s3x4x2d1x1x2_ncdhw_f32",
        ),
      ),
      ("eager", "compiled"),
    )
  )
  def test_derivatives_are_those_of_the_op(self, case, way):
    self.assert_first_and_second(case, way)


class EmptyTest(DerivativesTestCase):
  @parameterized.named_parameters(
    named(
      map(
        Case.parse,
        (
          "mb0_id4x5x6_ic2oc3_k3s2d1_ndhwc_f32",
          "mb2_id4x0x6_ic2oc3_k3s1d1_ndhwc_f64",
          "mb2_id4x5x6_ic0oc3_k3s1d1_ndhwc_f32",
          "mb2_id4x5x6_ic2oc0_k3s2d1_ncdhw_f32",
          "mb2_id4x5x6_ic2oc3_k3x0x3s1d1_ndhwc_f32",
          "mb1_id4_ic2oc3_k5s1d1_ndhwc_f32_valid",
          "mb2_id4_ic3oc1_k3x5x2s1d2x1x2_ndhwc_bf16_valid",
        ),
      ),
      ("eager", "compiled", "sizes_unknown", "compiled_sizes_unknown"),
    )
  )
  def test_derivatives_are_zeros_of_the_right_shape(self, case, way):
    self.assert_first_and_second(case, way)


class V1GraphTest(DerivativesTestCase):
  @parameterized.product(case=CASES, known=(True, False))
  def test_first_and_second(self, case, known):
    values = operands(case)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      filter, out_backprop, t, u, v = placeholders = [
        tf.compat.v1.placeholder(case.dtype, value.shape if known else None) for value in values
      ]
      sizes = tf.compat.v1.placeholder(tf.int64, [5] if known else None)
      result = call(case, filter, out_backprop, None if known else sizes)
      first = tf.compat.v1.gradients(result, (filter, out_backprop), grad_ys=t)
      second = tf.compat.v1.gradients(first, (filter, out_backprop, t), grad_ys=(u, v))
      feeds = {**dict(zip(placeholders, values)), sizes: np.array(case.input_sizes)}
      first, second = session.run((first, second), feeds)
    self.assert_all_accurate(case, (*first, *second), exact_both(case, *values))


class JacobianTest(DerivativesTestCase):
  # In float64, so that forming the exact one by unit vectors is exact enough.
  SMALL = Case.parse("mb1_id3x2x3_ic2oc2g2_k2x1x2s2x1x1d1x1x2_ncdhw_f64")

  def exact(self, case):
    """Returns the Jacobians in filter and out_backprop, one unit vector at a time."""
    filter, out_backprop = operands(case)[:2]

    def columns(shape, column):
      units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
      return np.stack([column(unit) for unit in units], axis=-1).reshape(*case.input_sizes, *shape)

    return (
      columns(
        case.filter_shape, lambda unit: oracle.conv3d_backprop_input(case, unit, out_backprop)
      ),
      columns(
        case.out_backprop_shape, lambda unit: oracle.conv3d_backprop_input(case, filter, unit)
      ),
    )

  def jacobian(self, case, filter, out_backprop, input_sizes=None, vectorized=True):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch((filter, out_backprop))
      result = call(case, filter, out_backprop, input_sizes)
    return tape.jacobian(result, (filter, out_backprop), experimental_use_pfor=vectorized)

  @parameterized.product(way=("eager", "graph", "compiled"), mode=(True, False, "auto"))
  def test_is_the_linear_map(self, way, mode):
    with tf_conv3d_grad.jit_compile(mode):
      results = WAYS[way](self.jacobian, self.SMALL, operands(self.SMALL)[:2])
    self.assert_all_accurate(self.SMALL, results, self.exact(self.SMALL))

  @parameterized.product(way=("eager", "graph"), mode=(True, False))
  def test_one_row_at_a_time(self, way, mode):
    one_by_one = functools.partial(self.jacobian, vectorized=False)
    with tf_conv3d_grad.jit_compile(mode):
      results = WAYS[way](one_by_one, self.SMALL, operands(self.SMALL)[:2])
    self.assert_all_accurate(self.SMALL, results, self.exact(self.SMALL))

  def test_with_nothing_known(self):
    results = sizes_unknown(self.jacobian, self.SMALL, operands(self.SMALL)[:2])
    self.assert_all_accurate(self.SMALL, results, self.exact(self.SMALL))

  def test_of_each_example_of_a_batch(self):
    case = Case.parse("mb3_id2x1x2_ic1oc1_k2x1x1s1d1_ndhwc_f64")
    filter, out_backprop = map(tf.constant, operands(case)[:2])
    with tf.GradientTape() as tape:
      tape.watch(out_backprop)
      result = call(case, filter, out_backprop)
    batch_jacobian = tape.batch_jacobian(result, out_backprop)
    whole = self.exact(case)[1]
    expected = np.stack([whole[i, ..., i, :, :, :, :] for i in range(case.batch)])
    np.testing.assert_allclose(batch_jacobian, expected, atol=1e-12)


class OtherWaysToDifferentiateTest(DerivativesTestCase):
  @parameterized.product(case=(STRIDED, GROUPED_DILATED), way=("eager", "graph", "compiled"))
  def test_forward(self, case, way):
    values = operands(case)
    filter, out_backprop, _, u, v = values

    def derivative(case, filter, out_backprop, t, u, v):
      del t
      with tf.autodiff.ForwardAccumulator((filter, out_backprop), (u, v)) as accumulator:
        result = call(case, filter, out_backprop)
      return (accumulator.jvp(result),)

    exact = oracle.conv3d_backprop_input(case, u, out_backprop) + oracle.conv3d_backprop_input(
      case, filter, v
    )
    self.assert_all_accurate(case, WAYS[way](derivative, case, values), (exact,))

  @parameterized.product(case=(STRIDED, GROUPED_DILATED), way=("eager", "graph", "compiled"))
  def test_forward_over_reverse(self, case, way):
    values = operands(case)
    filter, out_backprop, t, u, v = values

    def derivative(case, filter, out_backprop, t, u, v):
      with tf.autodiff.ForwardAccumulator((filter, out_backprop), (u, v)) as accumulator:
        first = first_derivatives(case, filter, out_backprop, t)
      return accumulator.jvp(first)

    exact = (oracle.conv3d_backprop_filter(case, t, v), oracle.conv3d(case, t, u))
    self.assert_all_accurate(case, WAYS[way](derivative, case, values), exact)

  @parameterized.parameters("eager", "graph", "compiled")
  def test_of_one_argument_alone(self, way):
    case = GROUPED_DILATED
    values = operands(case)[:3]
    for number in range(2):

      def derivative(case, filter, out_backprop, t, number=number):
        watched = (filter, out_backprop)[number]
        with tf.GradientTape() as tape:
          tape.watch(watched)
          result = call(case, filter, out_backprop)
        return (tape.gradient(result, watched, output_gradients=t),)

      exact = exact_first(case, *values)[number : number + 1]
      self.assert_all_accurate(case, WAYS[way](derivative, case, values), exact)

  def test_of_a_variable(self):
    filter, out_backprop, t = operands(STRIDED)[:3]
    variable = tf.Variable(filter)
    with tf.GradientTape() as tape:
      result = call(STRIDED, variable, out_backprop)
    gradient = tape.gradient(result, variable, output_gradients=tf.constant(t))
    exact = exact_first(STRIDED, filter, out_backprop, t)[0]
    self.assert_accurate(STRIDED, gradient, exact, **LIMITS)

  def test_input_sizes_has_no_derivative(self):
    filter, out_backprop = map(tf.constant, operands(STRIDED)[:2])
    sizes = tf.constant(STRIDED.input_sizes)
    with tf.GradientTape() as tape:
      tape.watch((filter, out_backprop))
      result = call(STRIDED, filter, out_backprop, sizes)
    self.assertIsNone(tape.gradient(result, sizes))

  def test_a_tape_can_be_asked_twice(self):
    values = operands(STRIDED)[:3]
    filter, out_backprop, t = map(tf.constant, values)
    with tf.GradientTape(persistent=True) as tape:
      tape.watch((filter, out_backprop))
      result = call(STRIDED, filter, out_backprop)
    for _ in range(2):
      results = tape.gradient(result, (filter, out_backprop), output_gradients=t)
      self.assert_all_accurate(STRIDED, results, exact_first(STRIDED, *values))

  @parameterized.parameters(True, False)
  def test_of_a_compiled_function_is_planned_for_xla(self, patched):
    # TensorFlow has XLA compile it, but does not say so while tracing it.
    values = operands(STRIDED)[:3]
    filter, out_backprop, t = map(tf.constant, values)
    with contextlib.ExitStack() as stack:
      if patched:
        stack.enter_context(tf_conv3d_grad.patch_tensorflow())
      op = private.raw_backprop_input if patched else tf_conv3d_grad.Conv3DBackpropInputV2

      @tf.function(jit_compile=True, autograph=False)
      def compiled_call(filter, out_backprop):
        return op(
          input_sizes=list(STRIDED.input_sizes),
          filter=filter,
          out_backprop=out_backprop,
          **STRIDED.attributes(),
        )

      choose = stack.enter_context(mock.patch.object(policy, "choose", wraps=policy.choose))
      with tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        result = compiled_call(filter, out_backprop)
      results = tape.gradient(result, (filter, out_backprop), output_gradients=t)
    planned = {call.args[0].name: call.args[2].in_xla for call in choose.call_args_list}
    self.assertTrue(planned["backprop_filter"] and planned["conv3d"], planned)
    self.assert_all_accurate(STRIDED, results, exact_first(STRIDED, *values))

  @parameterized.product(case=(STRIDED, GROUPED_DILATED), way=("eager", "graph", "compiled"))
  def test_through_a_loop(self, case, way):
    values = operands(case)[:3]

    def derivative(case, filter, out_backprop, t):
      with tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        _, total = tf.while_loop(
          lambda i, _: i < 3,
          lambda i, total: (i + 1, total + call(case, filter, out_backprop)),
          (0, tf.zeros(case.input_sizes, case.dtype)),
          maximum_iterations=3,
        )
      gradients = tape.gradient(total, (filter, out_backprop), output_gradients=t)
      return [gradient / 3 for gradient in gradients]

    self.assert_all_accurate(
      case, WAYS[way](derivative, case, values), exact_first(case, *values)
    )

  def test_through_map_fn_and_vectorized_map(self):
    case = GROUPED_DILATED
    values = operands(case)[:3]
    filter, out_backprop, t = map(tf.constant, values)
    for mapped in (tf.map_fn, tf.vectorized_map):
      with tf.GradientTape() as tape:
        tape.watch((filter, out_backprop))
        stack = tf.stack([out_backprop, 2 * out_backprop])
        results = mapped(lambda dy: call(case, filter, dy), stack)
      first, second = tape.gradient(
        results, (filter, out_backprop), output_gradients=tf.stack([t, t])
      )
      self.assert_all_accurate(case, (first / 3, second / 3), exact_first(case, *values))


if __name__ == "__main__":
  absltest.main()
