"""Fitting the critic of a policy to its targets."""

from __future__ import annotations

import math

import torch
from torch import nn

from fisherbo.errors import DivergedError
from fisherbo.rl.batch import Batch
from fisherbo.rl.ppo import minibatches, value_loss


def fit_critic(
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
) -> float:
    """Passes over shuffled minibatches with ``½ mean (V − R)²``; returns the last pass's mean loss.

    Args:
        critic: Observations ``(N, d)`` to values ``(N, 1)``; changed in place.
        optimizer: Of its parameters.
        batch: Steps with targets R.
        epochs: Passes.
        batch_size: Rows of a minibatch.
        generator: Draws the order.

    Raises:
        DivergedError: If a loss is not finite.
    """
    total, last = 0.0, len(batch.targets) * (epochs - 1)
    seen = 0
    for rows in minibatches(len(batch.targets), batch_size, epochs, generator):
        optimizer.zero_grad()
        loss = value_loss(critic, batch.observations[rows], batch.targets[rows])
        loss.backward()
        optimizer.step()
        if seen >= last:
            total += loss.item() * len(rows)
        seen += len(rows)
    mean = total / len(batch.targets)
    if not math.isfinite(mean):
        raise DivergedError(f"the critic's loss is {mean}; lower value_lr")
    return mean
