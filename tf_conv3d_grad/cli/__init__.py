"""The console script `tf-conv3d-grad`: what the ops, and TensorFlow's own, do on this machine.

Each command has a file. TensorFlow is imported inside the commands, so that `--help` is fast. The
libraries come with the extra `cli`.
"""

from __future__ import annotations

import sys


def main() -> None:
  """Runs the command line and exits."""
  try:
    from tf_conv3d_grad.cli.program import program
  except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("click", "rich"):
      raise
    sys.exit(f"tf-conv3d-grad needs {missing}: pip install 'tf_conv3d_grad[cli]'")
  program(prog_name="tf-conv3d-grad")
