"""Which calls oneDNN's kernels cannot be given."""

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import onednn
from tf_conv3d_grad.problem.functions import ALL, BACKPROP_FILTER, BACKPROP_INPUT, CONV3D

ARE_QUICK = True


def problem_of(text):
  return validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments())[0]


class OnednnTest(parameterized.TestCase):
  @parameterized.parameters(
    ("mb1_id5x5x1_ic1oc4_k1x1x3s1d1_ndhwc_f32", True),
    ("mb1_id5x5x7_ic1oc4_k1x1x7s1d1_ndhwc_f32_valid", True),  # the output is what counts
    ("mb1_id5x5x1_ic4oc4g4_k1x1x3s1d1_ndhwc_f32", True),  # one in channel a group
    ("mb1_id5x5x1_ic2oc4_k1x1x3s1d1_ndhwc_f32", False),
    ("mb1_id5x5x1_ic1oc4_k3x3x1s1d1_ndhwc_f32", False),  # one tap along width
    ("mb1_id1x1x5_ic1oc4_k3s1d1_ndhwc_f32", False),  # five cells wide
    ("mb1_id5x5x2_ic1oc4_k3s1d1_ndhwc_f32", False),
    ("mb1_id5x5x7_ic1oc4_k1x1x8s1d1_ndhwc_f32_valid", False),  # an empty output
  )
  def test_is_one_wide(self, text, expected):
    problem = problem_of(text)
    found = {function.name: onednn.is_one_wide(function, problem) for function in ALL}
    self.assertEqual(
      found, {"conv3d": expected, "backprop_input": False, "backprop_filter": expected}
    )

  @parameterized.parameters(
    ("mb1_id3x9x9_ic2oc4_k3s1d1_ndhwc_bf16", False),
    ("mb1_id3x9x9_ic2oc4_k2s1d2_ndhwc_bf16", False),  # 3 cells long
    ("mb1_id3x9x9_ic2oc4_k3s1d2_ndhwc_bf16", True),  # 5 cells long
    ("mb1_id9x9x3_ic2oc4_k4s1d1_ndhwc_bf16", True),
  )
  def test_is_beyond(self, text, expected):
    problem = problem_of(text)
    for function in (CONV3D, BACKPROP_FILTER):
      self.assertEqual(onednn.is_beyond(function, problem), expected)
    self.assertFalse(onednn.is_beyond(BACKPROP_INPUT, problem))

  def test_what_is_not_known_is_not_said(self):
    found = []

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([1, 3, 3, None, 1], tf.float32)])
    def call(volume):
      case = Case.parse("mb1_id3x3x1_ic1oc2_k3s1d2_ndhwc_f32_fwd")
      problem = validation.validate(CONV3D, **{**case.arguments(), "input": volume})[0]
      found.extend((onednn.is_one_wide(CONV3D, problem), onednn.is_beyond(CONV3D, problem)))
      return volume

    call(tf.ones([1, 3, 3, 1, 1]))
    self.assertEqual(found, [False, True])  # beyond the other two axes


if __name__ == "__main__":
  absltest.main()
