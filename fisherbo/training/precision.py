"""Mixed precision and gradient clipping around the steps of any optimizer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.training.kfac import KFAC


class Precision:
    """Evaluates under autocast, scales losses for float16, and clips gradients.

    Args:
        model: The network; its first parameter's device is that of autocast.
        optimizer: Its optimizer.
        dtype: Of autocast: bfloat16, float16, or ``None``.
        max_grad_norm: Largest Euclidean norm of all gradients together, or ``None``.

    Raises:
        InvalidInputError: If an argument breaks its rule, or float16 is asked for with an optimizer
            that needs a closure, which torch's GradScaler cannot serve.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        dtype: torch.dtype | None,
        max_grad_norm: float | None,
    ) -> None:
        if dtype not in (None, torch.bfloat16, torch.float16):
            raise InvalidInputError(
                f"autocast must be torch.bfloat16, torch.float16 or None, got {dtype!r}"
            )
        if max_grad_norm is not None and not (math.isfinite(max_grad_norm) and max_grad_norm > 0):
            raise InvalidInputError(
                f"max_grad_norm must be > 0 or None, got {max_grad_norm!r}; 1 is usual"
            )
        if dtype == torch.float16 and _needs_closure(optimizer):
            raise InvalidInputError(
                "autocast=torch.float16 must have an optimizer that steps without a closure, got "
                f"a {type(optimizer).__name__} that needs one; use torch.bfloat16"
            )
        device = next((p.device.type for p in model.parameters()), "cpu")
        self._device, self._dtype, self._max_norm = device, dtype, max_grad_norm
        self._optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device) if dtype == torch.float16 else None

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the model and the loss are evaluated."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)

    def backward(self, loss: Tensor) -> None:
        """New gradients of all parameters, clipped; times the scale of float16."""
        scale = 1.0
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
            scale = self.scaler.get_scale()
        self._optimizer.zero_grad()
        loss.backward()
        if self._max_norm is not None:
            parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._max_norm * scale)

    def step(self, closure: Callable[[], Tensor]) -> bool:
        """One step; whether it was taken (float16 skips those whose gradients overflow)."""
        if self.scaler is None:
            self._optimizer.step(closure)  # type: ignore[arg-type]  # torch wants floats
            return True
        closure()
        before = self.scaler.get_scale()
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    if isinstance(optimizer, KFAC):
        return optimizer.needs_closure
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
