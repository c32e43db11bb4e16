"""Small results that can be checked by hand."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case

# Of one axis: name, input length, filter, out_backprop, stride, dilation, padding, result.
AXES = (
  ("same", 4, [1, 1, 1], [1, 1, 1, 1], 1, 1, "SAME", [2, 3, 3, 2]),
  ("valid", 5, [1, 1, 1], [1, 1, 1], 1, 1, "VALID", [1, 2, 3, 2, 1]),
  ("pads_the_larger_half_behind", 4, [10, 1], [1, 2, 3, 4], 1, 1, "SAME", [10, 21, 32, 43]),
  ("taps_in_order", 3, [1, 2, 3], [7], 1, 1, "VALID", [7, 14, 21]),
  ("taps_in_order_same", 3, [1, 2, 3], [0, 1, 0], 1, 1, "SAME", [1, 2, 3]),
  ("stride_with_overlap", 5, [1, 1, 1], [1, 1, 1], 2, 1, "SAME", [1, 2, 1, 2, 1]),
  ("stride_of_the_taps", 4, [1, 2], [3, 5], 2, 1, "VALID", [3, 6, 5, 10]),
  ("stride_beyond_the_taps", 7, [2], [1, 2, 3], 3, 1, "VALID", [2, 0, 0, 4, 0, 0, 6]),
  ("stride_beyond_the_taps_same", 9, [2], [1, 2, 3], 3, 1, "SAME", [2, 0, 0, 4, 0, 0, 6, 0, 0]),
  ("stride_leaves_a_tail", 6, [1, 2], [1, 1], 3, 1, "VALID", [1, 2, 0, 1, 2, 0]),
  ("dilation", 7, [1, 2, 3], [1, 1, 1], 1, 2, "VALID", [1, 1, 3, 2, 5, 3, 3]),
  ("dilation_same", 4, [1, 2, 3], [1, 1, 1, 1], 1, 2, "SAME", [3, 3, 5, 5]),
  ("dilation_and_stride", 7, [1, 2], [1, 10], 2, 3, "VALID", [1, 0, 10, 2, 0, 20, 0]),
  ("dilation_shares_the_strides_factor", 6, [1, 2], [1, 10], 2, 2, "VALID", [1, 0, 12, 0, 20, 0]),
  ("filter_larger_than_input", 2, [1, 2, 3, 4, 5], [1, 10], 1, 1, "SAME", [23, 34]),
  ("dilated_filter_larger_than_input", 2, [1, 2, 3], [1, 10], 1, 3, "SAME", [2, 20]),
  ("single_cell", 1, [3], [5], 1, 1, "SAME", [15]),
)


def along(axis, line):
  """Returns the line as a tensor of rank 5 that is 1 long on all axes but one."""
  shape = [1] * 5
  shape[axis] = len(line)
  return np.reshape(line, shape).astype(np.float32)


def ones_in(axis, value):
  values = [1] * 5
  values[axis] = value
  return values


class AlongOneAxisTest(parameterized.TestCase):
  @parameterized.named_parameters(*AXES)
  def test_on_each_axis_in_each_format(self, n, filter, out_backprop, s, d, padding, result):
    for axis in range(3):
      for data_format, first in (("NDHWC", 1), ("NCDHW", 2)):
        with self.subTest(axis="DHW"[axis], data_format=data_format):
          dx = tf_conv3d_grad.Conv3DBackpropInputV2(
            input_sizes=ones_in(first + axis, n),
            filter=along(axis, filter),
            out_backprop=along(first + axis, out_backprop),
            strides=ones_in(first + axis, s),
            padding=padding,
            data_format=data_format,
            dilations=ones_in(first + axis, d),
          )
          np.testing.assert_array_equal(dx, along(first + axis, result))

  @parameterized.named_parameters(*AXES)
  def test_compiled(self, n, filter, out_backprop, s, d, padding, result):
    @tf.function(jit_compile=True, autograph=False)
    def compiled(filter, out_backprop):
      return tf_conv3d_grad.Conv3DBackpropInputV2(
        input_sizes=ones_in(2, n),
        filter=filter,
        out_backprop=out_backprop,
        strides=ones_in(2, s),
        padding=padding,
        dilations=ones_in(2, d),
      )

    dx = compiled(along(1, filter), along(2, out_backprop))
    np.testing.assert_array_equal(dx, along(2, result))


class AllOnesTest(parameterized.TestCase):
  @parameterized.product(dtype=testing.DTYPES, data_format=("NDHWC", "NCDHW"))
  def test_counts_the_terms_of_each_cell(self, dtype, data_format):
    # Three taps; three taps with stride 2; two taps 2 apart, padded by one cell on either side. The
    # axes multiply, and each of the 3 out channels counts.
    expected = 3 * np.einsum("d,h,w->dhw", [2, 3, 3, 2], [1, 2, 1, 2, 1], [1, 2, 2, 2, 1])
    last = data_format == "NDHWC"
    dx = tf_conv3d_grad.Conv3DBackpropInputV2(
      input_sizes=[2, 4, 5, 5, 2] if last else [2, 2, 4, 5, 5],
      filter=tf.ones([3, 3, 2, 2, 3], dtype),
      out_backprop=tf.ones([2, 4, 3, 5, 3] if last else [2, 3, 4, 3, 5], dtype),
      strides=[1, 1, 2, 1, 1] if last else [1, 1, 1, 2, 1],
      padding="SAME",
      data_format=data_format,
      dilations=[1, 1, 1, 2, 1] if last else [1, 1, 1, 1, 2],
    )
    expected = expected[None, ..., None] if last else expected[None, None]
    self.assertEqual(dx.dtype, dtype)
    np.testing.assert_array_equal(
      dx.numpy().astype(np.float64), np.broadcast_to(expected, dx.shape)
    )


class ChannelsTest(parameterized.TestCase):
  def call(self, input_sizes, filter, out_backprop):
    filter = np.asarray(filter, np.float32)
    return tf_conv3d_grad.Conv3DBackpropInputV2(
      input_sizes=[1, 1, 1, 1, input_sizes],
      filter=filter[None, None, None],
      out_backprop=np.asarray(out_backprop, np.float32)[None, None, None, None],
      strides=[1] * 5,
      padding="SAME",
    ).numpy().ravel()

  def test_a_single_cell_is_a_matrix_times_a_vector(self):
    np.testing.assert_array_equal(
      self.call(3, [[1, 2], [3, 4], [5, 6]], [10, 1]), [12, 34, 56]
    )

  def test_groups_split_both_kinds_of_channels_into_blocks(self):
    # Channels 0 and 1 belong to out channels 0 and 1, channels 2 and 3 to out channels 2 and 3.
    np.testing.assert_array_equal(
      self.call(4, [[1, 2, 3, 4], [5, 6, 7, 8]], [1, 10, 100, 1000]), [21, 65, 4300, 8700]
    )

  def test_depthwise_multiplies_each_channel_by_its_own_filter(self):
    np.testing.assert_array_equal(self.call(3, [[2, 3, 4]], [1, 10, 100]), [2, 30, 400])

  def test_depthwise_with_a_multiplier_adds_up_each_channels_own_out_channels(self):
    np.testing.assert_array_equal(self.call(2, [[1, 2, 3, 4]], [1, 10, 100, 1000]), [21, 4300])


class ImpulseTest(parameterized.TestCase):
  @parameterized.parameters("NDHWC", "NCDHW")
  def test_one_cell_of_out_backprop_draws_the_dilated_filter_once(self, data_format):
    filter = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2, 1, 1)
    out_backprop = np.zeros((1, 2, 2, 2, 1), np.float32)
    out_backprop[0, 1, 0, 1, 0] = 1
    # VALID, strides 3, 1, 2 and dilations 1, 2, 3: cell (1, 0, 1) starts at (3, 0, 2).
    expected = np.zeros((1, 5, 6, 6, 1), np.float32)
    for d in range(2):
      for h in range(3):
        for w in range(2):
          expected[0, 3 + d, 2 * h, 2 + 3 * w, 0] = filter[d, h, w, 0, 0]
    strides, dilations, input_sizes = [1, 3, 1, 2, 1], [1, 1, 2, 3, 1], [1, 5, 6, 6, 1]
    if data_format == "NCDHW":
      strides, dilations, input_sizes = (
        [values[0], values[4], *values[1:4]] for values in (strides, dilations, input_sizes)
      )
      out_backprop, expected = np.moveaxis(out_backprop, -1, 1), np.moveaxis(expected, -1, 1)
    dx = tf_conv3d_grad.Conv3DBackpropInputV2(
      input_sizes, filter, out_backprop, strides, "VALID", data_format, dilations
    )
    np.testing.assert_array_equal(dx, expected)


class EmptyTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("batch", [0, 4, 5, 6, 2], [3, 3, 3, 2, 3], [0, 4, 5, 6, 3]),
    ("input_axis", [1, 4, 0, 6, 2], [3, 3, 3, 2, 3], [1, 4, 0, 6, 3]),
    ("taps", [1, 4, 5, 6, 2], [3, 0, 3, 2, 3], [1, 4, 5, 6, 3]),
    ("in_channels", [1, 4, 5, 6, 0], [3, 3, 3, 0, 3], [1, 4, 5, 6, 3]),
    ("out_channels", [1, 4, 5, 6, 2], [3, 3, 3, 2, 0], [1, 4, 5, 6, 0]),
  )
  def test_nothing_to_add_up_gives_zeros(self, input_sizes, filter_shape, out_backprop_shape):
    for way in (lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)):
      dx = way(tf_conv3d_grad.Conv3DBackpropInputV2)(
        input_sizes=tf.constant(input_sizes),
        filter=tf.ones(filter_shape),
        out_backprop=tf.ones(out_backprop_shape),
        strides=[1] * 5,
        padding="SAME",
      )
      np.testing.assert_array_equal(dx, np.zeros(input_sizes, np.float32))

  def test_a_filter_that_does_not_fit_gives_zeros(self):
    dx = tf_conv3d_grad.Conv3DBackpropInputV2(
      [1, 4, 4, 4, 2], tf.ones([5, 3, 3, 2, 3]), tf.ones([1, 0, 2, 2, 3]), [1] * 5, "VALID"
    )
    np.testing.assert_array_equal(dx, np.zeros([1, 4, 4, 4, 2], np.float32))


class EmptyUnknownTest(testing.OpTestCase):
  @parameterized.product(
    case=(
      "mb0_id0_ic1oc1_k1s1d1_ndhwc_{}",
      "mb0_id3_ic2oc3_k3s2d1_ndhwc_{}",
      "mb0_id3_ic2oc3_k2s1d1_ncdhw_{}",
      "mb3_id4x2x9_ic1oc1_k3s5d1_ncdhw_{}_valid",
      "mb1_id4x2x9_ic1oc1_k3s2d1_ndhwc_{}_valid",
    ),
    dtype=("f16", "bf16", "f32", "f64"),
  )
  def test_no_samples_or_no_cells_and_nothing_known(self, case, dtype):
    case = Case.parse(case.format(dtype))
    arguments = case.arguments()
    filter, out_backprop = testing.tensors(case)

    def call(input_sizes, filter, out_backprop):
      with tf.GradientTape() as tape:
        tape.watch(out_backprop)
        result = tf_conv3d_grad.Conv3DBackpropInputV2(
          input_sizes, filter, out_backprop, **case.attributes()
        )
      return result, tape.gradient(result, out_backprop)

    unknown = tf.TensorSpec(None, filter.dtype)
    signature = [tf.TensorSpec(None, tf.int32), unknown, unknown]
    result, gradient = tf.function(call, input_signature=signature)(
      arguments["input_sizes"], filter, out_backprop
    )
    self.assertEqual(tuple(result.shape), case.input_sizes)
    self.assertFalse(np.any(result))
    self.assertEqual(gradient.shape, out_backprop.shape)

  @parameterized.product(
    case=("mb0_id1x1x2_ic1oc2_k1s1d1_ndhwc_{}_valid_fwd", "mb0_id3_ic2oc3_k3s2d1_ncdhw_{}_fwd"),
    dtype=("f16", "bf16", "f32", "f64"),
    known=([None] * 5, None),
  )
  def test_the_convolution_of_no_samples(self, case, dtype, known):
    case = Case.parse(case.format(dtype))
    arguments = case.arguments()
    operands = {name: tf.constant(arguments[name]) for name in ("input", "filter")}
    call = tf.function(lambda **named: tf_conv3d_grad.Conv3D(**{**arguments, **named}))
    result = call.get_concrete_function(
      **{name: tf.TensorSpec(known, each.dtype) for name, each in operands.items()}
    )(**operands)
    self.assertEqual(tuple(result.shape), case.out_backprop_shape)


if __name__ == "__main__":
  absltest.main()
