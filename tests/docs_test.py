"""The Python of README and docs runs as it stands."""

import pathlib
import re

from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing

# Those with an ellipsis show a form, and are not for running.
BLOCKS = {
  f"{page}, block {number}": block
  for page in ("README.md", "docs/integration.md", "docs/how_it_works.md")
  for number, block in enumerate(
    re.findall(r"^```python\n(.*?)^```", pathlib.Path(testing.ROOT, page).read_text(), re.M | re.S)
  )
  if "..." not in block
}


class BlocksTest(parameterized.TestCase):
  def test_every_page_has_some(self):
    self.assertLen({name.partition(",")[0] for name in BLOCKS}, 3)

  @parameterized.parameters(*BLOCKS)
  def test_it_runs(self, name):
    self.addCleanup(tf_conv3d_grad.unpatch_tensorflow)
    exec("import tensorflow as tf, tf_conv3d_grad\n" + BLOCKS[name], {})


if __name__ == "__main__":
  absltest.main()
