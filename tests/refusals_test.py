"""What is said to be refused is what TensorFlow's CPU kernels refuse, here and now."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.conformance import ways
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conversion import graphs, refusals
from tf_conv3d_grad.problem.functions import ALL
from tf_conv3d_grad.tensorflow import private
from tf_conv3d_grad.tensorflow.environment import Environment

CASES = [
  f"mb2_id6x7x8_ic4oc8{groups}_k3s1d{dilation}_{data_format}_{dtype}{direction}"
  for groups, dilation, data_format, dtype, direction in itertools.product(
    ("", "g2"), (1, 2), ("ndhwc", "ncdhw"), ("f16", "bf16", "f32", "f64"), ("_fwd", "", "_bwd_w")
  )
]
# oneDNN's kernels of halves are some processors' only.
SURE = [case for case in CASES if "f16_" not in case + "_"]


def node_of(*operations):
  """Returns the node of the last operation of a graph, with what is recorded of shapes."""
  meta_graph = tf.compat.v1.train.export_meta_graph(
    graph=operations[-1].graph, strip_default_attrs=True
  )
  return next(
    node for node in graphs.of(meta_graph)[0].nodes if node.name == operations[-1].name
  )


def node_of_case(case):
  with tf.Graph().as_default():
    tensors = {
      name: tf.compat.v1.placeholder(case.dtype, case.shape_of(name))
      for name in case.direction.operands
    }
    sizes = {case.direction.sizes: list(case.result_shape)} if case.direction.sizes else {}
    op = private.raw_op(case.direction.op)
    return node_of(op(**tensors, **sizes, **case.attributes()).op)


def runs(call):
  try:
    call()
  except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError):
    return False
  return True


class ConvolutionsTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_what_is_not_refused_runs(self, text):
    case = Case.parse(text)
    here = Environment.here(tf.as_dtype(case.dtype))
    if refusals.reason(node_of_case(case), here) is None:
      self.assertTrue(runs(lambda: self.call(case)))

  @parameterized.parameters(*SURE)
  def test_what_is_refused_does_not(self, text):
    case = Case.parse(text)
    here = Environment.here(tf.as_dtype(case.dtype))
    if refusals.reason(node_of_case(case), here) is not None:
      self.assertFalse(runs(lambda: self.call(case)))

  @parameterized.parameters(*CASES)
  def test_what_runs_on_any_cpu_is_not_refused_here(self, text):
    node = node_of_case(Case.parse(text))
    here = Environment.here(tf.bfloat16)
    if refusals.reason(node) is None:
      self.assertIsNone(refusals.reason(node, here))

  def call(self, case):
    return ways.call("eager", private.raw_op(case.direction.op), case.arguments())

  @parameterized.parameters(*[function.op for function in ALL])
  def test_groups_that_are_not_known_may_be_there(self, op):
    case = next(each for each in map(Case.parse, CASES) if each.direction.op == op)
    with tf.Graph().as_default():
      tensors = {
        name: tf.compat.v1.placeholder(case.dtype, [None] * 5) for name in case.direction.operands
      }
      sizes = {}
      if case.direction.sizes:
        sizes[case.direction.sizes] = tf.compat.v1.placeholder(tf.int32, [5])
      result = private.raw_op(op)(**tensors, **sizes, **case.attributes())
      self.assertEqual(refusals.reason(node_of(result.op)), "maybe grouped")


class PoolingsTest(parameterized.TestCase):
  @parameterized.product(
    op=("MaxPool3D", "AvgPool3D"),
    dtype=("float16", "bfloat16", "float32"),
    data_format=("NDHWC", "NCDHW"),
    gradient=(False, True),
  )
  def test_what_is_refused_is_what_does_not_run(self, op, dtype, data_format, gradient):
    if gradient:
      self.check(f"{op}Grad", dtype, data_format)
    else:
      self.check(op, dtype, data_format)

  def test_the_gradient_of_a_gradient_too(self):
    for data_format in ("NDHWC", "NCDHW"):
      self.check("MaxPool3DGradGrad", "float32", data_format)

  def check(self, op, dtype, data_format):
    def call(tensor=lambda values: tf.constant(values, dtype)):
      steps = [1, 2, 2, 2, 1] if data_format == "NDHWC" else [1, 1, 2, 2, 2]
      large, small = np.ones([2] + [4] * 4), np.ones([2] + [4 // step for step in steps[1:]])
      given = {
        "MaxPool3D": {"input": large},
        "AvgPool3D": {"input": large},
        "MaxPool3DGrad": {"orig_input": large, "orig_output": small, "grad": small},
        "MaxPool3DGradGrad": {"orig_input": large, "orig_output": small, "grad": large},
        "AvgPool3DGrad": {"grad": small},
      }[op]
      sizes = {"orig_input_shape": [2] + [4] * 4} if op == "AvgPool3DGrad" else {}
      return getattr(tf.raw_ops, op)(
        **{name: tensor(value) for name, value in given.items()},
        **sizes,
        ksize=steps,
        strides=steps,
        padding="VALID",
        data_format=data_format,
      )

    with tf.Graph().as_default():
      result = call(lambda values: tf.compat.v1.placeholder(dtype, values.shape))
      node = node_of(result.op)
    self.assertFalse(refusals.has_no_kernel(node))
    reason = refusals.reason(node, Environment.here(tf.as_dtype(dtype)))
    self.assertEqual(reason is None, runs(call), reason)


if __name__ == "__main__":
  absltest.main()
