"""What tests, benchmarks and the command line share to judge the op.

A case (`case.py`) is a problem as one short, re-runnable string; the oracle (`oracle.py`) gives its
exact result, the reference (`reference.py`) that of TensorFlow's own op, and `differential.py`
compares the op to both. `python -m tf_conv3d_grad.conformance --help` runs them.
"""
