"""Lets absl's test cases run under pytest as they do under absltest.main()."""

from absl import flags


def pytest_configure():
  # absltest reads its flags, for temporary folders among others, and only absltest.main() parses
  # the command line: under pytest it is not absl's to parse, so the defaults hold.
  flags.FLAGS.mark_as_parsed()
