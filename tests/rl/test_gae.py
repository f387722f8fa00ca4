"""Advantages against their definition as sums, and what a cut-off episode is worth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fisherbo.rl
from fisherbo.errors import InvalidInputError
from fisherbo.rl import advantages
from fisherbo.rl.learner import Learner
from fisherbo.rl.rollout import Collector
from fisherbo.rl.settings import settings_of


def brute_force(r, v, w, terminated, truncated, gamma, lam):
    """Schulman et al. (2016), eq. 16: Σ_l (γλ)^l δ_{t+l} up to the end of the episode."""
    steps, count = r.shape
    found = np.zeros((steps, count))
    for i in range(count):
        for t in range(steps):
            for k in range(t, steps):
                future = 0.0 if terminated[k, i] else gamma * w[k, i]
                found[t, i] += (gamma * lam) ** (k - t) * (r[k, i] + future - v[k, i])
                if terminated[k, i] or truncated[k, i]:
                    break
    return found


@given(
    st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.floats(0, 1), st.floats(0, 1)
)
def test_advantages_are_the_sums_of_their_definition(seed, steps, count, gamma, lam):
    rng = np.random.default_rng(seed)
    r, v, w = rng.normal(size=(3, steps, count))
    terminated, cut = rng.random((2, steps, count)) < 0.25
    truncated = cut & ~terminated
    tensors = [torch.from_numpy(x) for x in (r, v, w, terminated, truncated)]
    found = advantages(*tensors, gamma=gamma, gae_lambda=lam)
    np.testing.assert_allclose(
        found.numpy(), brute_force(r, v, w, terminated, truncated, gamma, lam), atol=1e-12
    )


def test_with_lambda_one_the_targets_are_discounted_returns():
    rewards = torch.tensor([[1.0], [2.0], [3.0]])
    values = torch.tensor([[5.0], [7.0], [11.0]])
    over = torch.tensor([[False], [False], [True]])
    found = advantages(
        rewards, values, values.roll(-1, 0), over, torch.zeros_like(over), gamma=0.5, gae_lambda=1.0
    )
    torch.testing.assert_close(found + values, torch.tensor([[2.75], [3.5], [3.0]]))


def test_a_cut_off_episode_is_worth_its_future_and_does_not_leak_into_the_next():
    """The future after the last step is V of the observation there, the other future nothing."""
    rewards, values = torch.ones(2, 2), torch.zeros(2, 2)
    following = torch.full((2, 2), 10.0)
    terminated = torch.tensor([[False, True], [False, False]])
    truncated = torch.tensor([[True, False], [False, False]])
    found = advantages(
        rewards, values, following, terminated, truncated, gamma=0.9, gae_lambda=0.95
    )
    torch.testing.assert_close(found[0], torch.tensor([1 + 0.9 * 10.0, 1.0]))
    torch.testing.assert_close(found[1], torch.tensor([10.0, 10.0]))


@pytest.mark.parametrize("ends", [False, True])
def test_the_critic_learns_the_return_without_end_where_a_limit_cuts_episodes(countdown, ends):
    """Reward 1 for ever with γ = 0.9 is worth 1/(1−γ) = 10 in each state; where episodes do end
    (and with truncation treated as termination) the mean over states is Σ_k (1 − 0.9^k)/0.5."""
    settings = settings_of("vanilla", {"gamma": 0.9, "value_lr": 1e-2, "n_envs": 2})
    generator = torch.Generator().manual_seed(0)
    collector = Collector(lambda: countdown(5, ends=ends), count=2, seed=0, hidden=(16,), gamma=0.9)
    learner = Learner("vanilla", collector.spec, settings, generator, 0)
    for _ in range(60):
        rollout = collector.collect(learner.actor, 50, generator)
        learner.update(rollout, 0, 1.0)
    values = learner.critic(rollout.observations).mean().item()
    exact = 10.0 if not ends else np.mean([(1 - 0.9**k) / 0.1 for k in range(1, 6)])
    assert values == pytest.approx(exact, abs=0.5)


def test_arguments_are_checked():
    r = torch.zeros(3, 2)
    with pytest.raises(InvalidInputError, match="one shape"):
        advantages(r, r[:2], r, r, r, gamma=0.9, gae_lambda=0.9)
    with pytest.raises(InvalidInputError, match=r"gamma must be in \[0, 1\]"):
        advantages(r, r, r, r, r, gamma=1.5, gae_lambda=0.9)


def test_public_names():
    for name in fisherbo.rl.__all__:
        assert getattr(fisherbo.rl, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute"):
        _ = fisherbo.rl.unheard_of
