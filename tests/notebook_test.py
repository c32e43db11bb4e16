"""The notebook's outputs, as they are in the file; `make notebook` runs it."""

import json

from absl.testing import absltest, parameterized

from tests import testing
from tools import notebook

PATH = testing.ROOT / "examples" / "your_model.ipynb"


def outputs():
  cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
  return [output for cell in cells for output in cell.get("outputs", [])]


def with_output(**output):
  return {"cells": [{"outputs": [{"output_type": "stream", "name": "stdout", **output}]}]}


class OutputsTest(parameterized.TestCase):
  def test_they_are_fit_to_be_read_by_others(self):
    self.assertEmpty(notebook.unfit(json.loads(PATH.read_text(encoding="utf-8"))))

  def test_they_are_there_with_one_picture(self):
    shown = [output for output in outputs() if "image/png" in output.get("data", {})]
    self.assertLen(shown, 1)
    text = "".join("".join(output.get("text", [])) for output in outputs())
    for word in ("ms a step", "called", "inside jit_compile=True", "6 cases, 0 failed"):
      self.assertIn(word, text)

  @parameterized.parameters(
    ({"name": "stderr", "text": "WARNING"}, "standard error"),
    ({"text": ["a line\n", "/tmp/somewhere\n"]}, "a path of this machine"),
    ({"output_type": "error", "ename": "ValueError", "evalue": "no"}, "ValueError: no"),
  )
  def test_what_is_not_fit_is_found(self, output, said):
    (sentence,) = notebook.unfit(with_output(**output))
    self.assertIn(said, sentence)

  def test_what_is_fit_is_not(self):
    self.assertEmpty(notebook.unfit(with_output(text="18 ms a step")))


if __name__ == "__main__":
  absltest.main()
