"""The form in which TensorFlow's kernel takes a call."""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a kernel of TensorFlow's computes a call.

  Attributes:
    device: "CPU" or "GPU".
    is_onednn: Whether it is oneDNN's. The CPU's other kernel is Eigen's.
    dtype: The dtype in which it takes the call.
    data_format: The data format in which it takes the call.
    by_sample: Whether it takes the batch one sample at a time.
    by_group: Whether it takes the groups one by one.
    by_phase: Whether a dilation is taken apart into as many phases, which become samples without a
      dilation.
  """

  device: str
  is_onednn: bool
  dtype: tf.DType
  data_format: str
  by_sample: bool = False
  by_group: bool = False
  by_phase: bool = False

  def fields(self) -> dict:
    """Returns what names this plan in files, in JSON's types; not to be worded anew."""
    return {**dataclasses.asdict(self), "dtype": self.dtype.name}

  def __str__(self) -> str:
    by_group = ", group by group" if self.by_group else ""
    by_sample = ", sample by sample" if self.by_sample else ""
    by_phase = ", phase by phase" if self.by_phase else ""
    return f"{self.dtype.name} {self.data_format}{by_group}{by_sample}{by_phase}"
