"""What the tests of the op share."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tf_conv3d_grad.conformance import differential, oracle

ROOT = pathlib.Path(differential.__file__).parents[2]
DTYPES = ("float16", "bfloat16", "float32", "float64")
# Begins a child's program that has to do without the package.
WITHOUT_THE_PACKAGE = """
import sys
sys.modules["tf_conv3d_grad"] = None
try:
  import tf_conv3d_grad
  sys.exit("the package can be imported after all")
except ImportError:
  pass
"""


def sample(count):
  """Has `make test` run a test with the first so many of its parameters, those that tell most.

  A test without parameters has one. What takes long, and is claimed in a smaller way by another
  test as well, is left to `make test-all` by a count of 0.
  """

  def mark(test):
    test.sample = count
    return test

  return mark


class OpTestCase(parameterized.TestCase):
  """Compares results of the ops, and of their derivatives, to the oracle's."""

  def assert_right(self, case, arguments, result):
    """Asserts that a result of the op is the case's, as accurate as the op promises."""
    self.assert_accurate(case, result, oracle.exact(case, arguments))

  def assert_accurate(self, case, result, exact, **limits):
    """Asserts shape, dtype and the relative error in the 2-norm."""
    result = result.numpy() if hasattr(result, "numpy") else result
    _, failure = differential.judge(case, result, exact, **limits)
    if failure:
      self.fail(f"{case}: {failure}")


def tensors(case, seed=0):
  """Returns the case's filter and out_backprop as tensors."""
  arguments = case.arguments(seed)
  return tf.constant(arguments["filter"]), tf.constant(arguments["out_backprop"])


def random_array(case, shape, seed):
  """Returns a random array of the case's dtype."""
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, shape).astype(tf.as_dtype(case.dtype).as_numpy_dtype)


def is_compiled(traced):
  """Whether a traced function hands anything to XLA by itself."""
  return "_XlaMustCompile" in _attributes_set(traced.graph.as_graph_def())


def _attributes_set(graph_def):
  nodes = list(graph_def.node)
  names = set()
  for function in graph_def.library.function:
    nodes.extend(function.node_def)
    names.update(name for name, value in function.attr.items() if value.b)
  for node in nodes:
    names.update(name for name, value in node.attr.items() if value.b)
  return names


def run_child(arguments, **environment):
  """Runs a Python child process that can import the package.

  Args:
    arguments: The command line after the interpreter.
    **environment: Environment variables to set; those given as None are removed.

  Returns:
    The `subprocess.CompletedProcess`, with text output.
  """
  variables = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    env={name: value for name, value in variables.items() if value is not None},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
