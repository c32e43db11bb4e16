"""The example of a brain volume: its network and its training, without the volume."""

from __future__ import annotations

import itertools
import sys

import numpy as np
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing

# They are scripts, and import one another as such.
sys.path.insert(0, str(testing.ROOT / "examples"))
import network  # noqa: E402
import tables  # noqa: E402
import training  # noqa: E402

_LAST, _FIRST = (training.Setting("float32", f"channels_{end}") for end in ("last", "first"))


def _trained(setting, seconds=float("inf")):
  """Returns the network after some steps, and the run."""
  net = network.segmentation_net(3, setting.data_format, setting.dtype, seed=0)
  rng = np.random.default_rng(0)
  # Not 8 wide: with 8 channels, TensorFlow as it is gives other results channels first than last.
  batch = rng.normal(size=[1, *[12] * 3, 1]).astype("float32"), rng.integers(0, 3, [1, *[12] * 3])
  return net, training.train(net, setting, itertools.repeat(batch), 4, seconds)


class TrainingTest(parameterized.TestCase):
  def test_patched_channels_first_learns_what_channels_last_does_as_it_is(self):
    stock, expected = _trained(_LAST)
    with tf_conv3d_grad.patch_tensorflow():
      ours, found = _trained(_FIRST)
      ours.set_weights(stock.get_weights())  # Adam has made more of the rounding errors in them.
      volume = np.random.default_rng(1).normal(size=[4, 12, 12]).astype("float32")
      predicted = training.predict(ours, _FIRST, volume)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4)
    agree = predicted == training.predict(stock, _LAST, volume)
    self.assertGreater(agree.mean(), 0.99)
    self.assertEqual(predicted.shape, volume.shape)

  def test_time_is_up_after_the_fewest_steps(self):
    self.assertLen(_trained(_LAST, seconds=0)[1].losses, 3)


class TablesTest(absltest.TestCase):
  def test_an_error_is_shown_without_where_it_came_from(self):
    error = ValueError("Detected at node a\n File b\n\nOnly [NDHWC].\n\t [[{{node a}}]] [Op:c]")
    self.assertEqual(tables._reason(error), r"ValueError: Only [NDHWC].")

  def test_what_is_refused_says_so_and_fits_the_terminal(self):
    ran = training.Run(np.ones(3), 25.4, 14563.0)
    setting = training.Setting("mixed_float16", "channels_first")
    grid = tables.of_runs({setting: {"as it is": ValueError("no"), "patched": ran},
                           _LAST: {"as it is": ran, "patched": ran}})  # fmt: skip
    console = rich_console(80)
    with console.capture() as capture:
      console.print(grid)
    for text in ("refused", "error 1", "runs", "14,563", "ValueError: no"):
      self.assertIn(text, capture.get())
    self.assertNotIn("…", capture.get())


def rich_console(columns):
  """Returns a terminal so many columns wide."""
  from rich.console import Console

  return Console(width=columns)


if __name__ == "__main__":
  absltest.main()
