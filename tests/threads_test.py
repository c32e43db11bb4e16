"""Many threads at once: right results, no deadlock, one compilation a problem.

And calls when Python takes no new threads any more.
"""

import concurrent.futures
import contextlib
import faulthandler
import itertools
import threading
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance import oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import compiled, eager_calls
from tf_conv3d_grad.tensorflow import private

THREADS = 8
# A deadlock shows every thread's stack and fails, much later than any of this takes.
DEADLOCK_SECONDS = 240

CASES = tuple(
  map(
    Case.parse,
    (
      "mb2_id5x6x4_ic3oc4_k3s1d1_ndhwc_f32",
      "mb2_id5x6x4_ic3oc4_k3s2d1_ncdhw_f64",
      "mb1_id6x5x7_ic4oc6g2_k3x2x3s1d1x2x2_ncdhw_f16",
      "mb1_id6x5x7_ic4oc6_k2s1d2_ndhwc_bf16_valid",
    ),
  )
)


def traced(case, jit_compile):
  """Returns a `tf.function` that calls the op on the case's tensors."""
  attributes = case.attributes()
  return tf.function(
    lambda filter, out_backprop: tf_conv3d_grad.Conv3DBackpropInputV2(
      case.input_sizes, filter, out_backprop, **attributes
    ),
    autograph=False,
    jit_compile=jit_compile,
  )


def in_threads(work, count=THREADS):
  """Calls `work` with 0, 1, ... in as many threads, all at once; returns the results."""
  barrier = threading.Barrier(count)

  def begin(number):
    barrier.wait()
    return work(number)

  faulthandler.dump_traceback_later(DEADLOCK_SECONDS, exit=True)
  try:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
      return list(pool.map(begin, range(count)))
  finally:
    faulthandler.cancel_dump_traceback_later()


class ThreadsTest(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    self.tensors = {case: testing.tensors(case) for case in CASES}
    self.exact = {
      case: oracle.conv3d_backprop_input(case, *(tensor.numpy() for tensor in tensors))
      for case, tensors in self.tensors.items()
    }

  def eager(self, case, _):
    return tf_conv3d_grad.Conv3DBackpropInputV2(
      case.input_sizes, *self.tensors[case], **case.attributes()
    )

  def raw(self, case, _):
    with tf_conv3d_grad.patch_tensorflow():
      return tf.raw_ops.Conv3DBackpropInputV2(
        input_sizes=case.input_sizes,
        filter=self.tensors[case][0],
        out_backprop=self.tensors[case][1],
        **case.attributes(),
      )

  def gradient(self, case, _):
    with tf.GradientTape() as tape:
      tape.watch(self.tensors[case])
      result = self.eager(case, None)
    tape.gradient(result, self.tensors[case])
    return result

  def test_every_way_of_calling_at_once(self):
    functions = {
      (case, jit): traced(case, jit) for case, jit in itertools.product(CASES, (None, True))
    }

    def call_traced(jit):
      return lambda case, _: functions[case, jit](*self.tensors[case])

    ways = (self.eager, call_traced(None), self.gradient, self.raw, call_traced(True))
    modes = ("auto", False, True)

    def work(number):
      # Each in an order of its own, so that they meet.
      order = np.random.default_rng(number).permutation(len(CASES) * len(ways))
      for turn, place in enumerate(order):
        case, way = CASES[place % len(CASES)], ways[place // len(CASES)]
        mode = modes[(turn + number) % len(modes)]
        with tf_conv3d_grad.jit_compile(mode):
          self.assert_accurate(case, way(case, number), self.exact[case])

    before = tf.raw_ops.Conv3DBackpropInputV2
    in_threads(work)
    self.assertIs(tf.raw_ops.Conv3DBackpropInputV2, before)

  def test_patching_and_unpatching_meanwhile(self):
    case = CASES[0]
    finished = threading.Semaphore(0)

    def work(number):
      if number == 0:
        for _ in range(1, THREADS):
          while not finished.acquire(timeout=0.001):
            tf_conv3d_grad.patch_tensorflow()
            tf_conv3d_grad.unpatch_tensorflow()
        return
      try:
        call(number)
      finally:
        finished.release()

    def call(number):
      for _ in range(30):
        # TensorFlow's own takes this case too, so that it is right whichever runs.
        filter, out_backprop = self.tensors[case]  # noqa: A001
        with tf_conv3d_grad.patch_tensorflow() if number % 2 else contextlib.nullcontext():
          result = tf.nn.conv3d_transpose(out_backprop, filter, case.input_sizes, 1)
        self.assert_accurate(case, result, self.exact[case])

    before = tf.raw_ops.Conv3DBackpropInputV2
    in_threads(work)
    self.assertIs(tf.raw_ops.Conv3DBackpropInputV2, before)

  def test_one_compilation_a_problem(self):
    case = Case.parse("mb1_id3x4x5_ic2oc3_k2s1d1_ndhwc_f32")
    self.tensors[case] = testing.tensors(case)
    eager_calls.forget()
    compiled.forget()

    def work(_):
      with tf_conv3d_grad.jit_compile(True):
        return self.eager(case, None).numpy()

    results = in_threads(work)
    for result in results:
      np.testing.assert_array_equal(result, results[0])
    (function,) = compiled.kept()
    self.assertEqual(function.traces, 1)

  def test_a_thread_may_call_the_op_while_another_checks_a_call(self):
    # What is slow happens outside of the caches' locks: a call made by a signal's handler or a
    # finalizer, in the middle of another, would wait for ever.
    case = CASES[0]
    eager_calls.forget()
    nested = []
    validate = eager_calls.validation.validate

    def interrupted(*function, **arguments):
      if not nested:
        nested.append(True)
        self.assert_accurate(case, self.eager(case, None), self.exact[case])
      return validate(*function, **arguments)

    with mock.patch.object(eager_calls.validation, "validate", interrupted):
      (result,) = in_threads(lambda _: self.eager(case, None), count=1)
    self.assertEqual(nested, [True])
    self.assert_accurate(case, result, self.exact[case])


# Makes the first calls of their kind, from within a graph and eagerly, once Python is ending.
AT_THE_END = """
import atexit, sys, threading
import tensorflow as tf
import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.conformance.case import Case

WAYS = {"in a graph": lambda call: tf.function(call)(), "eagerly": lambda call: call()}

def call():
  for number, (way, make) in enumerate(WAYS.items()):
    case = Case.parse(f"mb1_id5x4x{5 + number}_ic2oc3_k3s1d1x2x1_ndhwc_f32")
    arguments = case.arguments()
    private.onednn_enabled.cache_clear()
    private.xla_compiles.cache_clear()
    result = make(lambda: tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))
    testing.OpTestCase().assert_right(case, arguments, result)
    print(way, private.onednn_enabled(), private.xla_compiles(), flush=True)

def later():
  threading.main_thread().join()
  call()

if sys.argv[1] == "atexit":
  atexit.register(call)
else:
  threading.Thread(target=later).start()
"""


class EndOfProcessTest(parameterized.TestCase):
  @parameterized.product(tuned=("0", "1"), place=("atexit", "a thread that outlives the main one"))
  @testing.sample(1)
  def test_the_first_calls_of_a_process_that_is_ending_are_right(self, place, tuned):
    cache = self.create_tempdir().full_path
    child = testing.run_child(
      ["-c", AT_THE_END, place], TF_CONV3D_GRAD_AUTOTUNE=tuned, XDG_CACHE_HOME=cache
    )
    facts = f"{private.onednn_enabled()} {private.xla_compiles()}"
    lines = [f"in a graph {facts}", f"eagerly {facts}"]
    self.assertEqual(child.stdout.splitlines(), lines, child.stderr[-3000:])


if __name__ == "__main__":
  absltest.main()
