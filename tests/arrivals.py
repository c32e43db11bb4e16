"""Counting what arrives at the op and at the gradients that this package registers."""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

from tf_conv3d_grad.ops import conv3d_backprop_input
from tf_conv3d_grad.patching import registered_gradients


@contextlib.contextmanager
def arrivals() -> Iterator[list[str]]:
  """Yields a list that grows with the name of every function that is called, eagerly or traced.

  The patch has to be put on within, because it takes the registered gradients when it is.
  """
  arrived: list[str] = []

  def counted(name: str, function: Callable) -> Callable:
    def wrapper(*args, **kwargs):
      arrived.append(name)
      return function(*args, **kwargs)

    return wrapper

  gradients = {
    name: counted(f"gradient of {name}", function)
    for name, function in registered_gradients.REGISTERED.items()
  }
  calls = counted("op", conv3d_backprop_input.conv3d_backprop_input_v2)
  with mock.patch.object(conv3d_backprop_input, "conv3d_backprop_input_v2", calls):
    with mock.patch.dict(registered_gradients.REGISTERED, gradients):
      yield arrived
