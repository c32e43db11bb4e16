"""The same call gives the same bits, run to run, and for any number of threads.

Threads by number are held against each other only where TensorFlow gives the same bits itself.
Two things it does not: the gradient in the filter, whose sums threads share, and its own float64
kernel (Eigen's), which cuts a sum differently for 1 thread, 2 and 3.
"""

import functools

from absl.testing import absltest, parameterized

from tests import testing

# Prints a digest of the result, and of both gradients, of every case in every mode.
SCRIPT = """
import hashlib, sys
import tensorflow as tf
deterministic, threads = sys.argv[1] == "deterministic", int(sys.argv[2])
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
tf.keras.utils.set_random_seed(1)
if deterministic:
  tf.config.experimental.enable_op_determinism()
import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case

def bits(tensor):
  return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]

for notation in sys.argv[3:]:
  case = Case.parse(notation)
  sources = testing.tensors(case)
  def call():
    with tf.GradientTape() as tape:
      tape.watch(sources)
      result = tf_conv3d_grad.Conv3DBackpropInputV2(
        case.input_sizes, *sources, **case.attributes())
    return [result, *tape.gradient(result, sources)]
  traced = tf.function(call, autograph=False)
  for name, mode, way in (
    ("auto", "auto", call), ("True", True, call), ("False", False, call), ("graph", "auto", traced)
  ):
    with tf_conv3d_grad.jit_compile(mode):
      first, second = ([bits(tensor) for tensor in way()] for _ in range(2))
    assert first == second, (notation, name)
    print(notation, name, *first)
"""

CASES = (
  "mb2_id9x10x11_ic6oc8_k3s1d1_ndhwc_f32",
  "mb2_id9x10x11_ic6oc8g2_k3s2d1_ncdhw_f32",
  "mb2_id9x10x11_ic6oc8g2_k3s2d1_ncdhw_f64",
  "mb2_id9x10x11_ic3oc32_k4x2x2s2d1_ndhwc_bf16_valid",
)


@functools.cache
def digests(determinism, threads, run):
  """Returns what a child process prints; `run` tells apart those that are to be alike."""
  del run
  child = testing.run_child(["-c", SCRIPT, determinism, threads, *CASES])
  if child.returncode:
    raise RuntimeError(child.stderr[-3000:])
  return child.stdout.splitlines()


class DeterminismTest(parameterized.TestCase):
  # Within a process, and between those of different threads, the other test tells as well.
  @parameterized.parameters("as usual", "deterministic")
  @testing.sample(0)
  def test_run_to_run(self, determinism):
    first, second = (digests(determinism, 2, run) for run in range(2))
    self.assertLen(first, 4 * len(CASES))
    self.assertEqual(first, second)

  def test_one_thread_or_several(self):
    # A cell of the result, and of the gradient in `out_backprop`, is one thread's.
    one, several = (
      [(notation, mode, result, in_out_backprop)
       for notation, mode, result, _, in_out_backprop in map(str.split, lines)
       if not ("_f64" in notation and mode != "True")]
      for lines in (digests("deterministic", 1, 0), digests("deterministic", 2, 0))
    )  # fmt: skip
    self.assertLen(one, 4 * (len(CASES) - 1) + 1)
    self.assertEqual(one, several)


if __name__ == "__main__":
  absltest.main()
