"""Which forward passes count for the next step: those that a backward pass of the user reaches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Reached = Callable[[Any, Tensor, Tensor], None]
"""Called with what was remembered, the outputs and the gradient of the user's loss by them."""


def when_reached(outputs: Tensor, method: Reached, remembered: object) -> Tensor:
    """The same outputs, from which a backward pass calls a method before it goes further back.

    The graph behind the outputs is alive during the call. The method's owner is held weakly, and
    what is remembered belongs to the graph: both go with it if no backward pass comes.
    """
    apply: Callable[..., Tensor] = _Reached.apply  # untyped in torch
    return apply(outputs, weakref.WeakMethod(method), remembered)


def weight_versions(weights: Iterable[Tensor]) -> tuple[int, ...]:
    """Numbers that change when a weight is changed in place, as an optimizer does."""
    return tuple(weight._version for weight in weights)


class _Reached(torch.autograd.Function):
    """The identity. It copies, so that the user may change the outputs in place."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, method: Callable[[], Reached | None], remembered: object
    ) -> Tensor:
        ctx.save_for_backward(outputs)
        ctx.method, ctx.remembered = method, remembered
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (outputs,), (gradient,) = ctx.saved_tensors, gradients
        method = ctx.method()
        if method is not None:
            method(ctx.remembered, outputs, gradient)
        return gradient, None, None
