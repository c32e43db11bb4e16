"""Ctrl-C in a long call or compilation leaves the package usable."""

import contextlib
import signal
import subprocess
import sys

from absl.testing import absltest, parameterized

from tests import testing

# Makes one call that takes long until it is interrupted, then the same again and others.
SCRIPT = """
import signal, sys
# A shell's jobs in the background are begun to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
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

call(small)
count = 0
print("begun", flush=True)
try:
  while True:
    call(long)
    count += 1
except KeyboardInterrupt:
  print("interrupted", flush=True)
for case in (small, long, small):
  arguments = calls[case]
  exact = oracle.conv3d_backprop_input(case, arguments["filter"], arguments["out_backprop"])
  _, failure = differential.judge(case, call(case).numpy(), exact)
  assert failure is None, failure
print("right afterwards", flush=True)
"""


class InterruptsTest(parameterized.TestCase):
  @parameterized.named_parameters(
    # Seconds of tracing and of XLA, then milliseconds a call: the first arrives in the former.
    ("a_compilation", "True", "mb1_id20_ic8oc8_k4s3d2_ncdhw_f32", 0.2),
    ("a_later_call", "True", "mb1_id20_ic8oc8_k4s3d2_ncdhw_f32", 8),
    ("an_uncompiled_call", "False", "mb1_id20_ic8oc8g2_k5s3d2_ncdhw_f64", 0.5),
  )
  def test(self, mode, notation, seconds):
    process = subprocess.Popen(
      [sys.executable, "-c", SCRIPT, mode, notation],
      cwd=testing.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    try:
      self.assertEqual(process.stdout.readline(), "begun\n")
      with self.assertRaises(subprocess.TimeoutExpired):
        process.wait(seconds)
      for _ in range(3):
        # Python drops an interrupt that arrives in a finalizer; people press the keys again.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
          output, errors = process.communicate(timeout=80)
          break
    finally:
      process.kill()
      process.wait()
    self.assertEqual(output.split("\n"), ["interrupted", "right afterwards", ""], errors[-3000:])


if __name__ == "__main__":
  absltest.main()
