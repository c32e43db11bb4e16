"""What is wrong with a model."""

from __future__ import annotations


class ModelError(Exception):
  """Says what is wrong with a model, in one sentence."""
