"""Adam's second moments in the eigenbasis of K-FAC's factors, and how long a step may be.

Symbols:
    Q_A, Q_G  eigenvectors of the Kronecker factors; s the Fisher's diagonal in their basis
    ĝ         gradient in the basis, Q_Gᵀ g Q_A
    m, v      moving averages of ĝ and ĝ², without their bias towards 0 (Kingma & Ba 2015)
    α         learning rate, ν the share of it that the KL divergence allows, c its limit

    θ ← θ − αν Q_G (m / √v) Q_Aᵀ,    ν = min(1, √(c / Σ s (αĝ/√v)²))

SOAP does this in Shampoo's basis (Vyas et al. 2024). The Fisher gives what SOAP does not have: a
length. ``Σ s (ĝ/√v)²`` is twice the KL divergence of a step along one batch's gradient. As long as
gradients agree, m is as long as ĝ and the step's own divergence is c/2; where they are noise, m is
short, and so is the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fisherbo.training.blocks import State, eigenbasis
from fisherbo.training.update import Block

_SMALLEST = 1e-4
"""Added to √v, in shares of its root mean square: less is rounding errors of the basis, by which
weights of inputs that are always 0 would wander."""


@dataclass(frozen=True)
class Directions:
    """Where the moments point.

    Attributes:
        updates: ``Q_G (m / √v) Q_Aᵀ`` of each block, in the shape of its gradient.
        of_gradients: ``Σ s (ĝ/√v)²`` of each block, shape ``(blocks,)``: twice the KL divergence of
            a step of learning rate 1 along this batch's gradient.
        squared_lengths: ``Σ s (m/√v)²`` likewise of the updates.
        slopes: ``gᵀu`` of gradients and updates u.
    """

    updates: Sequence[Tensor]
    of_gradients: Tensor
    squared_lengths: Tensor
    slopes: Tensor


def directions(blocks: Sequence[Block], decay: float) -> Directions:
    """Take the gradients into the moments of the blocks, in place; where these then point.

    Args:
        blocks: At least one; their momentum is the weight of the old m.
        decay: Weight of the old v.
    """
    bases = [eigenbasis(b.layer, b.state) for b in blocks]
    gradients = [basis.coordinates(b.gradient) for basis, b in zip(bases, blocks, strict=True)]
    momenta = [float(b.group["momentum"]) for b in blocks]
    for block in blocks:
        block.state["moment_updates"] += 1
    updates = [b.state["moment_updates"] for b in blocks]
    means = _average([b.state for b in blocks], "first_moment", gradients, momenta)
    squares = _average(
        [b.state for b in blocks],
        "second_moment",
        torch._foreach_mul(gradients, gradients),
        [decay] * len(blocks),
    )
    roots = list(torch._foreach_sqrt(squares))
    torch._foreach_div_(roots, [math.sqrt(1 - decay**count) for count in updates])
    for root, size in zip(roots, torch._foreach_norm(roots), strict=True):
        root.add_(size, alpha=_SMALLEST / math.sqrt(root.numel()))
        root.clamp_min_(torch.finfo(root.dtype).tiny)
    scaled = torch._foreach_div(means, roots)
    torch._foreach_div_(scaled, [1 - mu**count for mu, count in zip(momenta, updates, strict=True)])
    steps = torch._foreach_div(gradients, roots)
    roots_of_fisher = [b.state["root_spectrum"] for b in blocks]
    slopes = torch._foreach_mul(gradients, scaled)
    return Directions(
        [basis.matrix(u) for basis, u in zip(bases, scaled, strict=True)],
        _squared_lengths(roots_of_fisher, steps),
        _squared_lengths(roots_of_fisher, scaled),
        torch.stack([products.sum() for products in slopes]),
    )


def allowed_share(directions: Directions, rates: Sequence[float], limit: float | None) -> float:
    """ν: the share of the learning rates that keeps twice the KL divergence below the limit.

    Args:
        directions: Of this step.
        rates: Learning rate of each block that the limit is for.
        limit: c, twice the KL divergence in nats; ``None``: no limit.
    """
    if limit is None:
        return 1.0
    squared = float(directions.of_gradients @ _squares(rates, directions.of_gradients))
    return min(1.0, math.sqrt(limit / squared)) if squared > 0 else 1.0


def length(directions: Directions, rates: Sequence[float]) -> float:
    """Twice the KL divergence of the step with these learning rates, in nats."""
    return float(directions.squared_lengths @ _squares(rates, directions.squared_lengths))


def _average(
    states: Sequence[State], name: str, values: Sequence[Tensor], decays: Sequence[float]
) -> list[Tensor]:
    old: list[Tensor] = [state[name] for state in states]
    torch._foreach_mul_(old, list(decays))
    torch._foreach_add_(old, torch._foreach_mul(list(values), [1 - d for d in decays]))
    return old


def _squared_lengths(roots: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """``Σ s x²`` of each block, from √s."""
    weighted = torch._foreach_mul(list(values), list(roots))
    return torch.stack(torch._foreach_norm(weighted)).square()


def _squares(rates: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor([rate * rate for rate in rates]).to(like)
