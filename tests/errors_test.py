"""Malformed calls raise in every way of calling, and never bring the process down.

The calls are made in child processes, so that an abort is seen as one.
"""

import concurrent.futures
import os
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from tests import malformed_calls, testing
from tests.malformed_calls import CALLS, OURS, TOO_LARGE

# One child for the calls of all tests, which would each take longer to start it than to call.
_maker = malformed_calls.Maker()


def tearDownModule():
  _maker.__exit__()


def malformed(way):
  """Yields test name, op and name of every malformed call made in this way alone."""
  for op, calls in CALLS.items():
    for name, call in calls.items():
      if malformed_calls.is_made(way, call) and call.kind != TOO_LARGE:
        yield f"_{op}_{name}", op, name


class ErrorsTestCase(parameterized.TestCase):
  def assert_refused(self, way, op, name):
    self.assert_is_refusal(way, op, name, _maker.outcome(OURS, way, op, name))

  def assert_is_refusal(self, way, op, name, outcome):
    self.assertIsNone(malformed_calls.failure(way, CALLS[op][name], outcome))


class EagerTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("eager"))
  def test(self, op, name):
    self.assert_refused("eager", op, name)


class TracedTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("traced"))
  def test(self, op, name):
    self.assert_refused("traced", op, name)


class CompiledTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("compiled"))
  def test(self, op, name):
    self.assert_refused("compiled", op, name)


class V1GraphTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("v1 graph"))
  def test(self, op, name):
    self.assert_refused("v1 graph", op, name)


class NothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("nothing known"))
  def test(self, op, name):
    self.assert_refused("nothing known", op, name)


class CompiledNothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("compiled, nothing known"))
  def test(self, op, name):
    self.assert_refused("compiled, nothing known", op, name)


class V1GraphNothingKnownTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("v1 graph, nothing known"))
  def test(self, op, name):
    self.assert_refused("v1 graph, nothing known", op, name)


class PatchedTest(ErrorsTestCase):
  @parameterized.named_parameters(*malformed("patched"))
  def test(self, op, name):
    self.assert_refused("patched", op, name)


class TooLargeTest(ErrorsTestCase):
  """Results that no memory can hold, some of each op at once and the ways of calling side by side.

  One after the other these take long, because TensorFlow waits for memory to be freed, in a thread
  of a core's.
  """

  @parameterized.parameters(
    (slice(0, 1), ("eager", "traced", "nothing known", "patched")),
    (slice(0, 1), ("compiled", "v1 graph", "compiled, nothing known", "v1 graph, nothing known")),
    (slice(1, None), malformed_calls.WAYS),
  )
  @testing.sample(1)
  def test_is_refused_in_every_way_of_calling(self, which, ways):
    calls = []
    for op in CALLS:
      names = [name for name, call in CALLS[op].items() if call.kind == TOO_LARGE]
      calls += [(op, name) for name in names[which]]

    # What is known while tracing is computed then, in one thread for all that a process traces.
    jobs = []
    for way in ways:
      jobs += [(way, [call]) for call in calls] if way in ("traced", "v1 graph") else [(way, calls)]

    def outcomes(job):
      way, calls = job
      with malformed_calls.Maker() as maker:
        return maker.outcomes(OURS, way, calls)

    more_threads = {"TF_NUM_INTEROP_THREADS": str(2 * len(calls))}
    with mock.patch.dict(os.environ, more_threads), concurrent.futures.ThreadPoolExecutor(
      len(jobs)
    ) as threads:
      found = list(threads.map(outcomes, jobs))
    for (way, of_job), of_calls in zip(jobs, found):
      for (op, name), outcome in zip(of_job, of_calls):
        with self.subTest(f"{way}: {op}, {name}"):
          self.assert_is_refusal(way, op, name, outcome)


class TableTest(parameterized.TestCase):
  @parameterized.parameters(*CALLS)
  def test_has_a_row_for_every_call(self, op):
    text = (testing.ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {op}\n")
    section, _, _ = section.partition("\n## ")
    for name in CALLS[op]:
      self.assertIn(f"| {malformed_calls.in_table(name)} |", section, "run: make errors-table")


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
