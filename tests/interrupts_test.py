"""Ctrl-C in a long call or compilation leaves the package usable.

Python looks for signals where a Python function begins and where a C function has returned. One
that comes in between, in a kernel or in XLA, waits for that. So `AnywhereTest` has interrupts in
such places in the package's code, and where TensorFlow's kernels return, by count and not by the
clock. Elsewhere in TensorFlow they are not the package's: of 100 interrupts of small uncompiled
calls TensorFlow drops one (`api_dispatcher.Dispatch` compares types in C++, which runs Python for
abstract ones), and about one in 200 ends the process (`convert_to_eager_tensor`).
"""

import contextlib
import inspect
import os
import signal
import subprocess
import sys
import threading

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case

PACKAGE = os.path.dirname(tf_conv3d_grad.__file__)
# What TensorFlow's Python calls to run an operation, or a function that XLA may have to compile.
KERNELS = ("TFE_Py_FastPathExecute", "TFE_Py_Execute")
PATIENCE_S = 240


class Places:
  """Counts, in a `with` block, the places where Python looks for signals: see above.

  Attributes:
    count: How many there were.
    different: The numbers of those that differ, each where it came first, and of the last.
  """

  def __init__(self, interrupt_at=None):
    """At the place of this number there is an interrupt."""
    self.count = 0
    self._first = {}
    self._interrupt_at = interrupt_at

  @property
  def different(self):
    return [*self._first.values(), self.count]

  def __enter__(self):
    sys.setprofile(self._profile)
    return self

  def __exit__(self, *exception):
    sys.setprofile(None)

  def _profile(self, frame, event, argument):
    if self._is_place(frame.f_code, event, argument):
      self.count += 1
      name = getattr(argument, "__name__", None)
      self._first.setdefault((frame.f_code, event, name), self.count)
      if self.count == self._interrupt_at:
        raise KeyboardInterrupt

  def _is_place(self, code, event, argument):
    if event == "c_return" and argument.__name__ in KERNELS:
      return True
    if not code.co_filename.startswith(PACKAGE):
      return False
    # A generator is called to be closed, too, which is no place.
    return event == "c_return" or (event == "call" and not code.co_flags & inspect.CO_GENERATOR)


def call(case, mode):
  filter, out_backprop = testing.tensors(case)  # noqa: A001
  with tf_conv3d_grad.jit_compile(mode):
    return tf_conv3d_grad.Conv3DBackpropInputV2(
      case.input_sizes, filter, out_backprop, **case.attributes()
    )


def traced(case, mode):
  return tf.function(lambda: call(case, mode), autograph=False)()


def taped(case, mode):
  """Calls it where gradients are recorded, takes one, and returns the result."""
  filter, out_backprop = testing.tensors(case)  # noqa: A001
  with tf_conv3d_grad.jit_compile(mode), tf.GradientTape() as tape:
    tape.watch(filter)
    result = tf_conv3d_grad.Conv3DBackpropInputV2(
      case.input_sizes, filter, out_backprop, **case.attributes()
    )
  tape.gradient(result, filter)
  return result


class AnywhereTest(testing.OpTestCase):
  # Each interrupted call is the first of its shape: its depth is its own.
  notations = {
    "kernel": "mb1_id{}x4x3_ic3oc4_k3s1d1_ndhwc_f32",
    "own": "mb1_id{}x4x3_ic4oc6g2_k2x3x3s2d1_ncdhw_f64",
    "compiled": "mb1_id{}x3x2_ic2oc3_k2x1x2s1d1_ndhwc_f32",
  }

  @parameterized.parameters(
    (call, "kernel", "auto", 60),
    (call, "own", False, 60),
    (call, "compiled", True, 12),
    (traced, "own", False, 12),
    (traced, "compiled", True, 6),
    (taped, "own", False, 30),
  )
  def test_the_next_calls_are_right(self, way, kind, mode, trials):
    cases = [Case.parse(self.notations[kind].format(4 + trial)) for trial in range(trials + 2)]
    way(cases[-1], mode)  # what is asked of TensorFlow once
    with Places() as places:
      way(cases[-2], mode)
    reached = 0
    for trial, case in enumerate(cases[:trials]):
      place = places.different[trial * (len(places.different) - 1) // (trials - 1)]
      with self.subTest(place=place), contextlib.ExitStack() as stack:
        # One shape may take a little less than another.
        here = stack.enter_context(Places(interrupt_at=place))
        try:
          way(case, mode)
        except KeyboardInterrupt:
          reached += 1
        else:
          self.assertLess(here.count, place, "the interrupt was dropped")
        stack.close()
        self.assert_right(case, case.arguments(), way(case, mode))
        self.assert_another_thread_right(case, mode)
    self.assertGreater(reached, 0.8 * trials)

  def test_a_second_call_that_is_looked_up_is_interrupted_too(self):
    case = Case.parse(self.notations["kernel"].format(64))
    call(case, "auto")
    with Places() as places:
      call(case, "auto")
    for place in range(1, places.count + 1):
      with self.subTest(place=place):
        with self.assertRaises(KeyboardInterrupt), Places(interrupt_at=place):
          call(case, "auto")
        self.assert_right(case, case.arguments(), call(case, "auto"))
        self.assert_another_thread_right(case, "auto")

  def assert_another_thread_right(self, case, mode):
    """Asserts that no lock of this thread's was left behind."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call(case, mode)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    self.assertLen(results, 1, "the call of another thread waits, or has failed")
    self.assert_right(case, case.arguments(), results[0])


# Makes a call that takes until it is interrupted, then the same again and others.
SCRIPT = """
import signal, sys, time
# A shell's jobs in the background are begun to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from unittest import mock
import tensorflow as tf
import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import differential, oracle
from tf_conv3d_grad.conformance.case import Case

mode, notation = {"True": True, "False": False}[sys.argv[1]], sys.argv[2]
small = Case.parse("mb1_id6x7x8_ic3oc4_k3s2d1_ndhwc_f32")
long = Case.parse(notation)
calls = {case: case.arguments() for case in (small, long)}

def call(case):
  with tf_conv3d_grad.jit_compile(mode):
    return tf_conv3d_grad.Conv3DBackpropInputV2(**calls[case])

def takes_long(*_, **__):
  print("begun", flush=True)
  time.sleep(600)  # in C, as a kernel

for case in (small, long)[: int(sys.argv[3])]:
  call(case)
try:
  with mock.patch.object(tf, "matmul", takes_long):
    call(long)
except KeyboardInterrupt:
  print("interrupted", flush=True)
for case in (small, long, small):
  arguments = calls[case]
  exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
  _, failure = differential.judge(case, call(case).numpy(), exact)
  assert failure is None, failure
print("right afterwards", flush=True)
"""


class KeysTest(parameterized.TestCase):
  """The signal itself, from another process."""

  @parameterized.named_parameters(
    ("while_a_compilation_is_traced", "True", "mb1_id20_ic8oc8_k4s3d2_ncdhw_f32", 1),
    ("in_the_first_call_of_a_process", "False", "mb1_id20_ic8oc8g2_k5s3d2_ncdhw_f64", 0),
    ("in_a_later_call", "False", "mb1_id20_ic8oc8g2_k5s3d2_ncdhw_f64", 2),
  )
  def test(self, mode, notation, calls_before):
    with subprocess.Popen(
      [sys.executable, "-c", SCRIPT, mode, notation, str(calls_before)],
      cwd=testing.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    ) as process:
      watchdog = threading.Timer(PATIENCE_S, process.kill)
      watchdog.start()
      self.addCleanup(watchdog.cancel)
      begun = process.stdout.readline()
      process.send_signal(signal.SIGINT)
      output, errors = process.communicate()
    self.assertEqual(begun + output, "begun\ninterrupted\nright afterwards\n", errors[-3000:])


if __name__ == "__main__":
  absltest.main()
