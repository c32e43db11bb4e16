"""Rules about arguments: a broken one is raised now, by the graph, or where XLA compiles it."""

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.arguments import checks

ARE_QUICK = True

UNKNOWN = tf.TensorSpec([], tf.int64)


def traced(function, **options):
  """Returns a function of an integer that only the run knows."""
  return tf.function(function, autograph=False, input_signature=[UNKNOWN], **options)


def before(operation):
  """Returns all operations that run before one."""
  found, todo = set(), [operation]
  while todo:
    each = todo.pop()
    former = {*each.control_inputs, *(tensor.op for tensor in each.inputs)} - found
    found |= former
    todo += former
  return found


class ChecksTest(parameterized.TestCase):
  def test_what_is_known_raises_at_once(self):
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, r"sizes must be 2: got \[3, 1\]"):
      checks.Checks().true(False, "sizes must be {}: got {}", 2, [3, 1])
    with tf.Graph().as_default(), self.assertRaisesRegex(ValueError, "batch must be 2: got 3"):
      checks.Checks().equal(3, 2, "batch must be 2: got {}", 3)
    checks.Checks().equal(2, 2, "batch must be 2: got {}", 2)

  def test_what_is_not_known_raises_when_the_graph_runs(self):
    @traced
    def guarded(given):
      rules = checks.Checks()
      rules.equal(given, 2, "batch must be 2: got {}", given)
      return rules.guard(tf.ones([]))[0]

    self.assertEqual(guarded(tf.constant(2, tf.int64)).numpy(), 1)
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "batch must be 2.*3"):
      guarded(tf.constant(3, tf.int64))

  def test_of_several_broken_rules_the_first_is_raised(self):
    names = ["one", "two", "three", "four"]

    def guarded(given):
      rules = checks.Checks()
      for name in names:
        rules.equal(given, 2, f"{name} must be 2: got {{}}", given)
      return rules.guard(tf.ones([]))[0]

    for _ in range(5):
      with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "one must be 2"):
        traced(guarded)(tf.constant(3, tf.int64))
    # A graph of TensorFlow 1 runs operations in any order that nothing forbids: it need not show.
    with tf.Graph().as_default() as graph:
      guarded(tf.compat.v1.placeholder(tf.int64, []))
      found = [each for each in graph.get_operations() if each.type == "If"]  # an assertion each
      self.assertLen(found, len(names))
      for former, latter in zip(found, found[1:]):
        self.assertIn(former, before(latter))

  @parameterized.parameters(
    {},
    {"given": 5, "needed": 4},
    {"given": -1, "needed": 4},
    {"given": 2**31, "needed": 0},
    {"given": 2**40, "needed": 4},
  )
  def test_what_xla_compiles_as_a_whole_does_not_compile_if_a_rule_is_broken(self, **numbers):
    def guarded(vector):
      rules = checks.Checks()
      rules.true(tf.equal(tf.size(vector), 2), "sizes must be two: got {}", 1, **numbers)
      return rules.guard(vector)[0] + 1

    compiled = tf.function(
      guarded,
      jit_compile=True,
      autograph=False,
      input_signature=[tf.TensorSpec([None], tf.float32)],
    )
    self.assertEqual(compiled(tf.ones([2])).numpy().tolist(), [2, 2])
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "sizes_must_be_two"):
      compiled(tf.ones([3]))


if __name__ == "__main__":
  absltest.main()
