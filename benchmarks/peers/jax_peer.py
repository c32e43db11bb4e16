"""JAX's gradient of a convolution in its input, under jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import protocol


class JaxPeer:
  """The contestant `jit`."""

  def about(self) -> dict[str, Any]:
    """Returns versions and settings."""
    return {"jax": jax.__version__, "devices": [str(device) for device in jax.devices()]}

  def prepare(
    self, contestant: str, problem: dict[str, Any], filter: np.ndarray, out_backprop: np.ndarray  # noqa: A002
  ) -> Callable[[], jax.Array]:
    """Returns a call."""
    if contestant != "jit":
      raise ValueError(f"contestant must be jit, got {contestant}")
    dtype = jnp.dtype(problem["dtype"])

    def backprop_input(filter: jax.Array, out_backprop: jax.Array) -> jax.Array:  # noqa: A002
      def convolution(x: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
          x,
          filter,
          window_strides=problem["strides3"],
          padding=list(zip(problem["lead"], problem["trail"])),
          rhs_dilation=problem["dilations3"],
          dimension_numbers=(problem["data_format"], "DHWIO", problem["data_format"]),
          feature_group_count=problem["groups"],
        )

      like = jax.ShapeDtypeStruct(problem["input_sizes"], dtype)
      (result,) = jax.linear_transpose(convolution, like)(out_backprop)
      return result

    tensors = jnp.asarray(filter, dtype), jnp.asarray(out_backprop, dtype)
    function = jax.jit(backprop_input)
    return lambda: function(*tensors).block_until_ready()

  def to_numpy(self, result: jax.Array, problem: dict[str, Any]) -> np.ndarray:
    """Returns the result as float32 or float64."""
    return np.asarray(result, np.float64 if result.dtype == jnp.float64 else np.float32)


if __name__ == "__main__":
  jax.config.update("jax_enable_x64", True)
  protocol.serve(JaxPeer())
