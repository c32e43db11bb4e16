"""The version, in a file of its own so that setup.py can read it without importing TensorFlow."""

__version__ = "1.0.6"
