"""The ops raced against TensorFlow's own, PyTorch and JAX; `python -m benchmarks --help`."""
