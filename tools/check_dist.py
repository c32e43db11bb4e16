"""Installs the built sdist and wheel, each in a folder of its own, and calls the op from there.

  python tools/check_dist.py dist

Run it with an interpreter that has TensorFlow and mypy. It also checks that the wheel is pure
Python, that type checkers see the package's types, and that without TensorFlow the import says what
to install.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

_CALL_THE_OP = """
import inspect, os, pathlib
import numpy as np
import tensorflow as tf
import tf_conv3d_grad
folder = pathlib.Path(tf_conv3d_grad.__file__).parent
assert folder.parent.samefile(os.environ["PYTHONPATH"]), f"imported from {folder}"
assert (folder / "py.typed").exists(), "py.typed is missing"
assert tf_conv3d_grad.__version__ in os.environ["ARCHIVE"], tf_conv3d_grad.__version__
result = tf_conv3d_grad.Conv3DBackpropInputV2(
  input_sizes=[1, 3, 3, 3, 1], filter=np.ones([2, 2, 2, 1, 1], np.float32),
  out_backprop=np.ones([1, 2, 2, 2, 1], np.float32), strides=[1] * 5, padding="VALID")
assert float(result[0, 1, 1, 1, 0]) == 8.0, result
"""

_IMPORT_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
try:
  import tf_conv3d_grad
except ImportError as error:
  assert "pip install" in str(error), error
else:
  raise AssertionError("tf_conv3d_grad was imported without TensorFlow")
"""

# What is ignored are errors that only somebody who sees the types can find.
_USER_CODE = """
import numpy as np
import tf_conv3d_grad

ones = np.ones([1, 4, 4, 4, 1], np.float32)
filter = np.ones([2, 2, 2, 1, 1], np.float32)
with tf_conv3d_grad.jit_compile("auto"), tf_conv3d_grad.patch_tensorflow():
  result = tf_conv3d_grad.Conv3D(ones, filter, strides=[1] * 5, padding="SAME")
explanation = tf_conv3d_grad.explain(ones, filter, [1] * 5, "SAME", op=tf_conv3d_grad.Conv3D)
gflop: float = 0.0 if explanation.flops is None else explanation.flops / 1e9
version: str = tf_conv3d_grad.__version__
tf_conv3d_grad.jit_compile(3)  # type: ignore[arg-type]
tf_conv3d_grad.Conv3D(ones, filter, [1] * 5, padding=None)  # type: ignore[arg-type]
tf_conv3d_grad.unpatch_tensorflow("now")  # type: ignore[call-arg]
"""


def main(arguments: list[str]) -> int:
  """Checks every archive in the folder named by the only argument."""
  if len(arguments) != 1:
    print(__doc__, file=sys.stderr)
    return 2
  folder = pathlib.Path(arguments[0])
  archives = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
  kinds = [archive.suffix for archive in archives]
  if sorted(kinds) != [".gz", ".whl"]:
    print(f"check_dist: one sdist and one wheel are needed in {folder}, there are: {archives}")
    return 1
  for archive in archives:
    if archive.suffix == ".whl" and not archive.name.endswith("-py3-none-any.whl"):
      print(f"check_dist: {archive.name} is not pure Python")
      return 1
    _check(archive.resolve())
    print(f"{archive.name}: installs, and the op works")
  return 0


def _check(archive: pathlib.Path) -> None:
  with tempfile.TemporaryDirectory() as target:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*install, str(archive)], check=True)
    # From that folder and nowhere else: an editable install of this interpreter stands behind.
    environment = dict(os.environ, PYTHONPATH=target, ARCHIVE=archive.name)
    for program in (_CALL_THE_OP, _IMPORT_WITHOUT_TENSORFLOW):
      subprocess.run([sys.executable, "-c", program], check=True, cwd=target, env=environment)
    # From another folder: what lies in its own mypy takes for the user's, with py.typed or without.
    type_check = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "-c", _USER_CODE]
    with tempfile.TemporaryDirectory() as elsewhere:
      subprocess.run(type_check, check=True, cwd=elsewhere, env=environment)
    script = pathlib.Path(target, "bin", "tf-conv3d-grad")
    subprocess.run([script, "check", "--cases=3"], check=True, cwd=target, env=environment)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
