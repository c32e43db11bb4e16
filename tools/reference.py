"""Builds the reference of the public names from their docstrings, as pages to open in a browser.

  python tools/reference.py build/docs

Run it with an interpreter that has TensorFlow and the extra `docs`. It needs no network. A warning,
or a public name without an entry, is an error.
"""

from __future__ import annotations

import pathlib
import sys
import warnings

import pdoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(arguments: list[str]) -> int:
  """Builds the pages in the folder named by the only argument and returns the exit status."""
  if len(arguments) != 1:
    print(__doc__, file=sys.stderr)
    return 2
  folder = pathlib.Path(arguments[0])
  import tf_conv3d_grad

  with warnings.catch_warnings():
    warnings.simplefilter("error")
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("tf_conv3d_grad", output_directory=folder)
  page = folder / "tf_conv3d_grad.html"
  text = page.read_text(encoding="utf-8")
  missing = [name for name in tf_conv3d_grad.__all__ if f'id="{name}"' not in text]
  if missing:
    print(f"reference: {page} has no entry for {', '.join(missing)}", file=sys.stderr)
    return 1
  print(f"reference: {page}")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
