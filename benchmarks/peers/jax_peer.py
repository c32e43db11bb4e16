"""JAX's convolution and its two gradients, under jit."""

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
    self, contestant: str, problem: dict[str, Any], operands: dict[str, np.ndarray]
  ) -> Callable[[], jax.Array]:
    """Returns a call."""
    if contestant != "jit":
      raise ValueError(f"contestant must be jit, got {contestant}")
    dtype = jnp.dtype(problem["dtype"])
    like = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in problem["shapes"].items()}

    def convolution(x: jax.Array, filter: jax.Array) -> jax.Array:  # noqa: A002
      return lax.conv_general_dilated(
        x,
        filter,
        window_strides=problem["strides3"],
        padding=list(zip(problem["lead"], problem["trail"])),
        rhs_dilation=problem["dilations3"],
        dimension_numbers=(problem["data_format"], "DHWIO", problem["data_format"]),
        feature_group_count=problem["groups"],
      )

    def backprop_input(filter: jax.Array, out_backprop: jax.Array) -> jax.Array:  # noqa: A002
      transposed = jax.linear_transpose(lambda x: convolution(x, filter), like["input"])
      return transposed(out_backprop)[0]

    def backprop_filter(x: jax.Array, out_backprop: jax.Array) -> jax.Array:
      transposed = jax.linear_transpose(lambda filter: convolution(x, filter), like["filter"])
      return transposed(out_backprop)[0]

    functions = {"fwd": convolution, "bwd_d": backprop_input, "bwd_w": backprop_filter}
    tensors = [jnp.asarray(operand, dtype) for operand in operands.values()]
    function = jax.jit(functions[problem["direction"]])
    return lambda: function(*tensors).block_until_ready()

  def to_numpy(self, result: jax.Array, problem: dict[str, Any]) -> np.ndarray:
    """Returns the result as float32 or float64."""
    return np.asarray(result, np.float64 if result.dtype == jnp.float64 else np.float32)


if __name__ == "__main__":
  jax.config.update("jax_enable_x64", True)
  protocol.serve(JaxPeer())
