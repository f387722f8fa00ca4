"""Forward hooks that outlive neither their optimizer nor a copy of their model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError


def single_tensor(outputs: object) -> Tensor:
    """The output of a model, if it is one tensor with a dimension.

    Raises:
        InvalidInputError: If it is not.
    """
    if isinstance(outputs, Tensor) and outputs.ndim > 0:
        return outputs
    raise InvalidInputError(
        "the model's output must be one tensor of logits or means with at least one dimension for "
        f"a natural gradient, got {type(outputs).__name__}; wrap the model so that it returns the "
        "tensor alone"
    )


class Hook:
    """A forward hook that keeps no capture alive and does nothing in a copy of the model.

    torch.compile leaves it out of its graphs, which break there.
    """

    def __init__(self, method: Callable[..., Any] | None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)
        self._run = None if method is None else torch.compiler.disable(_run)

    def __call__(self, *args: Any) -> Any:
        """What the method returns, or ``None`` once its owner is gone."""
        return None if self._run is None else self._run(self._method, args)

    def __reduce__(self) -> tuple[type[Hook], tuple[None]]:
        return (Hook, (None,))


def _run(method: Callable[[], Callable[..., Any] | None], args: Any) -> Any:
    alive = method()
    return None if alive is None else alive(*args)
