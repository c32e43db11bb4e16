"""The dtype in which products are added up."""

from __future__ import annotations

import tensorflow as tf


def accumulation_dtype(dtype: tf.DType) -> tf.DType:
  """Returns the dtype to add up in: halves lose too much in their own."""
  return tf.float64 if dtype == tf.float64 else tf.float32
