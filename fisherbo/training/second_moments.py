"""Adam's second moments in the eigenbasis of K-FAC's factors, and how long a step may be.

Symbols:
    Q_A, Q_G  eigenvectors of the Kronecker factors; s the Fisher's diagonal in their basis
    ĝ         gradient in the basis, Q_Gᵀ g Q_A
    m, v      moving averages of ĝ and ĝ², without a bias towards 0 (Kingma & Ba 2015); m takes at
              most ĝ / RMS(ĝ/√v), as the updates of StableAdamW (Wortsman et al. 2023)
    α         learning rate of a matrix of n entries, from the lr of its group
    ν         the share of α that the KL divergence allows, c its limit

    θ ← θ − αν Q_G (m / √v) Q_Aᵀ,    ν = min(1, √(c / Σ s (αĝ/√v)²)),
    α = lr · min(1, 32 / √(n (1 − ρ))),    ρ = Σ (m/√v)² / mean of Σ (ĝ/√v)²

SOAP does this in Shampoo's basis (Vyas et al. 2024). The Fisher gives what SOAP does not have: a
length. ``Σ s (ĝ/√v)²`` is twice the KL divergence of a step along one batch's gradient. As long as
gradients agree, m is as long as ĝ and the step's own divergence is c/2; where they are noise, m is
short, and so is the step.

Where a classifier is sure of its training data, its Fisher vanishes and limits nothing. Independent
gradients still leave a mean of some length in each of n coordinates, and its effect on the outputs
grows as √n. So α falls with the entries that are noise, n (1 − ρ): as 1 / fan-in for square
matrices, as in µP (Yang et al. 2022). The mean in ρ has the weights of m: ρ is the square of
a mean by the mean of squares: near 1 for full batches, which keep the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fisherbo.geometry.trust_region import kl_share
from fisherbo.training.blocks import eigenbasis
from fisherbo.training.update import Block

_SMALLEST = 1e-4
"""Added to √v, in shares of its root mean square: less is rounding errors of the basis, by which
weights of inputs that are always 0 would wander."""

_UNDERFLOW = math.sqrt(torch.finfo(torch.float32).tiny)
"""Added to √v: smaller gradients, whose squares are 0, move nothing."""

_NOISY_ENTRIES = 32**2
"""Of a matrix that moves with the learning rate of its group; more make α fall. Chosen among 24²,
32², 40², 48², 64² on ``experiments/development.py``."""

_LARGEST = 1.0
"""Root mean square of ĝ/√v with which a batch enters m. Without a limit single batches, of rows
that are hard to fit, throw a ResNet off that has learned the others."""


@dataclass(frozen=True)
class Directions:
    """Where the moments point.

    Attributes:
        updates: ``Q_G (m / √v) Q_Aᵀ`` of each block, in the shape of its gradient.
        of_gradients: ``Σ s (ĝ/√v)²`` of each block, shape ``(blocks,)``: twice the KL divergence of
            a step of learning rate 1 along this batch's gradient.
        squared_lengths: ``Σ s (m/√v)²`` likewise of the updates.
        slopes: ``gᵀu`` of gradients and updates u.
        coherence: ρ of each block, 1 for equal gradients, (1 − μ)/(1 + μ) for independent ones.
    """

    updates: Sequence[Tensor]
    of_gradients: Tensor
    squared_lengths: Tensor
    slopes: Tensor
    coherence: Tensor


def directions(blocks: Sequence[Block], decay: float) -> Directions:
    """Take the gradients into the moments of the blocks, in place; where these then point.

    Args:
        blocks: At least one; their momentum is the weight of the old m.
        decay: Weight of the old v.
    """
    bases = [eigenbasis(b.layer, b.state) for b in blocks]
    gradients = [basis.coordinates(b.gradient) for basis, b in zip(bases, blocks, strict=True)]
    means, roots, steps = _averages(blocks, gradients, decay)
    scaled = torch._foreach_div(means, roots)
    fisher = [b.state["root_spectrum"] for b in blocks]
    mean_lengths = _mean_lengths(blocks, _squared_norms(steps))
    slopes = [g.flatten() @ u.flatten() for g, u in zip(gradients, scaled, strict=True)]
    return Directions(
        updates=[basis.matrix(u) for basis, u in zip(bases, scaled, strict=True)],
        of_gradients=_squared_norms(torch._foreach_mul(steps, fisher)),
        squared_lengths=_squared_norms(torch._foreach_mul(scaled, fisher)),
        slopes=torch.stack(slopes),
        coherence=_squared_norms(scaled) / mean_lengths.clamp_min(_UNDERFLOW),
    )


def noise_shares(blocks: Sequence[Block], coherence: Tensor) -> list[float]:
    """α / lr of each block; 1 where an input meets only a few entries of the noise.

    That is in embeddings and normalisations.

    Args:
        blocks: As in `directions`.
        coherence: ρ.
    """
    sizes = [
        0 if b.layer.kind in ("units", "embedding") else math.prod(b.layer.shape[-2:])
        for b in blocks
    ]
    noisy = torch.tensor(sizes).to(coherence) * (1 - coherence)
    shares: list[float] = (_NOISY_ENTRIES / noisy.clamp_min(_NOISY_ENTRIES)).sqrt().tolist()
    return shares


def allowed_share(directions: Directions, rates: Sequence[float], limit: float | None) -> float:
    """ν: the share of the learning rates that keeps twice the KL divergence below the limit.

    That of the step too, which is longer where this batch's gradient is smaller than those before.

    Args:
        directions: Of this step.
        rates: Learning rate of each block that the limit is for.
        limit: c, twice the KL divergence in nats; ``None``: no limit.
    """
    if limit is None:
        return 1.0
    lengths = torch.stack([directions.of_gradients, directions.squared_lengths])
    return kl_share(float((lengths @ _squares(rates, lengths)).max()), limit)


def length(directions: Directions, rates: Sequence[float]) -> float:
    """Twice the KL divergence of the step with these learning rates, in nats."""
    return float(directions.squared_lengths @ _squares(rates, directions.squared_lengths))


def _averages(
    blocks: Sequence[Block], gradients: Sequence[Tensor], decay: float
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The averages m, and √v, with the gradients in them; and the part of ĝ/√v that m took."""
    roots = _roots(blocks, gradients, decay)
    steps: list[Tensor] = list(torch._foreach_div(list(gradients), roots))
    lengths = torch.stack(torch._foreach_norm(steps))
    sizes = lengths.new_tensor([math.sqrt(step.numel()) for step in steps])
    shares = list((_LARGEST * sizes / lengths).clamp(max=1.0).unbind())
    torch._foreach_mul_(steps, shares)
    means: list[Tensor] = [b.state["first_moment"] for b in blocks]
    clipped = torch._foreach_mul(list(gradients), shares)
    torch._foreach_lerp_(means, list(clipped), _momentum_weights(blocks, means))
    return means, roots, steps


def _roots(blocks: Sequence[Block], gradients: Sequence[Tensor], decay: float) -> list[Tensor]:
    """√v, with the gradients in it."""
    for block in blocks:
        block.state["moment_updates"] += 1
    squares: list[Tensor] = [b.state["second_moment"] for b in blocks]
    weights = [_newest(decay, b.state["moment_updates"]) for b in blocks]
    torch._foreach_mul_(squares, [1 - weight for weight in weights])
    torch._foreach_addcmul_(squares, list(gradients), list(gradients), weights)
    roots = list(torch._foreach_sqrt(squares))
    sizes = torch.stack(torch._foreach_norm(roots))
    shares = sizes.new_tensor([_SMALLEST / math.sqrt(root.numel()) for root in roots])
    torch._foreach_add_(roots, list((sizes * shares + _UNDERFLOW).unbind()))
    return roots


def _mean_lengths(blocks: Sequence[Block], lengths: Tensor) -> Tensor:
    """The averages of ``Σ (ĝ/√v)²``, with these in them, shape ``(blocks,)``."""
    means: list[Tensor] = [b.state["mean_length"] for b in blocks]
    torch._foreach_lerp_(means, list(lengths.unbind()), _momentum_weights(blocks, means))
    return torch.stack(means)


def _momentum_weights(blocks: Sequence[Block], like: Sequence[Tensor]) -> list[Tensor]:
    """Weight of the newest value in averages with the blocks' momenta."""
    weights = [_newest(float(b.group["momentum"]), b.state["moment_updates"]) for b in blocks]
    return list(like[0].new_tensor(weights).unbind())


def _newest(decay: float, update: int) -> float:
    """Weight of the newest of so many values, where weights fall by ``decay`` with age."""
    return (1 - decay) / (1 - decay**update)


def _squared_norms(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(values))).square()


def _squares(rates: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor([rate * rate for rate in rates]).to(like)
