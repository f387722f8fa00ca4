"""Small policies, batches and environments."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from fisherbo.rl import Actor, Batch, Spec


class Countdown(gymnasium.Env):
    """Reward 1 a step; it never ends by itself: a limit of time cuts it off, or ``ends``."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=5, *, ends=False, reward=1.0, observation=0.5):
        self.length, self.ends = length, ends
        self.reward, self.observation = reward, observation

    def _seen(self):
        return np.array([self.observation, self.t / self.length], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._seen(), {}

    def step(self, action):
        self.t += 1
        over = self.t >= self.length
        return self._seen(), self.reward, over and self.ends, over and not self.ends, {}


@pytest.fixture
def countdown():
    return Countdown


def _actor(family, seed=0, hidden=(8,), observations=3, actions=2):
    """A policy whose last layer is not small, so that its actions differ between states."""
    generator = torch.Generator().manual_seed(seed)
    actor = Actor(Spec(observations, actions, family, hidden), generator, log_std=-0.3)
    with torch.no_grad():
        actor.body[-1].weight.normal_(generator=generator)
    return actor


def _batch(actor, rows=60, seed=1, observations=3):
    """Steps of the policy with advantages of its actions."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randn(rows, observations, generator=generator)
    with torch.no_grad():
        distribution = actor.distribution(actor(seen))
        if actor.family == "categorical":
            actions = torch.multinomial(distribution.probs, 1, generator=generator)[:, 0]
            advantages = torch.where(actions == 0, seen[:, 0], -seen[:, 0])
        else:
            draws = torch.randn(distribution.mean.shape, generator=generator)
            actions = distribution.mean + distribution.stddev * draws
            advantages = -(actions - seen[:, :1]).square().sum(-1)
    advantages = (advantages - advantages.mean()) / advantages.std()
    return Batch(seen, actions, advantages, advantages)


@pytest.fixture
def make_actor():
    return _actor


@pytest.fixture
def make_batch():
    return _batch


@pytest.fixture(params=["categorical", "normal"])
def actor(request):
    return _actor(request.param)


@pytest.fixture
def batch(actor):
    return _batch(actor)
