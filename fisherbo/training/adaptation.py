"""Levenberg–Marquardt damping: λ follows how well the quadratic model predicts the loss.

Symbols (Martens & Grosse 2015, § 6.5): ρ = (h(θ+δ) − h(θ)) / (M(δ) − M(0)); λ ← ω^T λ where ρ > ¾,
λ ← ω^−T λ where ρ < ¼, every T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fisherbo.geometry.trust_region import by_agreement

_RANGE = (1e-12, 1e12)
SETBACK = 4.0  # times λ after a step that left the finite numbers


def number(loss: float | Tensor) -> float:
    """A loss as a plain number."""
    return float(loss.detach()) if isinstance(loss, Tensor) else float(loss)


def reduction_ratio(actual: float, predicted: float) -> float:
    """ρ; −inf if the loss is not finite, NaN if no decrease was predicted.

    Args:
        actual: h(θ+δ) − h(θ).
        predicted: M(δ) − M(0).
    """
    if not math.isfinite(actual):
        return -math.inf
    return actual / predicted if predicted < 0 else math.nan


def adapted(damping: float, ratio: float, decay: float, interval: int) -> float:
    """λ after one comparison; NaN leaves it as it is.

    Args:
        damping: λ.
        ratio: ρ.
        decay: ω < 1.
        interval: T.
    """
    if not math.isnan(ratio):
        factor = decay**interval
        damping *= float(by_agreement(ratio, 1.0, factor, 1 / factor))
    return min(max(damping, _RANGE[0]), _RANGE[1])


@dataclass(frozen=True)
class Situation:
    """What a forward pass depends on or changes besides the weights: generators and buffers."""

    model: nn.Module
    generators: tuple[Tensor, ...]
    devices: tuple[torch.device, ...]

    @contextmanager
    def again(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Run a block from this situation; after it, all is as before it, gradients included."""
        gradients = [p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None  # so that the closure does not write into them
        owners = [(module, dict(module._buffers)) for module in self.model.modules()]
        for module, buffers in owners:  # a graph made in the block keeps its own buffers
            copies = {n: None if b is None else b.clone() for n, b in buffers.items()}
            module._buffers.update(copies)
        with torch.random.fork_rng(devices=list(self.devices)):
            _set_generators(self.generators, self.devices)
            try:
                yield
            finally:
                for module, buffers in owners:
                    module._buffers.update(buffers)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient


def situation(model: nn.Module) -> Situation:
    """The present situation, to be gone back to by `Situation.again`."""
    found = dict.fromkeys(p.device for p in model.parameters() if p.device.type == "cuda")
    devices = tuple(found)
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
    return Situation(model, tuple(states), devices)


def reevaluated(
    closure: Callable[[], float], before: Situation, parameters: Sequence[Tensor]
) -> float:
    """The closure's loss at the present weights, at the same dropout masks as the first time."""
    with before.again(parameters), torch.enable_grad():
        return number(closure())


def _set_generators(states: Sequence[Tensor], devices: Sequence[torch.device]) -> None:
    torch.set_rng_state(states[0])
    for state, device in zip(states[1:], devices, strict=True):
        torch.cuda.set_rng_state(state, device)
