"""The theory of trust regions in a small world whose returns are known exactly.

Symbols: η(π) discounted return from the first state; A advantages of π; ρ discounted visits;
L_π(π') = η(π) + Σ_s ρ(s) Σ_a π'(a|s) A(s, a); C = 4 ε γ / (1 − γ)², ε = max |A|.
"""

from itertools import pairwise

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from fisherbo.rl import Batch, trpo_update

STATES, ACTIONS, GAMMA = 6, 3, 0.8


class World:
    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(STATES, ACTIONS, STATES, generator=generator, dtype=torch.float64)
        self.moves = logits.softmax(-1)
        self.rewards = torch.randn(STATES, ACTIONS, generator=generator, dtype=torch.float64)
        self.seen = torch.eye(STATES, dtype=torch.float64)

    def policy(self, actor):
        with torch.no_grad():
            return actor(self.seen).softmax(-1)

    def solved(self, pi):
        """Return η, advantages A and visits ρ of a policy ``(S, A)``."""
        steps = torch.einsum("sa,sat->st", pi, self.moves)
        gain = (pi * self.rewards).sum(-1)
        system = torch.eye(STATES, dtype=torch.float64) - GAMMA * steps
        values = torch.linalg.solve(system, gain)
        advantages = self.rewards + GAMMA * self.moves @ values - values[:, None]
        first = torch.zeros(STATES, dtype=torch.float64)
        first[0] = 1
        return values[0], advantages, torch.linalg.solve(system.mT, first)


@pytest.mark.parametrize("seed", range(10))
def test_the_return_is_at_least_the_surrogate_less_the_divergence(make_actor, seed):
    """Schulman et al. (2015), theorem 1."""
    world = World(seed)
    one = world.policy(make_actor("categorical", seed, (8,), STATES, ACTIONS).double())
    far = world.policy(make_actor("categorical", seed + 50, (8,), STATES, ACTIONS).double())
    returns, advantages, visits = world.solved(one)
    constant = 4 * advantages.abs().max() * GAMMA / (1 - GAMMA) ** 2
    errors = []
    for share in (1e-3, 1e-2, 0.1, 1.0):
        other = (1 - share) * one + share * far
        surrogate = returns + (visits[:, None] * other * advantages).sum()
        divergence = kl_divergence(Categorical(one), Categorical(other)).max()
        exact = world.solved(other)[0]
        assert exact >= surrogate - constant * divergence - 1e-12
        errors.append(abs(exact - surrogate).item())
    assert errors[0] == pytest.approx(errors[1] / 100, rel=0.2, abs=1e-9)  # right to first order


@pytest.mark.parametrize("direction", ["cg", "kfac", "kfac-preconditioned-cg"])
def test_small_steps_on_exact_advantages_raise_the_return_each_time(make_actor, direction):
    """States as often as they are visited, actions as probable as they are: no noise is left."""
    world = World(3)
    actor = make_actor("categorical", 0, (8,), STATES, ACTIONS).double()
    returns = [world.solved(world.policy(actor))[0]]
    for _ in range(40):
        pi = world.policy(actor)
        _, advantages, visits = world.solved(pi)
        counts = (2000 * visits[:, None] / visits.sum() * pi).round().long().flatten()
        rows = torch.arange(STATES * ACTIONS).repeat_interleave(counts)
        state, action = rows // ACTIONS, rows % ACTIONS
        batch = Batch(world.seen[state], action, advantages[state, action], torch.zeros(len(rows)))
        assert trpo_update(actor, batch, max_kl=1e-3, damping=1e-3, direction=direction).accepted
        returns.append(world.solved(world.policy(actor))[0])
    assert all(later > earlier for earlier, later in pairwise(returns))
    assert returns[-1] > returns[0] + 1
