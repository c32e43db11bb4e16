"""Running the commands in this process."""

import os
import tempfile

import click.testing
import tensorflow as tf
from absl.testing import parameterized

from tf_conv3d_grad.cli import program


class CommandLineTestCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    # The commands silence it for the life of their process.
    self.addCleanup(tf.get_logger().setLevel, tf.get_logger().level)

  def invoke(self, *arguments, status=0, **environment):
    """Runs a command line, checks its exit status and returns what it printed."""
    environment = {"FORCE_COLOR": None, "COLUMNS": None, **environment}
    result = click.testing.CliRunner(env=environment).invoke(program.program, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
      raise result.exception
    self.assertEqual(result.exit_code, status, result.output)
    return result.output

  def output_file(self, name):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    return os.path.join(folder.name, name)
