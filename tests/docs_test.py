"""The Python of README and docs runs as it stands, and their links lead somewhere."""

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

PAGES = tuple(
  path.relative_to(testing.ROOT).as_posix()
  for folder in (".", "benchmarks", "docs", "examples")
  for path in sorted(testing.ROOT.joinpath(folder).glob("*.md"))
)


def anchors(path):
  """Returns the anchors of a page's headings, as GitHub makes them."""
  headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


class LinksTest(parameterized.TestCase):
  @parameterized.parameters(*PAGES)
  def test_each_leads_to_a_file_and_a_heading(self, name):
    page = testing.ROOT / name
    links = re.findall(r"\]\(([^()#\s]*)#?([^()\s]*)\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
      if not target.startswith(("http:", "https:")):
        path = page.parent / target if target else page
        self.assertTrue(path.exists(), f"{name}: {target}")
        if anchor:
          self.assertIn(anchor, anchors(path), f"{name}: {target}")


class BlocksTest(parameterized.TestCase):
  def test_every_page_has_some(self):
    self.assertLen({name.partition(",")[0] for name in BLOCKS}, 3)

  @parameterized.parameters(*BLOCKS)
  def test_it_runs(self, name):
    self.addCleanup(tf_conv3d_grad.unpatch_tensorflow)
    exec("import tensorflow as tf, tf_conv3d_grad\n" + BLOCKS[name], {})


if __name__ == "__main__":
  absltest.main()
