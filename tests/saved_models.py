"""SavedModels for the tests of conversions."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tf_conv3d_grad.conversion import files, rewriting
from tf_conv3d_grad.problem.functions import ALL
from tf_conv3d_grad.tensorflow import private

RESULT = {function.op: function.result for function in ALL}


def folder_of(test):
  """Returns a folder that is there until a test, or a class of tests, is done."""
  folder = tempfile.TemporaryDirectory()
  cleanup = test.addClassCleanup if isinstance(test, type) else test.addCleanup
  cleanup(folder.cleanup)
  return pathlib.Path(folder.name)


def of_case(case, folder, known="batch", **options):
  """Saves a model whose only signature calls TensorFlow's own op.

  Args:
    case: The case of the op.
    folder: Where to save it.
    known: What the signature knows of shapes: "all", "batch" for all but the batch, or "none".
    **options: Those of `tf.function`.
  """
  names = case.direction.operands

  def shape(name):
    if known == "none":
      return [None] * 5
    lengths = list(case.shape_of(name))
    return lengths if known == "all" or name == "filter" else [None, *lengths[1:]]

  def call(**tensors):
    sizes = {case.direction.sizes: tf.constant(case.result_shape)} if case.direction.sizes else {}
    return {"result": private.raw_op(case.direction.op)(**tensors, **sizes, **case.attributes())}

  module = tf.Module()
  module.call = tf.function(call, autograph=False, **options)
  signature = module.call.get_concrete_function(
    **{name: tf.TensorSpec(shape(name), case.dtype, name) for name in names}
  )
  tf.saved_model.save(module, str(folder), signatures=signature)


def of_function(function, folder, *specs, **options):
  """Saves a model whose only signature, and whose method `call`, is a function."""
  module = tf.Module()
  module.call = tf.function(function, autograph=False, input_signature=specs, **options)
  tf.saved_model.save(module, str(folder), signatures=module.call)


def converted(source, folder):
  """Converts a model, without running it, and returns what was changed."""
  model = files.read(source)
  changes = [each for meta_graph in model.meta_graphs for each in rewriting.convert(meta_graph)]
  files.write(model, source, folder)
  return changes


def nodes(folder):
  """Returns all nodes of a model, of its main graph and of its functions."""
  graph = files.read(folder).meta_graphs[0].graph_def
  return [*graph.node, *(node for each in graph.library.function for node in each.node_def)]


def random(shape, dtype, seed=0):
  """Returns random values."""
  values = np.random.default_rng(seed).uniform(-1, 1, shape)
  return tf.constant(values.astype(tf.as_dtype(dtype).as_numpy_dtype))
