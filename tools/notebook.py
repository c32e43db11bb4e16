"""Runs a notebook from top to bottom and checks that what it shows is fit to be read by others.

  python tools/notebook.py examples/your_model.ipynb            runs it, the file stays
  python tools/notebook.py --write examples/your_model.ipynb    puts the outputs into the file

Run it with an interpreter that has TensorFlow and the extra `notebook`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Native code of TensorFlow's logs these before Python can set its log level.
_LOG_LINE = re.compile(
  r"WARNING: All log messages before absl|[IW]\d{4} [\d:.]+ .*\b\w+\.cc:\d+\]"
)
_SECONDS = 300


def main(arguments: list[str]) -> int:
  """Runs the notebook of the command line and returns the exit status."""
  parser = argparse.ArgumentParser(description="Runs a notebook and checks its outputs.")
  parser.add_argument("notebook", type=pathlib.Path)
  parser.add_argument("--write", action="store_true", help="put the outputs into the file")
  options = parser.parse_args(arguments)
  import nbformat

  notebook = nbformat.read(options.notebook, as_version=4)
  begin = time.perf_counter()
  _run(notebook, options.notebook.parent)
  print(f"notebook: {options.notebook} ran in {time.perf_counter() - begin:.0f} s")
  wrong = unfit(notebook)
  for sentence in wrong:
    print(f"notebook: {sentence}", file=sys.stderr)
  if not wrong and options.write:
    nbformat.write(notebook, options.notebook)
  return int(bool(wrong))


def unfit(notebook: dict[str, Any]) -> list[str]:
  """Returns a sentence for each output that others should not see; `notebook` is its JSON."""
  sentences = []
  for number, cell in enumerate(notebook["cells"]):
    for output in cell.get("outputs", []):
      text = _text(output)
      if output["output_type"] == "error" or output.get("name") == "stderr":
        sentences.append(f"cell {number} ends in an error or writes to the standard error: {text}")
      for name in ("/home/", "/root/", "/tmp/", "/Users/", "site-packages", str(ROOT)):
        if name in text:
          sentences.append(f"cell {number} shows a path of this machine, {name}: {text}")
  return sentences


def _run(notebook: Any, folder: pathlib.Path) -> None:
  """Executes all cells in a kernel of this interpreter; raises what a cell raises."""
  import nbclient
  import nbformat

  python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
  environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONPATH=python_path)
  client = nbclient.NotebookClient(
    notebook, timeout=_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
  )
  client.execute(env=environment)
  # Neither times nor this interpreter's version: a run changes only what it shows.
  notebook.metadata = nbformat.from_dict({
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
  })
  for cell in notebook.cells:
    cell.metadata = nbformat.from_dict({})
    if cell.cell_type == "code":
      cell.outputs = [output for output in map(_without_log, cell.outputs) if output is not None]


def _without_log(output: Any) -> Any:
  """Returns an output without TensorFlow's log lines, None if nothing is left."""
  if output.get("name") != "stderr":
    return output
  lines = [line for line in output.text.splitlines(keepends=True) if not _LOG_LINE.match(line)]
  output.text = "".join(lines)
  return output if output.text.strip() else None


def _text(output: dict[str, Any]) -> str:
  """Returns what an output shows as text."""
  if output["output_type"] == "error":
    return f"{output['ename']}: {output['evalue']}"
  text = output.get("text", output.get("data", {}).get("text/plain", ""))
  return text if isinstance(text, str) else "".join(text)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
