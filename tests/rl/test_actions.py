"""Actions: scaled as Gymnasium's RescaleAction, always in the space, and explored."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction

from fisherbo.rl import Agent, train
from fisherbo.rl.actions import box_spec, environment_actions

DTYPES = [np.float16, np.float32, np.float64]


class Acted(gymnasium.Env):
    """Remembers its actions; the reward is greatest at ``best``."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, box, best=0.0):
        self.action_space, self.best, self.seen = box, best, []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in self.action_space
        self.seen.append(action)
        half = (self.action_space.high - self.action_space.low) / 2
        reward = -float((((action - self.best) / half) ** 2).sum())
        return np.zeros(1, np.float32), reward, True, False, {}


def spec(low, high, dtype=np.float64):
    low, high = np.array(low, dtype), np.array(high, dtype)
    return box_spec(spaces.Box(low, high, dtype=dtype), 1, (4,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_bounds_are_scaled_as_rescale_action_does(dtype):
    box = spaces.Box(np.array([10, 0.1], dtype), np.array([20, 0.3], dtype), dtype=dtype)
    actions = np.linspace(-1, 1, 7)[:, None].repeat(2, 1)
    found = environment_actions(box_spec(box, 1, (4,)), actions)
    wrapped = RescaleAction(Acted(box), dtype(-1), dtype(1))
    expected = [wrapped.action(row.astype(dtype)) for row in actions]
    np.testing.assert_allclose(found, expected, rtol=4 * float(np.finfo(dtype).eps))
    assert found.dtype == dtype


@pytest.mark.parametrize(
    ("low", "high", "origin", "scale"),
    [
        (-2, 2, (), ()),  # Pendulum's
        (-1, 1, (), ()),
        (-0.5, 0.5, (), ()),
        (-3, 3, (0.0,), (3.0,)),
        (-0.25, 0.25, (0.0,), (0.25,)),
        (0, 1, (0.5,), (0.5,)),
        (-1, 2, (0.5,), (1.5,)),
        (4, 4, (4.0,), (0.0,)),
        (-np.inf, np.inf, (), ()),
        (np.finfo(float).min, np.finfo(float).max, (), ()),
        (-1, np.inf, (), ()),
        (0, np.inf, (1.0,), (1.0,)),
        (1000, np.inf, (1001.0,), (1.0,)),
        (-np.inf, -7, (-8.0,), (1.0,)),
        (-np.inf, 7, (), ()),
        ([-2, 10], [2, 20], (0.0, 15.0), (1.0, 5.0)),
    ],
)
def test_rule_of_origin_and_scale(low, high, origin, scale):
    found = spec(np.atleast_1d(low), np.atleast_1d(high))
    assert (found.origin, found.scale) == (origin, scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_actions_are_in_the_space_whatever_its_bounds_and_dtype(dtype):
    low = np.array([0.1, 0.1, -np.inf, 0, 3, 1e-3], dtype)
    high = np.array([0.3, 0.1, 0.7, np.inf, 1e4, 1.1e-3], dtype)
    box = spaces.Box(low, high, dtype=dtype)
    rng = np.random.default_rng(0)
    actions = rng.normal(0, 3, (500, 6)).astype(np.float32)
    for action in environment_actions(box_spec(box, 1, (4,)), actions):
        assert action in box


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_training_and_evaluation_act_in_the_space(shape, dtype):
    def make():
        return Acted(spaces.Box(0.1, 0.3, shape, dtype))

    agent = train(make, steps=64, n_envs=2, rollout=16, hidden=(4,)).agent
    agent.evaluate(3, environment=make, deterministic=False)
    assert agent.act(np.zeros(1)).dtype == dtype


@pytest.mark.parametrize(
    ("box", "best"),
    [
        (spaces.Box(10, 20, (1,)), 16.0),
        (spaces.Box(-0.02, 0.01, (1,), np.float64), 0.002),
    ],
)
def test_the_best_action_of_a_box_far_from_the_unit_one_is_found(box, best):
    made = []

    def make():
        made.append(Acted(box, best))
        return made[-1]

    agent = train(make, algorithm="ppo", steps=8192).agent
    first = np.concatenate(made[0].seen[:50])
    width = float(box.high[0] - box.low[0])
    assert len(np.unique(first)) > 25 and np.ptp(first) > 0.9 * width
    assert abs(float(agent.act(np.zeros(1))[0]) - best) < 0.2 * width


def test_a_policy_of_an_earlier_file_keeps_its_unscaled_actions(tmp_path):
    """Earlier versions had no origin, scale and dtype: the policy's action was taken as it is."""
    box = spaces.Box(10, 20, (1,), np.float64)
    agent = train(lambda: Acted(box), steps=64, n_envs=2, rollout=16, hidden=(4,)).agent
    agent.save(tmp_path / "policy.pt")
    state = torch.load(tmp_path / "policy.pt", weights_only=True)
    for name in ("origin", "scale", "dtype"):
        del state["spec"][name]
    with torch.no_grad():
        state["actor"]["body.2.bias"].fill_(13.5)
    torch.save(state, tmp_path / "earlier.pt")
    earlier = Agent.load(tmp_path / "earlier.pt")
    assert earlier.act(np.zeros(1))[0] == pytest.approx(13.5, abs=0.5)
    made = []

    def make():
        made.append(Acted(box))
        return made[-1]

    earlier.evaluate(1, environment=make)
    (action,) = made[0].seen
    assert action[0] == pytest.approx(13.5, abs=0.5) and action.dtype == np.float64


def test_a_policy_of_a_later_file_is_refused_in_one_line(tmp_path):
    agent = train("CartPole-v1", steps=64, n_envs=2, rollout=16, hidden=(4,)).agent
    agent.save(tmp_path / "policy.pt")
    state = torch.load(tmp_path / "policy.pt", weights_only=True)
    state["spec"]["squashed"] = True
    torch.save(state, tmp_path / "later.pt")
    with pytest.raises(ValueError, match=r"later.pt is of a later version of fisherbo"):
        Agent.load(tmp_path / "later.pt")
