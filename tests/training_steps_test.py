import json
import tempfile

from absl.testing import absltest, parameterized

from tests import testing

# Trains each network for some steps, with weights that change, and counts what XLA compiles.
_TRAIN = """
import json, os, sys
folder = sys.argv[1]
os.environ["XLA_FLAGS"] = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
import keras
import numpy as np
import tf_conv3d_grad

def network(data_format, **options):
  keras.utils.set_random_seed(0)
  options = dict(padding="same", data_format=data_format, activation="relu", **options)
  shape = [4, 6, 6, 6] if data_format == "channels_first" else [6, 6, 6, 4]
  return keras.Sequential([
    keras.layers.Input(shape), keras.layers.Conv3D(4, 3, **options),
    keras.layers.Conv3D(4, 3, **options),
    keras.layers.Conv3DTranspose(4, 2, strides=2, padding="same", data_format=data_format),
  ])

def modules():
  return len({name.split(".")[0] for name in os.listdir(folder) if name.startswith("module_")})

found = {}
tf_conv3d_grad.patch_tensorflow()
for data_format in ("channels_last", "channels_first"):
  for kind, options in NETWORKS.items():
    model = network(data_format, **options)
    model.compile("adam", "mse", **MODE)
    inputs = np.random.default_rng(0).uniform(-1, 1, [2, *model.input_shape[1:]])
    targets = np.ones([2, *model.output_shape[1:]])
    counts, losses = [], []
    for _ in range(5):
      losses.append(float(model.train_on_batch(inputs, targets)))
      counts.append(modules())
    assert losses[-1] < losses[0], losses
    found[f"{kind} {data_format}"] = counts
print(json.dumps(found))
"""
_NETWORKS = {"plain": {}, "dilated": {"dilation_rate": 2}, "grouped": {"groups": 2},
             "dilated and grouped": {"dilation_rate": [1, 2, 3], "groups": 4}}  # fmt: skip


class TrainingStepsTest(parameterized.TestCase):
  """A training step is compiled at the first steps, and not again when weights have changed."""

  @parameterized.parameters(
    dict(jit_compile=False), dict(jit_compile=True), dict(run_eagerly=True)
  )
  @testing.sample(1)
  def test_later_steps_compile_nothing(self, **mode):
    program = _TRAIN.replace("NETWORKS", repr(_NETWORKS)).replace("MODE", repr(mode))
    with tempfile.TemporaryDirectory() as folder:
      child = testing.run_child(["-c", program, folder])
    self.assertEqual(child.returncode, 0, child.stderr)
    found = json.loads(child.stdout.splitlines()[-1])
    self.assertLen(found, 2 * len(_NETWORKS))
    before = 0
    for network, counts in found.items():
      with self.subTest(network):
        # The second step may be traced once more: the optimizer's variables are there then.
        self.assertEqual(counts[-1], counts[1], counts)
        if mode == dict(jit_compile=True):
          self.assertGreater(counts[0], before)  # so the count counts
      before = counts[-1]


if __name__ == "__main__":
  absltest.main()
