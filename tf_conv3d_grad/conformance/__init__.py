"""What tests, benchmarks and the command line share to check the three ops.

A case (`case.py`) is a problem as one short string that can be run again. A direction
(`direction.py`) says which of the three functions it is of. The oracle (`oracle.py`) gives its
exact result, the reference (`reference.py`) the result of TensorFlow's own op. `ways.py` has the
ways of calling an op, and `children.py` makes calls that may end their process. `differential.py`
compares an op to the exact result and the reference. `shrinking.py` makes a case that fails as
small as it can. `tf-conv3d-grad check --help` says how to run them.
"""
