"""Mirror ascent on the simplex: the natural gradient's finite step that never leaves it.

Symbols:
    p        probabilities of k outcomes
    a        advantage of each outcome; the objective is E_p[a]
    η        step length
In the natural coordinates of an exponential family a mirror step is exactly a natural-gradient step
(Raskutti & Mukherjee 2015). In probabilities the two agree to O(η²).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical

from fisherbo.errors import InvalidInputError


def mirror_step(distribution: Categorical, advantage: Tensor, step: float) -> Categorical:
    """The distribution ``p·exp(η a)/Z``; outcomes of probability 0 stay at 0.

    Args:
        distribution: p, batch shape ``(*b,)``.
        advantage: a, shape ``(*b, k)``; a constant added to all has no effect.
        step: η.

    Raises:
        InvalidInputError: As `replicator_step`, but for the length of the step.
    """
    _check_advantage(distribution, advantage)
    return Categorical(probs=(distribution.probs.log() + step * advantage).softmax(-1))


def replicator_step(distribution: Categorical, advantage: Tensor, step: float) -> Categorical:
    """The Euler natural-gradient step ``p + η F⁻¹∇E_p[a] = p·(1 + η(a − E_p[a]))``.

    Raises:
        InvalidInputError: If there is not one finite advantage for each outcome, or the step
            leaves the simplex.
    """
    _check_advantage(distribution, advantage)
    p = distribution.probs
    stepped = p * (1 + step * (advantage - (p * advantage).sum(-1, keepdim=True)))
    if (stepped < 0).any():
        raise InvalidInputError(
            f"a natural-gradient step of length {step!r} leaves the simplex; take a shorter "
            "one, or mirror_step"
        )
    return Categorical(probs=stepped)


def _check_advantage(distribution: Categorical, advantage: Tensor) -> None:
    outcomes = distribution.probs.shape[-1]
    if advantage.shape[-1:] != (outcomes,) or not torch.isfinite(advantage).all():
        raise InvalidInputError(
            f"advantage must be finite, shape (*b, {outcomes}), got {tuple(advantage.shape)}"
        )
