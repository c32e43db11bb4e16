"""`python -m tf_conv3d_grad` is the console script `tf-conv3d-grad`."""

from __future__ import annotations

from tf_conv3d_grad import cli

if __name__ == "__main__":
  cli.main()
