"""What explain() says of a call."""

import dataclasses
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import explain
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.planning import explanation
from tf_conv3d_grad.tensorflow import xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment


class ExplainTest(parameterized.TestCase):
  def test_it_gives_arithmetic_bytes_and_choices_and_prints_them(self):
    case = Case.parse("mb1_id16_ic4oc8_k3s2d1_ndhwc_f32")
    explanation = explain(**case.arguments(0))
    self.assertEqual(explanation.flops, case.flops)
    self.assertEqual(explanation.bytes, cost.tensor_bytes(explanation.problem))
    text = str(explanation)
    words = ("GFLOP", "lowering", "in a tf.function", "inside jit_compile=True", "overlap_add")
    for word in (*words, "predicted"):
      self.assertIn(word, text)

  def test_the_numbers_are_in_units_of_a_thousand_million_and_of_two_to_the_twenty(self):
    filter = tf.TensorSpec([1, 1, 1, 64, 64], tf.float32)  # 16 KiB
    volume = tf.TensorSpec([1, 64, 64, 64, 64], tf.float32)  # 64 MiB, as its result
    text = str(explain(volume, filter, [1] * 5, "SAME", op="Conv3D"))
    self.assertIn("2.15 GFLOP, 128 MiB of tensors", text)
    columns = cost.Cost(1.5e-3, 3 << 19)
    offer = explain(volume, filter, [1] * 5, "SAME", op="Conv3D").called[0]
    with mock.patch.object(explanation, "_choices", return_value=(offer._replace(cost=columns),)):
      text = str(explain(volume, filter, [1] * 5, "SAME", op="Conv3D"))
    self.assertRegex(text, r"called .* 1\.5 MiB +1\.5 ms")

  def test_it_names_the_library_of_tensorflows_kernels(self):
    explained = explain(**Case.parse("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32").arguments())
    for device, onednn, name in (
      ("GPU", False, "on a GPU with cuDNN"),
      ("CPU", True, "on a CPU with oneDNN"),
      ("CPU", False, "on a CPU with Eigen"),
    ):
      where = Environment(device, onednn, in_xla=False, mode="auto")
      self.assertIn(f"{name}, ", str(dataclasses.replace(explained, environment=where)))

  def test_it_says_how_much_is_computed_at_a_time(self):
    grouped = Case.parse("mb1_id8_ic4oc8g2_k3s1d1_ndhwc_f32_fwd")
    texts = str(explain(op="Conv3D", **grouped.arguments())).splitlines()
    (row,) = (line for line in texts if line.startswith("called") and " kernel " in line)
    self.assertTrue(row.endswith("float32 NDHWC, group by group"), row)
    whole = Case.parse("mb1_id8_ic4oc8_k3s1d1_ndhwc_f32_fwd")
    self.assertNotIn("group by group", str(explain(op="Conv3D", **whole.arguments())))

  def test_it_says_whether_onednn_runs_inside_of_xla_and_why_not(self):
    with mock.patch.dict("os.environ", {xla_onednn.ENVIRONMENT_VARIABLE: "0"}):
      explanation = explain(**Case.parse("mb1_id16_ic4oc8_k3s2d1_ndhwc_f32").arguments(0))
      text = str(explanation)
    self.assertIn("no oneDNN inside of XLA: TF_CONV3D_GRAD_XLA_ONEDNN is 0", text)
    self.assertNotIn("oneDNN in XLA", {choice.lowering.name for choice in explanation.inside_jit})
    double = explain(**Case.parse("mb1_id16_ic4oc8_k3s2d1_ndhwc_f64").arguments(0))
    self.assertIn("no oneDNN inside of XLA: it has no float64", str(double))

  def test_what_is_known_of_one_argument_settles_the_others(self):
    explanation = explain(
      [2, 8, 8, 8, 4],
      tf.TensorSpec([3, 3, 3, 4, 8], tf.float32),
      tf.TensorSpec([None, 8, 8, 8, 8], tf.float32),
      [1] * 5,
      "SAME",
    )
    self.assertEqual(explanation.problem.batch, 2)

  @parameterized.parameters((0, 8, 0), (4, 0, 4))
  def test_no_channels(self, inner, outer, channels):
    filter = tf.TensorSpec([3, 3, 3, inner, outer], tf.float32)
    out_backprop = tf.TensorSpec([1, 4, 4, 4, outer], tf.float32)
    explanation = explain([1, 4, 4, 4, channels], filter, out_backprop, [1] * 5, "SAME")
    self.assertEqual(explanation.flops, 0)
    self.assertIn("inside jit_compile=True", str(explanation))

  def test_input_sizes_may_hold_tensors(self):
    explanation = explain(
      [tf.constant(2), 8, 8, tf.constant(8), 4],
      tf.ones([3, 3, 3, 4, 8]),
      tf.ones([2, 8, 8, 8, 8]),
      [1] * 5,
      "SAME",
    )
    self.assertEqual(explanation.problem.batch, 2)

  def test_it_says_what_is_wrong_with_the_arguments(self):
    with self.assertRaisesRegex(ValueError, "padding"):
      explain([1, 4, 4, 4, 1], tf.ones([1, 1, 1, 1, 1]), tf.ones([1, 4, 4, 4, 1]), [1] * 5, "same")

  def test_the_rows_are_the_choices_the_one_taken_first(self):
    explanation = explain(**Case.parse("mb1_id8_ic4oc4_k3s1d1_ndhwc_f32").arguments(0))
    _, _, _, *rows = str(explanation).splitlines()
    choices = [*explanation.called, *explanation.in_graph, *explanation.inside_jit]
    self.assertLen(rows, len(choices))
    for row, choice in zip(rows, choices):
      self.assertIn(f" {choice.lowering.name} ", row)
      by_itself = " yes " if choice.compiled else " no "
      inside = row.startswith("inside jit_compile=True")
      self.assertIn(" with the rest " if inside else by_itself, row)
    self.assertTrue(rows[0].startswith("called  "), rows[0])
    self.assertIs(explanation.chosen, explanation.called[0])
    names = [choice.lowering.name for choice in explanation.called]
    self.assertContainsSubset({"kernel", "overlap_add"}, names)

  def test_of_an_empty_result_it_says_that_nothing_runs(self):
    none = Case.parse("mb0_id8_ic4oc4_k3s1d1_ndhwc_f32")
    self.assertIn("none of these runs", str(explain(**none.arguments(0))))
    some = dataclasses.replace(none, batch=1)
    self.assertNotIn("none of these runs", str(explain(**some.arguments(0))))

  @parameterized.parameters((8, False), (48, True))
  def test_a_graph_may_compile_what_eager_code_calls_as_it_is(self, length, compiled):
    case = Case.parse(f"mb1_id{length}_ic1oc24_k3s1d1_ndhwc_f32")
    explanation = explain(**case.arguments(0))
    self.assertFalse(explanation.chosen.compiled)
    self.assertEqual(explanation.in_graph[0].compiled, compiled)


if __name__ == "__main__":
  absltest.main()
