"""What a conversion changes in a model, what it leaves, and that the results are the same."""

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import saved_models, testing
from tf_conv3d_grad.conformance import differential, oracle
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conversion import calls, files, rewriting

SIZES = "mb2_id6x7x8"
KNOWN = ("batch", "none")
CHOICES = (
  ("", "g4"),
  (("s1d1", "_valid"), ("s2d1", ""), ("s1d2", "_valid"), ("s1d2x1x2", "")),
  ("ndhwc", "ncdhw"),
  ("f16", "bf16", "f32", "f64"),
  ("_fwd", "", "_bwd_w"),
)
PLAIN = f"{SIZES}_ic4oc8_k3s1d1_ndhwc_f32"
FIRST = f"{SIZES}_ic4oc8_k3s1d1_ncdhw_f32_fwd"
# TensorFlow's own kernels, and their gradients, add halves up in half.
OF_TENSORFLOW = {"tolerances": differential.RAW_TOLERANCE}
EXACT = {
  "input": lambda case, t: oracle.conv3d_backprop_input(case, t["filter"], t["out_backprop"]),
  "filter": lambda case, t: oracle.conv3d_backprop_filter(case, t["input"], t["out_backprop"]),
  "out_backprop": lambda case, t: oracle.conv3d(case, t["input"], t["filter"]),
}


def forms():
  """Yields every form of a call, and one of `KNOWN`: any two choices meet both of them."""
  for places in itertools.product(*(range(len(choices)) for choices in CHOICES)):
    groups, (steps, padding), data_format, dtype, direction = (
      choices[place] for choices, place in zip(CHOICES, places)
    )
    form = f"{SIZES}_ic4oc8{groups}_k2x3x2{steps}_{data_format}_{dtype}{padding}{direction}"
    yield form, KNOWN[sum(places) % len(KNOWN)]


class ConversionTestCase(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    self.folder = saved_models.folder_of(self)
    self.source, self.target = self.folder / "source", self.folder / "target"

  def convert(self):
    return saved_models.converted(self.source, self.target)

  def load(self):
    return tf.saved_model.load(str(self.target))


class ResultsTest(ConversionTestCase):
  @parameterized.parameters(*forms())
  def test_they_and_their_gradients_are_right(self, case, known):
    case = Case.parse(case)
    saved_models.of_case(case, self.source, known)
    limits = {} if self.convert() else OF_TENSORFLOW
    arguments = case.arguments()
    tensors = {name: tf.constant(arguments[name]) for name in case.direction.operands}
    call = self.load().call
    with tf.GradientTape() as tape:
      tape.watch(tensors)
      result = call(**tensors)["result"]
    self.assert_accurate(case, result, oracle.exact(case, arguments), **limits)
    upstream = testing.random_array(case, result.shape, seed=1)
    gradients = tape.gradient(result, tensors, output_gradients=tf.constant(upstream))
    is_result = next(name for name in EXACT if name not in tensors)
    for name, gradient in gradients.items():
      exact = EXACT[name](case, {**arguments, is_result: upstream})
      self.assert_accurate(case, gradient, exact, **OF_TENSORFLOW)

  @parameterized.product(
    op=("MaxPool3D", "AvgPool3D"),
    dtype=("float16", "bfloat16", "float32"),
    data_format=("NDHWC", "NCDHW"),
    padding=("SAME", "VALID"),
  )
  def test_of_poolings_they_are_those_of_channels_last(self, op, dtype, data_format, padding):
    order = [0, 2, 3, 4, 1] if data_format == "NCDHW" else [0, 1, 2, 3, 4]
    back = np.argsort(order)
    values = saved_models.random(np.array([2, 4, 5, 6, 3])[back], dtype)

    def pool(volume, data_format=data_format, back=back):
      steps = [[1, 2, 3, 2, 1][place] for place in back]
      return getattr(tf.raw_ops, op)(
        input=volume, ksize=steps, strides=steps, padding=padding, data_format=data_format
      )

    def gradient(volume):
      with tf.GradientTape() as tape:
        tape.watch(volume)
        result = pool(volume)
      return {"result": result, "gradient": tape.gradient(result, volume)}

    shape = [None, *values.shape[1:]]
    saved_models.of_function(gradient, self.source, tf.TensorSpec(shape, dtype, "volume"))
    changes = self.convert()
    self.assertLen(changes, 2 if data_format == "NCDHW" or dtype == "float16" else 0)
    found = self.load().call(values)
    wide = tf.cast(tf.transpose(values, order), tf.float32)
    with tf.GradientTape() as tape:
      tape.watch(wide)
      expected = pool(wide, "NDHWC", [0, 1, 2, 3, 4])
    for name, value in (("result", expected), ("gradient", tape.gradient(expected, wide))):
      value = tf.transpose(value, back).numpy()
      np.testing.assert_allclose(found[name].numpy().astype("f"), value, atol=2e-2)

  def test_shapes_that_tensorflow_infers_wrong_are_not_relied_on(self):
    first = Case.parse("mb2_id5x8x9_ic4oc4_k3s1d1x1x2_ncdhw_f64_valid_fwd")
    filter, volume = (tf.constant(first.arguments()[name]) for name in ("filter", "input"))

    def call(volume, filter, convolve=tf.raw_ops.Conv3D):
      # 3x6x5 cells, which TensorFlow takes to be 3x4x7.
      result = convolve(input=volume, filter=filter, **first.attributes())
      pads = [[0, 0]] * 2 + [[1, 1]] * 3
      return {"result": convolve(input=tf.pad(result, pads), filter=filter, **first.attributes())}

    specs = [tf.TensorSpec(each.shape, each.dtype) for each in (volume, filter)]
    saved_models.of_function(lambda a, b: call(a, b), self.source, *specs)
    self.assertLen(self.convert(), 2)
    result = self.load().call(volume, filter)["result"]
    expected = call(volume, filter, tf_conv3d_grad.Conv3D)["result"]
    np.testing.assert_allclose(result.numpy(), expected.numpy(), atol=1e-10)

  def test_nodes_that_are_put_in_the_place_of_a_call_have_names_of_their_own(self):
    case = Case.parse(FIRST.replace("f32", "f16"))

    def call(input, filter):
      with tf.name_scope("volume") as scope:
        taken = [tf.cast(filter, tf.float16, name=name) for name in ("Cast", "Cast_1", "transpose")]
        result = tf.raw_ops.Conv3D(input=input, filter=taken[0], **case.attributes(), name=scope)
      return {"result": result + tf.reduce_sum(taken[1] - taken[2])}

    specs = [tf.TensorSpec(case.shape_of(name), tf.float16) for name in ("input", "filter")]
    saved_models.of_function(call, self.source, *specs)
    self.convert()
    arguments = case.arguments()
    result = self.load().call(arguments["input"], arguments["filter"])["result"]
    self.assert_right(case, arguments, result)


class OptimizerTest(ConversionTestCase):
  def test_neighbours_are_not_transposed_in_between(self):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
      volume = v1.placeholder(tf.float32, [None, 4, 8, 8, 8], "volume")
      filter = tf.constant(np.random.default_rng(0).standard_normal([3, 3, 3, 4, 4]), tf.float32)
      result = volume
      for _ in range(2):
        result = tf.nn.conv3d(result, filter, [1] * 5, "SAME", "NCDHW")
      result = tf.nn.max_pool3d(result, 2, 2, "VALID", "NCDHW", name="result")
      v1.saved_model.simple_save(session, str(self.source), {"in": volume}, {"out": result})
    self.convert()
    with tf.Graph().as_default(), v1.Session() as session:
      v1.saved_model.load(session, ["serve"], str(self.target))
      metadata, options = v1.RunMetadata(), v1.RunOptions(output_partition_graphs=True)
      values = {"volume:0": np.ones([2, 4, 8, 8, 8])}
      session.run("result:0", values, options=options, run_metadata=metadata)
    ops = [node.op for graph in metadata.partition_graphs for node in graph.node]
    self.assertLen([op for op in ops if "Transpose" in op], 2)
    self.assertNotIn("PartitionedCall", ops)


class ChangesTest(ConversionTestCase):
  @parameterized.parameters("_fwd", "", "_bwd_w")
  def test_what_every_cpu_takes_stays(self, direction):
    saved_models.of_case(Case.parse(PLAIN + direction), self.source)
    self.assertEmpty(self.convert())
    self.assertEqual(
      (self.source / files.GRAPHS).stat().st_size, (self.target / files.GRAPHS).stat().st_size
    )

  @parameterized.parameters(
    ("ncdhw_f32", "channels first"),
    ("ncdhw_f64", "channels first"),
    ("ndhwc_f16", None),
  )
  def test_each_has_its_reason(self, form, reason):
    saved_models.of_case(Case.parse(PLAIN.replace("ndhwc_f32", form) + "_fwd"), self.source)
    # A function and the signature that is made of it have a node each.
    self.assertEqual({change.reason for change in self.convert()}, {reason} - {None})

  def test_reasons_add_up(self):
    case = Case.parse(f"{SIZES}_ic4oc8g2_k3s1d2_ncdhw_f32")
    saved_models.of_case(case, self.source)
    change, _ = self.convert()
    self.assertEqual(change.reason, "channels first, dilated, 2 groups")
    self.assertEqual(change.shape, "2x4x6x7x8")  # of the constant sizes
    self.assertEqual((change.op, change.dtype), ("Conv3DBackpropInputV2", "float32"))

  @parameterized.parameters("all", "batch", "none")
  def test_a_second_conversion_changes_nothing(self, known):
    saved_models.of_case(Case.parse(f"{SIZES}_ic4oc8g2_k3s1d2_ncdhw_f32"), self.source, known)
    self.assertLen(self.convert(), 2)
    self.source, self.target = self.target, self.folder / "again"
    self.assertEmpty(self.convert())

  def test_a_conversion_gives_the_same_bytes_each_time(self):
    saved_models.of_case(Case.parse(FIRST), self.source)
    self.convert()
    before, self.target = self.target, self.folder / "again"
    self.convert()
    first, second = ((each / files.GRAPHS).read_bytes() for each in (before, self.target))
    self.assertEqual(first, second)

  def test_equal_nodes_call_one_function(self):
    def call(volume, filter):
      for _ in range(3):
        volume = tf.nn.conv3d(volume, filter, [1] * 5, "SAME", "NCDHW")
      return {"result": volume}

    specs = tf.TensorSpec([2, 4, 5, 5, 5]), tf.TensorSpec([3, 3, 3, 4, 4])
    saved_models.of_function(call, self.source, *specs)
    before = len(files.read(self.source).meta_graphs[0].graph_def.library.function)
    self.assertLen(self.convert(), 3)
    after = files.read(self.target).meta_graphs[0].graph_def.library.function
    self.assertEqual(len(after), before + 1)
    self.assertEqual(sum(map(calls.is_traced_here, after)), 1)

  def test_everything_else_stays(self):
    saved_models.of_case(Case.parse(FIRST), self.source)
    self.convert()
    (before,), (after,) = (files.read(each).meta_graphs for each in (self.source, self.target))
    self.assertEqual(before.signature_def, after.signature_def)
    self.assertEqual(before.object_graph_def, after.object_graph_def)
    self.assertEqual(before.saver_def, after.saver_def)
    self.assertEqual(before.graph_def.node, after.graph_def.node)
    names = [node.name for node in saved_models.nodes(self.source)]
    self.assertEqual(names, [node.name for node in saved_models.nodes(self.target)][: len(names)])

  def test_the_operations_of_the_model_are_listed(self):
    saved_models.of_case(Case.parse(FIRST), self.source)
    self.convert()
    (meta_graph,) = files.read(self.target).meta_graphs
    listed = {operation.name for operation in meta_graph.meta_info_def.stripped_op_list.op}
    self.assertLessEqual({node.op for node in saved_models.nodes(self.target)}, listed)

  def test_the_fingerprint_is_the_new_models(self):
    saved_models.of_case(Case.parse(FIRST), self.source)
    self.convert()
    before, after = (
      tf.saved_model.experimental.read_fingerprint(str(each))
      for each in (self.source, self.target)
    )
    self.assertNotEqual(before.saved_model_checksum, after.saved_model_checksum)
    self.assertEqual(before.signature_def_hash, after.signature_def_hash)

  def test_nodes_for_a_gpu_may_run_anywhere(self):
    def call(volume):
      with tf.device("/GPU:0"):
        return {"result": volume + 1.0}

    saved_models.of_function(call, self.source, tf.TensorSpec([2]))
    self.assertIn(rewriting.DEVICE, {change.op for change in self.convert()})
    self.assertFalse([node for node in saved_models.nodes(self.target) if "GPU" in node.device])

  def test_a_branch_and_a_loop_are_converted_inside(self):
    case = Case.parse(FIRST)

    def call(input, filter):
      def conv(tensor):
        return tf.raw_ops.Conv3D(input=tensor, filter=filter, **case.attributes())

      branch = tf.cond(tf.reduce_sum(input) < 1e9, lambda: conv(input), lambda: input[:, :1] * 0)
      _, looped = tf.while_loop(
        lambda i, _: i < 2, lambda i, _: (i + 1, conv(input)), (0, tf.zeros_like(branch)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None] * 5)),
      )  # fmt: skip
      return {"result": (branch + looped) / 2}

    specs = [tf.TensorSpec(case.shape_of(name)) for name in ("input", "filter")]
    saved_models.of_function(call, self.source, *specs)
    self.assertLen(self.convert(), 2)
    arguments = case.arguments()
    result = self.load().call(arguments["input"], arguments["filter"])["result"]
    self.assert_right(case, arguments, result)


class CompiledFunctionsTest(ConversionTestCase):
  def marked(self, folder):
    (meta_graph,) = files.read(folder).meta_graphs
    attributes = [function.attr for function in meta_graph.graph_def.library.function]
    attributes += [node.attr for node in saved_models.nodes(folder)]
    return any("_XlaMustCompile" in each and each["_XlaMustCompile"].b for each in attributes)

  def test_those_that_are_compiled_for_a_refused_convolution_are_not_any_more(self):
    case = Case.parse(FIRST)
    saved_models.of_case(case, self.source, jit_compile=True)
    self.assertTrue(self.marked(self.source))
    ops = [change.op for change in self.convert()]
    self.assertIn(rewriting.FUNCTION, ops)
    self.assertIn("Conv3D", ops)
    self.assertFalse(self.marked(self.target))
    # Nor is what wraps it once it is loaded.
    specs = [
      each.function.function_spec
      for each in files.read(self.target).meta_graphs[0].object_graph_def.nodes
      if each.WhichOneof("kind") == "function"
    ]
    self.assertEqual([spec.jit_compile for spec in specs], [0])
    arguments = case.arguments()
    tensors = {name: arguments[name] for name in case.direction.operands}
    self.assert_right(case, arguments, self.load().call(**tensors)["result"])

  def test_those_that_run_uncompiled_as_they_are_stay(self):
    saved_models.of_case(Case.parse(PLAIN + "_fwd"), self.source, jit_compile=True)
    self.assertEmpty(self.convert())
    self.assertTrue(self.marked(self.target))

  def test_those_with_an_operation_that_only_xla_has_stay(self):
    case = Case.parse(FIRST)

    def call(input, filter):
      result = tf.raw_ops.Conv3D(input=input, filter=filter, **case.attributes())
      return {"result": tf.raw_ops.AvgPool3D(
        input=tf.cast(result, tf.float64), ksize=[1] * 5, strides=[1] * 5, padding="SAME"
      )}  # fmt: skip

    specs = [tf.TensorSpec(case.shape_of(name)) for name in ("input", "filter")]
    saved_models.of_function(call, self.source, *specs, jit_compile=True)
    self.assertEmpty(self.convert())
    self.assertTrue(self.marked(self.target))


class RunnableTest(ConversionTestCase):
  @parameterized.product(
    case=[form for form, _ in forms() if "bf16" not in form]
  )
  def test_the_original_runs_with_xla_for_what_is_refused(self, case):
    case = Case.parse(case)
    saved_models.of_case(case, self.source)
    model = files.read(self.source)
    rewriting.compile_refused(model.meta_graphs[0], rewriting.refusals.ANY_CPU)
    files.write(model, self.source, self.target, linked=True)
    arguments = case.arguments()
    tensors = {name: tf.constant(arguments[name]) for name in case.direction.operands}
    result = self.load().call(**tensors)["result"]
    exact = oracle.exact(case, arguments)
    self.assert_accurate(case, result, exact, **OF_TENSORFLOW)


if __name__ == "__main__":
  absltest.main()
