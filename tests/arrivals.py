"""Counting what arrives at the ops and at the gradients that this package registers."""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

from tf_conv3d_grad.patching import patch, registered_gradients


@contextlib.contextmanager
def arrivals() -> Iterator[list[str]]:
  """Yields a list that grows with the name of every function that is called, eagerly or traced.

  The patch has to be put on within, because it takes the registered gradients when it is.
  """
  arrived: list[str] = []

  def counted(function: Callable, name: str = "") -> Callable:
    def wrapper(*args, **kwargs):
      arrived.append(name or args[0])
      return function(*args, **kwargs)

    return wrapper

  gradients = {
    name: counted(function, f"gradient of {name}")
    for name, function in registered_gradients.REGISTERED.items()
  }
  with mock.patch.object(patch, "called", counted(patch.called)):
    with mock.patch.dict(registered_gradients.REGISTERED, gradients):
      yield arrived
