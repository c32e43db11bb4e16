"""What SECURITY.md promises of files."""

import pathlib
import tempfile

from absl.testing import absltest

from tests import testing

# Python tells an audit hook of every file that is opened and every process that is started.
SCRIPT = """
import os, pathlib, sys, tempfile
import numpy as np
import tensorflow as tf

folder = tempfile.mkdtemp()
os.chdir(folder)
tempfile.tempdir = folder
written, ran = [], []

def audit(event, arguments):
  if event == "open":
    path, mode, flags = arguments
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
      written.append(path)
  elif event in ("os.mkdir", "os.rename", "os.symlink", "os.link", "shutil.copyfile"):
    written.append(arguments)
  elif event in ("subprocess.Popen", "os.system", "os.exec", "pickle.find_class", "marshal.load"):
    ran.append((event, arguments))

  elif event.startswith("socket."):
    ran.append((event, arguments))

sys.dont_write_bytecode = True
sys.addaudithook(audit)
import tf_conv3d_grad
for mode in (True, False, "auto"):
  with tf_conv3d_grad.jit_compile(mode), tf_conv3d_grad.patch_tensorflow():
    arguments = dict(
      input_sizes=[1, 4, 5, 6, 2], filter=tf.ones([3, 3, 3, 2, 3]),
      out_backprop=tf.ones([1, 4, 5, 6, 3]), strides=[1] * 5, padding="SAME")
    tf_conv3d_grad.Conv3DBackpropInputV2(**arguments)
    tf.function(lambda: tf_conv3d_grad.Conv3DBackpropInputV2(**arguments))()
str(tf_conv3d_grad.explain(**arguments))
print("written:", sorted(set(map(str, written))), os.listdir(folder))
print("ran:", [event for event, _ in ran if event != "marshal.load"])
"""


class FilesTest(absltest.TestCase):
  def test_autotuning_writes_its_one_file_and_runs_no_other_code(self):
    with tempfile.TemporaryDirectory() as cache:
      child = testing.run_child(
        ["-c", SCRIPT], TF_CONV3D_GRAD_AUTOTUNE="1", XDG_CACHE_HOME=cache, LOCALAPPDATA=cache
      )
      files = list(pathlib.Path(cache, "tf_conv3d_grad").iterdir())
    written, ran = child.stdout.splitlines()
    self.assertEqual(ran, "ran: []", child.stderr[-2000:])
    self.assertLen(files, 1)
    self.assertIn(files[0].name, written)
    self.assertEndsWith(written, " []")

  def test_importing_and_calling_writes_no_file_and_runs_no_other_code(self):
    child = testing.run_child(["-c", SCRIPT])
    self.assertEqual(child.stdout, "written: [] []\nran: []\n", child.stderr[-2000:])


if __name__ == "__main__":
  absltest.main()
