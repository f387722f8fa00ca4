"""Generalised advantage estimation, with episodes that end and episodes that are cut off.

Symbols: r reward, V value, γ discount, λ trace; d whether an episode is over after the step, of
which t whether the environment ended it (termination), as against a limit of time (truncation).

    δ = r + γ (1 − t) V(s') − V(s),    A = δ + γ λ (1 − d) A'

(Schulman et al. 2016, eq. 16). After a truncation s' is the observation before the reset: its
future is worth V(s'), not nothing (Pardo et al. 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError


def advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages A, shape ``(T, n)`` like all arguments: T steps of n environments.

    Args:
        rewards: r.
        values: V of the observation before each step.
        next_values: V of the observation after it, before any reset.
        terminated: Whether the environment ended the episode with the step.
        truncated: Whether a limit cut it off.
        gamma: γ in [0, 1].
        gae_lambda: λ in [0, 1]; A + V is then the target of the critic.

    Raises:
        InvalidInputError: If shapes differ, or γ or λ is out of [0, 1].
    """
    shapes = {tuple(x.shape) for x in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1:
        raise InvalidInputError(
            f"rewards, values, next_values, terminated and truncated must have one shape (T, n), "
            f"got {sorted(shapes)}"
        )
    for name, value in (("gamma", gamma), ("gae_lambda", gae_lambda)):
        if not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must be in [0, 1], got {value!r}; 0.9 to 1 is usual")
    alive = (~terminated.bool()).to(rewards.dtype)
    going_on = alive * (~truncated.bool()).to(rewards.dtype)
    errors = rewards + gamma * alive * next_values - values
    found = torch.empty_like(errors)
    following = torch.zeros_like(errors[0]) if len(errors) else errors
    for step in reversed(range(len(errors))):
        following = errors[step] + gamma * gae_lambda * going_on[step] * following
        found[step] = following
    return found
