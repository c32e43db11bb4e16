"""What memory there is, results that do not fit, and that none is held for longer than needed."""

import contextlib
import gc
import pathlib
import tempfile
import weakref
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.tensorflow import memory

GIB = 2**30


def strided(*lengths):
  """Returns the arguments of a call with one cell of `out_backprop` and any spatial lengths."""
  return {
    "input_sizes": [1, *lengths, 1],
    "filter": tf.ones([1, 1, 1, 1, 1]),
    "out_backprop": tf.ones([1] * 5),
    "strides": [1, *lengths, 1],
    "padding": "SAME",
  }


class ProbesTest(parameterized.TestCase):
  @parameterized.parameters(True, False)
  def test_a_graph_asks_for_memory_unless_it_is_told_not_to(self, probed):
    def call(filter, out_backprop):
      return tf_conv3d_grad.Conv3DBackpropInputV2(
        [tf.shape(out_backprop)[0], 4, 4, 4, 1], filter, out_backprop, [1] * 5, "SAME"
      )

    specs = tf.TensorSpec([3, 3, 3, 1, 1]), tf.TensorSpec([None, 4, 4, 4, 1])
    with contextlib.nullcontext() if probed else memory.unprobed():
      graph = tf.function(call).get_concrete_function(*specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    probes = [node for node in nodes if node.op == "Empty"]
    self.assertEqual(bool(probes), probed)
    # Nobody has written what is allocated: of floats, `enable_check_numerics` would find NaNs.
    self.assertTrue(all(tf.as_dtype(each.attr["dtype"].type).is_integer for each in probes))


class TooLargeTest(parameterized.TestCase):
  """What no machine can hold is called in every way in `errors_test`."""

  def test_says_what_is_asked_for_and_what_there_is(self):
    with mock.patch.object(memory, "total", lambda: GIB):
      with self.assertRaisesRegex(
        tf.errors.ResourceExhaustedError,
        r"input_sizes .* \[1, 1024, 1024, 512, 1\] of float32, 2 GiB \(2147483648 bytes\), "
        r"there are 1 GiB \(1073741824 bytes\)",
      ):
        tf_conv3d_grad.Conv3DBackpropInputV2(**strided(1024, 1024, 512))

  @parameterized.parameters(True, False, "auto")
  def test_in_every_mode_and_under_a_tape(self, mode):
    arguments = strided(1024, 1024, 513)
    with mock.patch.object(memory, "total", lambda: GIB), tf_conv3d_grad.jit_compile(mode):
      with self.assertRaises(tf.errors.ResourceExhaustedError):
        tf_conv3d_grad.Conv3DBackpropInputV2(**arguments)
      with tf.GradientTape() as tape, self.assertRaises(tf.errors.ResourceExhaustedError):
        tape.watch(arguments["filter"])
        tf_conv3d_grad.Conv3DBackpropInputV2(**arguments)

  def test_what_just_fits_is_not_refused(self):
    # oneDNN's kernel takes seconds for strides like these.
    with mock.patch.object(memory, "total", lambda: 64 << 20), tf_conv3d_grad.jit_compile(True):
      result = tf_conv3d_grad.Conv3DBackpropInputV2(**strided(256, 256, 256))
    self.assertEqual(float(tf.reduce_sum(result)), 1)

  def test_tracing_refuses_nothing(self):
    # The graph may run on another machine.
    arguments = strided(2**13, 2**13, 99)
    function = tf.function(lambda: tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))
    with mock.patch.object(memory, "total", lambda: GIB):
      concrete = function.get_concrete_function()
    self.assertEqual(concrete.output_shapes.as_list(), [1, 2**13, 2**13, 99, 1])


class TotalTest(absltest.TestCase):
  def test_is_that_of_the_machine_or_less(self):
    self.assertBetween(memory.total(), 64 << 20, memory._physical() or 2**63)

  def test_without_anything_that_tells_nothing_is_refused(self):
    with mock.patch.multiple(
      memory, _physical=lambda: None, _container_limits=lambda: (), _address_space=lambda: None
    ):
      self.assertIsNone(memory.total())
      memory.require("input_sizes", [2**40] * 4, tf.float32)

  def test_a_container_may_have_less(self):
    for version, folder, file in ((2, "", "memory.max"), (1, "memory", "memory.limit_in_bytes")):
      with self.subTest(version=version), tempfile.TemporaryDirectory() as root:
        group = pathlib.Path(root, folder)
        group.mkdir(exist_ok=True)
        (group / file).write_text(f"{GIB}\n")
        with mock.patch.object(memory, "_CGROUP", pathlib.Path(root)):
          self.assertEqual(memory.total(), GIB)
        (group / file).write_text("max\n")
        with mock.patch.object(memory, "_CGROUP", pathlib.Path(root)):
          self.assertEqual(memory.total(), memory._physical())

  def test_on_a_system_without_these_files_and_limits(self):
    with mock.patch.object(memory, "_CGROUP", pathlib.Path("/nonexistent")):
      with mock.patch.object(memory, "resource", None):
        self.assertEqual(memory.total(), memory._physical())
      with mock.patch.object(memory.os, "sysconf", side_effect=ValueError("no such name")):
        self.assertIsNone(memory._physical())


class LifetimeTest(parameterized.TestCase):
  case = Case.parse("mb1_id9x8x7_ic3oc4_k3s2d1_ndhwc_f64")

  @parameterized.product(mode=(True, False, "auto"), taped=(True, False))
  def test_no_tensor_outlives_its_caller(self, mode, taped):
    def call():
      filter, out_backprop = testing.tensors(self.case)  # noqa: A001
      arguments = {"filter": filter, "out_backprop": out_backprop, **self.case.attributes()}
      with tf_conv3d_grad.jit_compile(mode), tf.GradientTape() as tape:
        if taped:
          tape.watch(filter)
        result = tf_conv3d_grad.Conv3DBackpropInputV2(self.case.input_sizes, **arguments)
        gradient = tape.gradient(result, filter) if taped else result
      return [weakref.ref(tensor) for tensor in (filter, out_backprop, result, gradient)]

    call()  # fills the caches
    references = call()
    gc.collect()
    self.assertEqual([reference() for reference in references], [None] * 4)

  def test_no_tensor_outlives_a_call_that_fails(self):
    def call():
      filter, out_backprop = testing.tensors(self.case)  # noqa: A001
      with self.assertRaises(tf.errors.InvalidArgumentError):
        tf_conv3d_grad.Conv3DBackpropInputV2(
          [1, 2, 3, 4, 5], filter, out_backprop, **self.case.attributes()
        )
      return [weakref.ref(tensor) for tensor in (filter, out_backprop)]

    references = call()
    gc.collect()
    self.assertEqual([reference() for reference in references], [None] * 2)


MANY_CALLS = """
import itertools, resource
import numpy as np
import tensorflow as tf
import tf_conv3d_grad

def resident():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * resource.getpagesize()

specs = list(itertools.product((4, 5, 6, 7, 8), (4, 5, 6, 7, 8), (2, 3, 4, 5), (1, 2, 3, 4, 5)))
assert len(specs) == 500
filters = {c: tf.ones([2, 2, 2, 3, c]) for c in (1, 2, 3, 4, 5)}

def call_all():
  for depth, height, width, channels in specs:
    tf_conv3d_grad.Conv3DBackpropInputV2(
      [1, depth, height, width, 3], filters[channels],
      tf.ones([1, -(-depth // 2), -(-height // 2), width, channels]),
      [1, 2, 2, 1, 1], "SAME")

levels = []
for _ in range(4):
  for _ in range(5):
    call_all()
  levels.append(resident())
print(*levels)
"""

MANY_COMPILATIONS = """
import resource
import tensorflow as tf
import tf_conv3d_grad
from tf_conv3d_grad.execution import compiled, eager_calls
from tf_conv3d_grad.tensorflow.cache import Cache

def resident():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * resource.getpagesize()

compiled._cache = Cache(4)
eager_calls._cache = Cache(8)
levels = []
with tf_conv3d_grad.jit_compile(True):
  for number in range(48):
    tf_conv3d_grad.Conv3DBackpropInputV2(
      [1, 3, 3, 3 + number, 1], tf.ones([1, 1, 2, 1, 1]), tf.ones([1, 3, 3, 3 + number, 1]),
      [1] * 5, "SAME")
    if number % 16 == 15:
      levels.append(resident())
assert len(compiled.kept()) == 4, len(compiled.kept())
print(*levels)
"""

NEAR_EXHAUSTION = """
import resource, sys
import numpy as np
import tensorflow as tf
import tf_conv3d_grad

# Everything of TensorFlow's is there before memory gets scarce.
filter, out_backprop = tf.ones([3, 3, 3, 4, 2]), tf.ones([1, 256, 256, 64, 2])
def call(depth):
  return tf_conv3d_grad.Conv3DBackpropInputV2(
    [1, depth, 256, 64, 4], filter, out_backprop[:, :depth], [1] * 5, "SAME")
call(16)
def held():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[0]) * resource.getpagesize()
# 64 MiB are asked for.
limit = held() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
try:
  print("a result of shape", call(256).shape)
except tf.errors.ResourceExhaustedError as error:
  print("ResourceExhaustedError", str(error)[:200])
resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
print("then", float(call(16)[0, 8, 8, 8, 0]))
"""


class ProcessTest(parameterized.TestCase):
  def run_script(self, script, *arguments, **environment):
    child = testing.run_child(["-c", script, *arguments], **environment)
    self.assertEqual(child.returncode, 0, child.stderr[-3000:])
    return child.stdout

  def test_10000_calls_of_500_problems_stay_level(self):
    first, *_, last = map(int, self.run_script(MANY_CALLS).split())
    # A tensor a call that stays would be some MiB, one a problem is in the first level already.
    self.assertLess(last - first, 8 << 20)

  def test_forgotten_compilations_stay_level(self):
    _, first, last = map(int, self.run_script(MANY_COMPILATIONS).split())
    self.assertLess(last - first, 64 << 20)

  def test_where_memory_is_short_there_is_an_exception_and_then_the_next_call_works(self):
    # Without oneDNN the call may be compiled, and XLA does not survive that it gets no threads.
    output = self.run_script(NEAR_EXHAUSTION, 32 << 20, TF_CONV3D_GRAD_JIT_COMPILE="false")
    self.assertIn("ResourceExhaustedError", output)
    self.assertIn("then 54.0", output)


if __name__ == "__main__":
  absltest.main()
