"""The ops in the place of TensorFlow's own."""
