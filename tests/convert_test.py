"""`tf-conv3d-grad convert`: real models, run where this package is not; and what is refused."""

import json
import os
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import command_line, saved_models, testing
from tf_conv3d_grad.conformance import children
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conversion import comparison, files

FIRST = Case.parse("mb2_id6x7x8_ic4oc8_k3s1d1_ncdhw_f64_fwd")
PLAIN = Case.parse("mb2_id6x7x8_ic4oc8_k3s1d1_ndhwc_f32_fwd")

# Calls the signature of a model and saves the results, in the manner of TensorFlow 1 or 2.
CHILD = testing.WITHOUT_THE_PACKAGE + """
import numpy as np
import tensorflow as tf

how, folder = sys.argv[1:]
inputs = dict(np.load(folder + "/inputs.npz"))
if how == "session":
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = model.signature_def["serving_default"]
    feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
    outputs = {name: info.name for name, info in signature.outputs.items()}
    results = session.run(outputs, feeds)
else:
  signature = tf.saved_model.load(folder).signatures["serving_default"]
  results = signature(**{name: tf.constant(value) for name, value in inputs.items()})
results = {name: np.array(value).astype("float64") for name, value in results.items()}
np.savez(folder + "/results.npz", **results)
"""


def network(dtype):
  """Returns a Keras network of every kind of layer that there is a 3-D convolution in."""
  layers = keras.layers
  options = dict(data_format="channels_first", padding="same", dtype=dtype)
  volume = layers.Input([4, 8, 8, 8], name="volume")
  fine = layers.Conv3D(8, 3, activation="relu", **options)(volume)
  fine = layers.BatchNormalization(axis=1, dtype=dtype)(fine)
  if dtype == "float64":  # TensorFlow has no pooling of it
    coarse = layers.Conv3D(8, 2, strides=2, **options)(fine)
  else:
    coarse = layers.MaxPooling3D(2, data_format="channels_first", dtype=dtype)(fine)
  coarse = layers.Conv3D(8, 3, dilation_rate=2, **options)(coarse)
  coarse = layers.Conv3D(8, 3, groups=4, **options)(coarse)
  back = layers.Conv3DTranspose(8, 2, strides=2, **options)(coarse)
  joined = layers.Concatenate(axis=1)([fine, back])
  return keras.Model(volume, layers.Conv3D(3, 1, **options)(joined))


def of_session(folder):
  """Saves a model of TensorFlow 1, with its gradients."""
  v1 = tf.compat.v1
  with tf.Graph().as_default(), v1.Session() as session:
    volume = v1.placeholder(tf.float32, [None, 4, 8, 8, 8], "volume")
    filter = v1.get_variable("filter", [3, 3, 3, 4, 6])
    result = tf.nn.conv3d(volume, filter, [1] * 5, "SAME", "NCDHW")
    result = tf.nn.bias_add(result, tf.range(6.0), "NCHW")
    result = tf.nn.max_pool3d(result, 2, 2, "VALID", "NCDHW")
    gradients = tf.gradients(result**2, [volume, filter])
    session.run(v1.global_variables_initializer())
    outputs = {"result": result, "in_volume": gradients[0], "in_filter": gradients[1]}
    v1.saved_model.simple_save(session, str(folder), {"volume": volume}, outputs)


class ConvertTestCase(command_line.CommandLineTestCase):
  def setUp(self):
    super().setUp()
    self.folder = saved_models.folder_of(self)
    self.source, self.target = self.folder / "source", self.folder / "target"

  def convert(self, *options, status=0):
    arguments = ("convert", str(self.source), str(self.target), *options)
    output = self.invoke(*arguments, status=status, COLUMNS="200")
    # Nothing is left of the way there.
    left = {"source", *(["target"] if status == 0 else [])}
    self.assertLessEqual({path.name for path in self.folder.iterdir()}, left)
    return output

  def here(self):
    """Compares in this process: another takes seconds to start."""
    return mock.patch.object(children, "Children", _Here)

  def assert_runs_without_the_package(self, inputs, expected, tolerance, how="signature"):
    np.savez(self.target / "inputs.npz", **inputs)
    child = testing.run_child(["-c", CHILD, how, self.target], TF_ENABLE_ONEDNN_OPTS="0")
    self.assertEqual(child.returncode, 0, child.stderr)
    results = np.load(self.target / "results.npz")
    for name, value in expected.items():
      value = np.asarray(value, "d")
      error = np.linalg.norm(results[name] - value) / np.linalg.norm(value)
      self.assertLess(error, tolerance, name)


class _Here:
  """Stands for `children.Children`."""

  def __init__(self, function, patience):
    self.call = function

  def __enter__(self):
    return self

  def __exit__(self, *error):
    comparison._loaded.cache_clear()


class ModelsTest(ConvertTestCase):
  @parameterized.parameters(("float32", 1e-5), ("mixed_float16", 2e-2), ("float64", 1e-12))
  def test_a_keras_model_runs_without_the_package(self, dtype, tolerance):
    keras.utils.set_random_seed(1)
    model = network(dtype)
    model.export(self.source, verbose=False)
    with self.here():
      output = self.convert()
    self.assertIn("Conv3DBackpropInputV2", output)
    self.assertIn("functions no longer compiled by XLA", output)
    self.assertRegex(output, r"serving_default +agrees")
    wide = "float64" if dtype == "float64" else "float32"
    exact = network(wide)
    exact.set_weights(model.get_weights())
    volume = np.random.default_rng(0).standard_normal([2, 4, 8, 8, 8]).astype("f")
    with tf_conv3d_grad.patch_tensorflow():
      expected = exact(volume)
    self.assert_runs_without_the_package({"volume": volume}, {"output_0": expected}, tolerance)

  def test_a_model_of_tensorflow_1_runs_in_a_session(self):
    of_session(self.source)
    with self.here():
      output = self.convert()
    self.assertIn("5 operations rewritten", output)
    self.assertRegex(output, r"serving_default +agrees")
    for operation in ("MaxPool3DGrad", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2"):
      self.assertIn(operation, output)
    volume = np.random.default_rng(0).standard_normal([2, 4, 8, 8, 8]).astype("f")
    filter = tf.saved_model.load(str(self.target)).variables[0]
    with tf.GradientTape() as tape:
      inputs = [tf.constant(volume), tf.constant(filter)]
      tape.watch(inputs)
      last = tf.transpose(inputs[0], [0, 2, 3, 4, 1])
      last = tf.nn.conv3d(last, inputs[1], [1] * 5, "SAME") + tf.range(6.0)
      result = tf.transpose(tf.nn.max_pool3d(last, 2, 2, "VALID"), [0, 4, 1, 2, 3])
    in_volume, in_filter = tape.gradient(result, inputs, output_gradients=2 * result)
    expected = {"result": result, "in_volume": in_volume, "in_filter": in_filter}
    self.assert_runs_without_the_package({"volume": volume}, expected, 1e-5, "session")

  def test_variables_and_assets_are_the_same_files(self):
    keras.utils.set_random_seed(1)
    network("float32").export(self.source, verbose=False)
    (self.source / "assets" / "names.txt").write_text("a\n")
    (self.source / "assets.extra").mkdir()
    (self.source / "assets.extra" / "more").write_text("b\n")
    self.convert("--no-compare")
    names = {path.relative_to(self.source) for path in self.source.rglob("*")}
    self.assertEqual(names, {path.relative_to(self.target) for path in self.target.rglob("*")})
    for name in names:
      if (self.source / name).is_file() and name.suffix != ".pb":
        self.assertEqual((self.source / name).read_bytes(), (self.target / name).read_bytes())

  def test_one_that_no_cpu_refuses_is_copied_to_the_byte(self):
    saved_models.of_case(PLAIN, self.source)
    self.assertIn("copied as it is", self.convert())
    for path in self.source.rglob("*"):
      if path.is_file():
        copy = self.target / path.relative_to(self.source)
        self.assertEqual(path.read_bytes(), copy.read_bytes())

  def test_everything_is_in_the_file_for_machines(self):
    saved_models.of_case(FIRST, self.source)
    path = self.output_file("convert.json")
    with self.here():
      self.convert("--json", path)
    with open(path) as file:
      found = json.load(file)
    self.assertEqual(found["machine"]["tensorflow"], tf.__version__)
    self.assertEqual({change["op"] for change in found["changes"]}, {"Conv3D"})
    self.assertEqual({change["dtype"] for change in found["changes"]}, {"float64"})
    (compared,) = found["comparisons"]
    self.assertEqual(compared["status"], "agrees")
    self.assertLess(compared["error"], 1e-12)

  def test_what_no_cpu_runs_is_named(self):
    def call(volume):
      pooled = tf.nn.avg_pool3d(volume, 2, 2, "VALID", name="mean")
      return {"result": tf.nn.conv3d(pooled, tf.ones([1] * 3 + [2, 2], "double"), [1] * 5, "SAME",
                                     dilations=[1, 2, 2, 2, 1])}  # fmt: skip

    saved_models.of_function(call, self.source, tf.TensorSpec([1, 4, 4, 4, 2], "double"))
    output = self.convert("--no-compare")
    self.assertIn("no CPU runs it, and it stays: AvgPool3D mean", output)


class ComparisonTest(ConvertTestCase):
  def test_in_a_process_of_its_own(self):
    saved_models.of_case(FIRST, self.source)
    self.assertRegex(self.convert(), r"serving_default +agrees +\d\.\de-1\d +1\.0e-08")

  def test_a_process_that_ends_is_an_outcome(self):
    saved_models.of_case(FIRST, self.source)
    ended = children.Ended("SIGSEGV", None)
    with mock.patch.object(children.Children, "call", return_value=ended):
      output = self.convert()
    self.assertRegex(output, "serving_default +not compared .*ended: SIGSEGV")

  def test_where_the_results_differ_nothing_is_written(self):
    saved_models.of_case(FIRST, self.source)
    outcome = comparison.Comparison("serving_default", comparison.DIFFERS, float("inf"), 1e-8, "it")
    path = self.output_file("convert.json")
    with mock.patch.object(children.Children, "call", return_value=outcome):
      output = self.convert("--json", path, status=1)
    self.assertIn("target is not written: serving_default differs it", output)
    with open(path) as file:
      self.assertIsNone(json.load(file, parse_constant=self.fail)["comparisons"][0]["error"])

  def test_lengths_that_are_open_are_chosen(self):
    saved_models.of_case(FIRST, self.source, known="none")
    with self.here():
      output = self.convert("--length", "3")
    # A filter of 3 in channels, and a volume of 3: they fit.
    self.assertRegex(output, r"serving_default +agrees")


class RefusedTest(ConvertTestCase):
  def refused(self, *options):
    output = self.convert(*options, status=2)
    self.assertRegex(output, r"^Error: [^\n]*\n$")
    return output

  def test_no_folder(self):
    self.assertIn(f"there is no {self.source}", self.refused())

  def test_a_file_of_keras(self):
    self.source = self.folder / "source.keras"
    self.source.write_bytes(b"")
    with mock.patch.object(self, "assertLessEqual"):
      output = self.refused()
    self.assertIn("is a file of Keras's and no SavedModel", output)
    self.assertIn("patch_tensorflow()", output)
    self.assertFalse(self.target.exists())

  def test_an_empty_folder(self):
    self.source.mkdir()
    self.assertIn("it has no file saved_model.pb", self.refused())

  @parameterized.parameters("saved_model.pbtxt", "saved_model.cpb")
  def test_another_form(self, name):
    self.source.mkdir()
    (self.source / name).write_bytes(b"")
    self.assertIn("which is not supported", self.refused())

  @parameterized.parameters(b"", b"nonsense", b"\x08\x01", b"\x12\x00")
  def test_a_damaged_graph(self, content):
    self.source.mkdir()
    (self.source / "saved_model.pb").write_bytes(content)
    self.assertIn("saved_model.pb", self.refused())

  def test_a_truncated_graph(self):
    saved_models.of_case(FIRST, self.source)
    path = self.source / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-100])
    self.assertIn("is damaged", self.refused())

  def test_a_graph_that_is_too_large(self):
    self.source.mkdir()
    with open(self.source / "saved_model.pb", "wb") as file:
      file.truncate(2**31 + 1)  # a hole, which takes no disk
    self.assertIn("must be at most 2147483647 bytes, got 2147483649", self.refused())

  def test_a_destination_that_exists(self):
    saved_models.of_case(FIRST, self.source)
    self.target.mkdir()
    with mock.patch.object(self, "assertLessEqual"):
      self.assertIn("target exists already", self.refused())
    self.assertEmpty(list(self.target.iterdir()))

  def test_a_destination_in_the_model(self):
    saved_models.of_case(FIRST, self.source)
    self.target = self.source / "target"
    self.assertIn("must not be inside of", self.refused())
    self.assertNotIn("target", {path.name for path in self.source.iterdir()})

  def test_a_report_in_no_folder(self):
    saved_models.of_case(FIRST, self.source)
    file = self.folder / "nowhere" / "report.json"
    self.convert("--json", str(file), "--no-compare", status=1)
    self.assertFalse(self.target.exists())

  def test_a_destination_in_no_folder(self):
    saved_models.of_case(FIRST, self.source)
    self.target = self.folder / "nowhere" / "target"
    self.assertIn("cannot write beside", self.refused())

  @parameterized.parameters(
    ("data_format", "NXDHW", "has the data_format 'NXDHW'"),
    ("padding", "EXPLICIT", "has the padding 'EXPLICIT'"),
    ("strides", [1, 2], "has the strides [1, 2]"),
    ("dilations", [1, 0, 1, 1, 1], "has the dilations [1, 0, 1, 1, 1]"),
  )
  def test_a_malformed_node(self, attribute, value, message):
    saved_models.of_case(FIRST, self.source)
    model = files.read(self.source)
    for function in model.meta_graphs[0].graph_def.library.function:
      for node in function.node_def:
        if node.op == "Conv3D":
          node.attr[attribute].Clear()
          if isinstance(value, str):
            node.attr[attribute].s = value.encode()
          else:
            node.attr[attribute].list.i.extend(value)
    (self.source / files.GRAPHS).write_bytes(model.SerializeToString())
    output = self.refused()
    self.assertIn("Conv3D", output)
    self.assertIn(message, output)

  @parameterized.parameters(3, 0, 2**62)  # in channels, of which the filter takes four
  def test_shapes_that_fit_no_tensor(self, channels):
    saved_models.of_case(FIRST, self.source)
    model = files.read(self.source)
    for function in model.meta_graphs[0].graph_def.library.function:
      for attributes in function.arg_attr.values():
        for shape in attributes.attr["_output_shapes"].list.shape:
          if [each.size for each in shape.dim[1:]] == list(FIRST.shape_of("input"))[1:]:
            shape.dim[1].size = channels
    (self.source / files.GRAPHS).write_bytes(model.SerializeToString())
    self.assertIn("cannot be valid", self.refused())

  @absltest.skipUnless(hasattr(os, "mkfifo"), "there are no pipes")
  def test_what_is_no_file(self):
    saved_models.of_case(FIRST, self.source)
    os.mkfifo(self.source / "pipe")
    self.assertIn("is a named pipe", self.refused())

  def test_an_interrupt_leaves_nothing(self):
    saved_models.of_case(FIRST, self.source)
    with mock.patch.object(files, "publish", side_effect=KeyboardInterrupt):
      self.convert("--no-compare", status=1)
    self.assertFalse(self.target.exists())


if __name__ == "__main__":
  absltest.main()
