"""What tests, benchmarks and the command line share to judge the three ops.

A case (`case.py`) is a problem as one short, re-runnable string, and a direction (`direction.py`)
says which of the three functions it is of; the oracle (`oracle.py`) gives its exact result, the
reference (`reference.py`) that of TensorFlow's own op. `ways.py` has the ways of calling an op,
`children.py` makes calls that may end their process. `differential.py` compares the op to the exact
result and the reference, and `shrinking.py` makes a case that fails as small as it can.
`tf-conv3d-grad check --help` says how to run them.
"""
