"""Whole training steps of Keras models, TensorFlow as it is and patched; `--help` says more."""
