import argparse
import re

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from examples import distributed_training
from tests import testing
from tests.arrivals import arrivals

EXAMPLES = testing.ROOT / "examples"
STEPS, BATCH, SIZE = 3, 4, 8
OPTIONS = ("--steps", STEPS, "--batch", BATCH, "--size", SIZE)
# Sums in another order, over three steps of training.
ROUNDING = 1e-5
COMPILED = {"compiled": ["--jit-compile"], "not_compiled": []}


# Runs a script with its arguments, and prints what arrived at this package.
ARRIVING = """
import runpy, sys
from tests.arrivals import arrivals
del sys.argv[0]
with arrivals() as arrived:
  runpy.run_path(sys.argv[0], run_name="__main__")
print("arrived:", ", ".join(sorted(set(arrived))))
"""


class DistributeTest(parameterized.TestCase):
  """Training with the op, spread by `tf.distribute`, against TensorFlow's own op in one process."""

  @parameterized.parameters(*COMPILED)
  @testing.sample(1)
  def test_two_devices_of_one_process_train_to_the_losses_of_one(self, compiled):
    command = ["-c", ARRIVING, EXAMPLES / "distributed_training.py", "--strategy", "mirrored"]
    result = testing.run_child([*command, *COMPILED[compiled], *OPTIONS])
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertIn("arrived: conv3d, conv3d_backprop_input_v2", result.stdout)
    losses = re.findall(r"^step \d+/\d+ loss (\S+)$", result.stdout, re.MULTILINE)
    np.testing.assert_allclose(np.asarray(losses, float), losses_of_one_process(), rtol=ROUNDING)

  @parameterized.parameters(*COMPILED)
  @testing.sample(0)
  def test_two_processes_train_to_the_losses_of_one(self, compiled):
    result = testing.run_child(
      [EXAMPLES / "multi_worker.py", *COMPILED[compiled], *OPTIONS], COLUMNS="100"
    )
    self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
    rows = re.findall(r"^ +\d+ +(\S+) +(\S+) +(\S+) +\S+ *$", result.stdout, re.MULTILINE)
    self.assertLen(rows, STEPS)
    for losses in np.asarray(rows, float).T:
      np.testing.assert_allclose(losses, losses_of_one_process(), rtol=ROUNDING)

  def test_training_uses_the_op(self):
    with arrivals() as arrived, tf_conv3d_grad.patch_tensorflow():
      losses = losses_of_one_process()
    self.assertContainsSubset({"conv3d_backprop_input_v2", "conv3d"}, arrived)
    np.testing.assert_allclose(losses, losses_of_one_process(), rtol=ROUNDING)


def losses_of_one_process():
  """The losses of this process on the whole batches."""
  arguments = argparse.Namespace(steps=STEPS, batch=BATCH, size=SIZE, jit_compile=False)
  return list(distributed_training.losses(tf.distribute.get_strategy(), arguments))


if __name__ == "__main__":
  absltest.main()
