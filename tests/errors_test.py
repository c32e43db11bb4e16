"""Malformed calls raise in every way of calling, and never bring the process down.

The calls are made in child processes, so that an abort is seen as one.
"""

import os
import pathlib
import tempfile

from absl.testing import absltest, parameterized

from tests import malformed_calls, testing


def malformed(way):
  """Yields test name, name and call of every malformed call made in this way."""
  for name, call in malformed_calls.CALLS.items():
    if malformed_calls.is_made(way, call):
      yield f"_{name}", name, call


class ErrorsTestCase(parameterized.TestCase):
  """Makes the calls of one way, those that ask for too much memory all at once.

  One after the other these take long, because TensorFlow waits for memory to be freed.
  """

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.makers, cls.too_large = {}, {}
    cls.addClassCleanup(lambda: [maker.__exit__() for maker in cls.makers.values()])

  def outcome(self, way, name, call):
    maker = self.makers.setdefault(way, malformed_calls.Maker("this", way))
    if call.kind != malformed_calls.TOO_LARGE:
      return maker.outcomes([name])[name]
    if not self.too_large:
      kind = malformed_calls.TOO_LARGE
      names = [each for _, each, made in malformed(way) if made.kind == kind]
      self.too_large.update(maker.outcomes(names))
    return self.too_large[name]

  def assert_refused(self, way, name, call):
    outcome = self.outcome(way, name, call)
    self.assertIsNone(outcome.get("died"), f"{way}: the process died")
    if call.or_result and not outcome["exceptions"]:
      return
    expected = malformed_calls.expected_exceptions(way, call)
    self.assertTrue(
      set(expected) & set(outcome["exceptions"]),
      f"{way}: must raise {' or '.join(expected)}, got {outcome['exceptions'][:1]} "
      f"{outcome['message'][:500]}",
    )
    self.assertTrue(
      any(argument in outcome["message"] for argument in call.arguments)
      or (call.kind == malformed_calls.TOO_LARGE and way not in ("eager", "patched")),
      f"{way}: must name {' or '.join(call.arguments)}: {outcome['message'][:500]}",
    )
    if way == "compiled, nothing known":
      # XLA has the numbers, but its messages are not the op's to write.
      return
    self.assertTrue(
      not call.given or any(given in outcome["message"] for given in call.given),
      f"{way}: must show {' or '.join(call.given)}: {outcome['message'][:500]}",
    )


class EagerTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("eager"))
  def test(self, name, call):
    self.assert_refused("eager", name, call)


class TracedTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("traced"))
  def test(self, name, call):
    self.assert_refused("traced", name, call)


class CompiledTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("compiled"))
  def test(self, name, call):
    self.assert_refused("compiled", name, call)


class V1GraphTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("v1 graph"))
  def test(self, name, call):
    self.assert_refused("v1 graph", name, call)


class NothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("nothing known"))
  def test(self, name, call):
    self.assert_refused("nothing known", name, call)


class CompiledNothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("compiled, nothing known"))
  def test(self, name, call):
    self.assert_refused("compiled, nothing known", name, call)


class V1GraphNothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("v1 graph, nothing known"))
  def test(self, name, call):
    self.assert_refused("v1 graph, nothing known", name, call)


class PatchedTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("patched"))
  def test(self, name, call):
    self.assert_refused("patched", name, call)


class TableTest(absltest.TestCase):
  def test_has_a_row_for_every_call(self):
    table = (testing.ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in malformed_calls.CALLS:
      self.assertIn(f"| {malformed_calls.in_table(name)} |", table, "run: make errors-table")


class WithoutTensorFlowTest(absltest.TestCase):
  def test_importing_says_what_to_install(self):
    with tempfile.TemporaryDirectory() as folder:
      pathlib.Path(folder, "tensorflow.py").write_text("raise ImportError('no tensorflow')\n")
      path = os.pathsep.join([folder, str(testing.ROOT)])
      child = testing.run_child(["-c", "import tf_conv3d_grad"], PYTHONPATH=path)
    self.assertNotEqual(child.returncode, 0)
    self.assertRegex(child.stderr, r"ImportError: .*pip install .*tensorflow-cpu")


if __name__ == "__main__":
  absltest.main()
