"""Proximal policy optimisation with a clipped surrogate, and the plain policy gradient.

Symbols: r = π_θ(a|s)/π_old(a|s), A advantages, ε clip, H entropy, V critic, R its target.

    loss = −mean min(r A, clip(r, 1−ε, 1+ε) A) + c_V ½ mean (V − R)² − c_H mean H

(Schulman et al. 2017, eq. 7 and 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.rl.batch import Batch, PolicyStep, compare, finite_outputs, standardised
from fisherbo.rl.policy import Actor

_KL_MARGIN = 1.5


def clipped_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """``−mean min(r A, clip(r, 1−ε, 1+ε) A)``, a scalar, from log r."""
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """``mean (r − 1) − log r``, an unbiased estimate of KL(π_old ‖ π_θ) that is never negative."""
    return (log_ratio.exp() - 1 - log_ratio).mean()


def ppo_update(
    actor: Actor,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    clip: float = 0.2,
    epochs: int = 10,
    batch_size: int = 64,
    target_kl: float | None = None,
    entropy: float = 0.0,
    value_weight: float = 0.5,
    max_grad_norm: float = 0.5,
    generator: torch.Generator | None = None,
) -> PolicyStep:
    """Passes over shuffled minibatches that raise the clipped surrogate and fit the critic.

    Args:
        actor: The policy that took the batch's actions; changed in place.
        critic: Observations ``(N, d)`` to values ``(N, 1)``; changed in place.
        optimizer: Of the parameters of both.
        batch: The steps; advantages are standardised in each minibatch.
        clip: ε.
        epochs: Passes over the batch.
        batch_size: Rows of a minibatch.
        target_kl: The update ends when a minibatch's `approximate_kl` exceeds 1.5 times this.
        entropy: c_H.
        value_weight: c_V.
        max_grad_norm: Largest norm of the gradient of both together.
        generator: Draws the order.

    Raises:
        InvalidInputError: If a setting breaks its rule.
        DivergedError: If an output or a loss is not finite.
    """
    _check(clip, epochs, batch_size, target_kl)
    parameters = [*actor.parameters(), *critic.parameters()]
    with torch.no_grad():
        before = finite_outputs(actor, batch.observations)
        old = actor.log_probability(before, batch.actions)
        mean_entropy = actor.entropy(before).mean().item()
    trials = 0
    for rows in minibatches(len(old), batch_size, epochs, generator):
        observations = batch.observations[rows]
        outputs = actor(observations)
        log_ratio = actor.log_probability(outputs, batch.actions[rows]) - old[rows]
        if target_kl is not None and approximate_kl(log_ratio.detach()) > _KL_MARGIN * target_kl:
            break
        loss = clipped_loss(log_ratio, standardised(batch.advantages[rows]), clip)
        loss = loss + value_weight * value_loss(critic, observations, batch.targets[rows])
        if entropy:
            loss = loss - entropy * actor.entropy(outputs).mean()
        _descend(loss, optimizer, parameters, max_grad_norm)
        trials += 1
    gain, divergence = compare(actor, batch, before)
    return PolicyStep(trials > 0, divergence, gain, mean_entropy, trials)


def policy_gradient_update(
    actor: Actor,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    max_grad_norm: float = 0.5,
) -> PolicyStep:
    """One step of the optimizer on ``−mean log π(a|s) A``: the policy gradient (Williams 1992).

    Args:
        actor: The policy that took the batch's actions; changed in place.
        optimizer: Of its parameters.
        batch: The steps.
        max_grad_norm: Largest norm of the gradient.

    Raises:
        DivergedError: If an output or the loss is not finite.
    """
    outputs = finite_outputs(actor, batch.observations)
    before = outputs.detach()
    loss = -(actor.log_probability(outputs, batch.actions) * batch.advantages).mean()
    _descend(loss, optimizer, list(actor.parameters()), max_grad_norm)
    gain, divergence = compare(actor, batch, before)
    return PolicyStep(True, divergence, gain, actor.entropy(before).mean().item(), 1)


def value_loss(critic: nn.Module, observations: Tensor, targets: Tensor) -> Tensor:
    """``½ mean (V − R)²``, a scalar."""
    values: Tensor = critic(observations)
    return 0.5 * (values.squeeze(-1) - targets).square().mean()


def minibatches(
    rows: int, batch_size: int, epochs: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Indices of shuffled minibatches, each row once an epoch."""
    for _ in range(epochs):
        yield from torch.randperm(rows, generator=generator).split(batch_size)


def _descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], max_norm: float
) -> None:
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    if not norm.isfinite():
        raise DivergedError(
            "the gradient of the policy's loss is not finite; no parameter was changed; "
            "lower the learning rate"
        )
    optimizer.step()


def _check(clip: float, epochs: int, batch_size: int, target_kl: float | None) -> None:
    rules = {
        "clip": (clip, 0 < clip < 1, "in (0, 1)", "0.2 is usual"),
        "epochs": (epochs, epochs >= 1, ">= 1", "10 is usual"),
        "batch_size": (batch_size, batch_size >= 2, ">= 2", "64 is usual"),
        "target_kl": (target_kl, target_kl is None or target_kl > 0, "> 0", "0.01 is usual"),
    }
    for name, (value, holds, rule, remedy) in rules.items():
        if not holds:
            raise InvalidInputError(f"{name} must be {rule}, got {value!r}; {remedy}")
