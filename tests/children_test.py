"""Calls in child processes that end, hang or never start."""

import os
import sys
import time
from unittest import mock

from absl.testing import absltest

from tf_conv3d_grad.conformance import children


def handle(request):
  """Does what it is told."""
  print("something else", flush=True)
  if request == "die":
    sys.stderr.write("F0000 file.cc:1] Check failed: 1 == 2 \n")
    sys.stderr.flush()
    os.abort()
  if request == "exit":
    sys.exit(3)
  if request == "hang":
    time.sleep(60)
  return request, os.getpid()


class Unlucky:
  """What no process can have that it is sent to."""

  def __reduce__(self):
    return no_such_luck, ()


def no_such_luck():
  raise OSError("no such luck")


class ChildrenTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    # Without TensorFlow, as if it were the script.
    self.enter_context(mock.patch.object(sys, "argv", ["tf-conv3d-grad"]))

  def call(self, *requests, **options):
    with children.Children(handle, **options) as processes:
      return [processes.call(request) for request in requests]

  def test_a_call_that_ends_its_process_or_hangs_leaves_the_others_alone(self):
    first, died, second, exited, hung = self.call("one", "die", "two", "exit", "hang", patience=5)
    self.assertEqual((first[0], second[0]), ("one", "two"))
    self.assertNotEqual(first[1], second[1])
    self.assertEqual(died, children.Ended("abort", "Check failed: 1 == 2"))
    self.assertEqual(exited, children.Ended("exit 3", None))
    self.assertEqual(hung, children.Ended(None, "no answer within 5 s"))

  def test_a_child_makes_no_more_calls_than_it_may(self):
    answers = self.call(*"abcde", most=2)
    self.assertEqual([request for request, _ in answers], list("abcde"))
    processes = [process for _, process in answers]
    self.assertEqual([processes.count(each) for each in processes], [2, 2, 2, 2, 1])

  def test_it_is_gone_when_it_is_no_longer_needed(self):
    ((_, process),) = self.call("one")
    with self.assertRaises(ProcessLookupError):
      os.kill(process, 0)

  def test_a_child_that_does_not_start_is_no_outcome(self):
    with children.Children(Unlucky()) as processes:
      with self.assertRaisesRegex(RuntimeError, r"did not start: (?s:.*)no such luck"):
        processes.call("one")


if __name__ == "__main__":
  absltest.main()
