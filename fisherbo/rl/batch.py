"""What an update of a policy is made from, what it reports, and the surrogate that it raises.

Symbols: θ weights of the actor, A advantages; surrogate L(θ) = mean of π_θ(a|s)/π_old(a|s)·A, the
first-order estimate of the return (Schulman et al. 2015, eq. 14); KL = mean KL(π_old ‖ π_θ).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.geometry.divergence import kl
from fisherbo.rl.policy import Actor


@dataclass(frozen=True, eq=False)
class Batch:
    """Steps that were taken with one policy.

    Attributes:
        observations: As the networks see them, shape ``(N, d)``.
        actions: Shape ``(N,)`` (numbers from 0) or ``(N, A)``.
        advantages: A, shape ``(N,)``.
        targets: What the critic is to predict, shape ``(N,)``.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if not len(self.observations) == len(self.actions) == len(self.advantages) > 0:
            raise InvalidInputError(
                "a batch needs as many observations as actions and advantages, at least one, got "
                f"{len(self.observations)}, {len(self.actions)} and {len(self.advantages)}"
            )


@dataclass(frozen=True)
class PolicyStep:
    """What an update did to the policy on its batch.

    Attributes:
        accepted: Whether the policy was changed.
        kl: Mean KL(π_old ‖ π_new) in nats; 0 if it was not changed.
        gain: L(θ_new) − L(θ_old); 0 if it was not changed.
        entropy: Mean entropy of the policy before the update, in nats.
        trials: Steps tried by a line search, or passes over the batch.
    """

    accepted: bool
    kl: float
    gain: float
    entropy: float
    trials: int


def standardised(advantages: Tensor) -> Tensor:
    """Advantages of mean 0 and standard deviation 1; of one alone, 0."""
    if advantages.numel() < 2:
        return torch.zeros_like(advantages)
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def surrogate(log_ratio: Tensor, advantages: Tensor) -> Tensor:
    """L, from log π_θ(a|s) − log π_old(a|s)."""
    return (log_ratio.exp() * advantages).mean()


def mean_kl(actor: Actor, before: Tensor, after: Tensor) -> Tensor:
    """Mean over rows of KL between the policies of outputs z, in nats."""
    divergence = kl(actor.distribution(before), actor.distribution(after))
    return divergence.sum() / len(before)


def finite_outputs(actor: Actor, observations: Tensor) -> Tensor:
    """The actor's outputs z.

    Raises:
        DivergedError: If one is not finite.
    """
    outputs: Tensor = actor(observations)
    if not outputs.isfinite().all():
        raise DivergedError(
            "an output of the policy is not finite; lower the learning rate or max_kl"
        )
    return outputs


def compare(actor: Actor, batch: Batch, before: Tensor) -> tuple[float, float]:
    """Gain of the surrogate and KL from the policy with outputs ``before`` to the present one."""
    with torch.no_grad():
        after = finite_outputs(actor, batch.observations)
        old = actor.log_probability(before, batch.actions)
        log_ratio = actor.log_probability(after, batch.actions) - old
        gain = (log_ratio.expm1() * batch.advantages).mean()  # L − L_old without cancellation
        return gain.item(), mean_kl(actor, before, after).item()
