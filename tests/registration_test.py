"""A new way of computing is one file and one line: CONTRIBUTING.md's example, added and removed."""

import re
import types
from unittest import mock

import tensorflow as tf
from absl.testing import absltest

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad import lowering
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.planning import policy

POINTWISE = Case.parse("mb2_id4x3x5_ic3oc2_k1s1d1_ncdhw_f32")
OTHER = Case.parse("mb2_id4x3x5_ic3oc2_k3s1d1_ncdhw_f32")


def example():
  """Returns the lowering that the guide shows, as a module."""
  text = (testing.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
  (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  module = types.ModuleType("pointwise")
  exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
  return module


class RegistrationTest(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    policy.forget()
    self.addCleanup(policy.forget)
    self.pointwise = example().Pointwise()
    self.calls = []
    compute = self.pointwise.backprop_input

    def counted(*arguments):
      self.calls.append(arguments)
      return compute(*arguments)

    self.enter_context(mock.patch.object(self.pointwise, "backprop_input", counted))

  def call(self, case):
    arguments = case.arguments()
    function = tf.function(
      lambda filter, out_backprop: tf_conv3d_grad.Conv3DBackpropInputV2(
        case.input_sizes, filter, out_backprop, **case.attributes()
      ),
      jit_compile=True,
    )
    self.assert_right(case, arguments, function(*testing.tensors(case)))

  def test_registered_it_computes_what_it_is_the_cheapest_for(self):
    with mock.patch.object(lowering, "REGISTERED", [self.pointwise, *lowering.REGISTERED]):
      self.call(POINTWISE)
      self.assertLen(self.calls, 1)
      self.call(OTHER)
      self.assertLen(self.calls, 1)
      explanation = tf_conv3d_grad.explain(**POINTWISE.arguments())
      self.assertIn("pointwise", str(explanation))

  def test_removed_it_is_gone(self):
    self.call(POINTWISE)
    self.assertEmpty(self.calls)
    self.assertNotIn("pointwise", str(tf_conv3d_grad.explain(**POINTWISE.arguments())))


if __name__ == "__main__":
  absltest.main()
