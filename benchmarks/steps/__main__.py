"""`python -m benchmarks.steps`."""

import sys

from benchmarks.steps.run import main

if __name__ == "__main__":
  sys.exit(main())
