"""Environments as strangers write them: what can be used is, what cannot is one line."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from fisherbo.errors import InvalidInputError
from fisherbo.rl import train
from fisherbo.rl.drawing import require_drawable
from fisherbo.rl.evaluation import MAX_EPISODE_STEPS

SMALL = {"n_envs": 2, "rollout": 16, "hidden": (4,), "steps": 64}


class Stranger(gymnasium.Env):
    """Answers what it is told to; episodes of ``length`` steps, or without an end."""

    def __init__(self, space=None, seen=None, reward=1.0, length=10, reset=None, step=None):
        self.observation_space = space or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._seen, self._reward, self._length = seen, reward, length
        self._reset, self._step, self._t = reset, step, 0

    def _observation(self):
        return self.observation_space.sample() if self._seen is None else self._seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return (self._observation(), {}) if self._reset is None else self._reset

    def step(self, action):
        self._t += 1
        over = self._t == self._length
        return self._step or (self._observation(), self._reward, over, False, {})


class Plain(Stranger):
    """Its constructor takes no render_mode, and there is nothing to be seen."""

    def __init__(self):
        super().__init__()


class Unseen(Stranger):
    """Its constructor takes the word, but it does not draw."""

    def __init__(self, render_mode=None):
        super().__init__()


class Seen(Stranger):
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as environments have it

    def __init__(self, render_mode=None, length=10):
        super().__init__(length=length)
        self.render_mode = render_mode

    def render(self):
        return np.full((4, 6, 3), self._t % 256, np.uint8)


@pytest.fixture
def registered():
    """Ids of the classes above."""
    ids = {}
    for kind in (Plain, Unseen, Seen):
        ids[kind] = f"fisherbo/{kind.__name__}-v0"
        gymnasium.register(id=ids[kind], entry_point=kind)
    yield ids
    for name in ids.values():
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (3,)),
        spaces.Box(-1, 1, ()),
        spaces.Box(-1, 1, (2,), np.float64),
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Discrete(4, start=7),
        spaces.MultiBinary(3),
        spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Tuple([spaces.Discrete(3, start=-1)])),
    ],
)
def test_observations_that_flatten_are_seen(space):
    result = train(lambda: Stranger(space), **SMALL)
    assert result.agent.spec.observations == spaces.flatdim(space)
    assert result.agent.evaluate(2, environment=lambda: Stranger(space)) == (10.0, 10.0)


@pytest.mark.parametrize("reward", [1, True, np.float32(1), np.array(1.0), np.int64(1)])
def test_rewards_that_are_one_number_are_taken(reward):
    result = train(lambda: Stranger(reward=reward), **SMALL)
    assert set(result.returns) == {10.0}


ZEROS = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"reward": np.array([1.0])}, r"a reward must be one number, got array\(\[1\.\]\) after 1"),
        ({"reward": None}, "a reward must be one number, got None"),
        ({"reward": "one"}, "a reward must be one number, got 'one'"),
        ({"reward": 1j}, "a reward must be one number, got 1j"),
        ({"reward": 1e300}, r"finite observations and rewards, got reward 1e\+300 \(float32 holds"),
        ({"seen": np.zeros(3, np.float32)}, r"got shape \(3,\) for \(2,\)"),
        ({"seen": np.zeros((2, 1), np.float32)}, r"got shape \(2, 1\) for \(2,\)"),
        ({"seen": None, "reset": ZEROS}, "reset must return an observation and a dict"),
        ({"reset": (np.zeros(3), {})}, r"got shape \(3,\) for \(2,\) after 0 steps"),
        ({"reset": (ZEROS, None)}, "reset must return an observation and a dict"),
        ({"seen": [[1.0], [1.0, 2.0]]}, r"for shape \(2,\)"),
        ({"seen": ["a", "b"]}, "values of type"),
        ({"space": spaces.Box(0, 9, (2,), np.int64), "seen": ZEROS}, "type float32 for int64"),
        ({"space": spaces.Discrete(3, start=1), "seen": 0}, "got 0 for Discrete"),
        ({"space": spaces.Dict(a=spaces.Discrete(2)), "seen": {}}, "for the keys a"),
        (
            {"space": spaces.Dict(a=spaces.Box(-1, 1, (1,))), "seen": {"a": np.array([np.nan])}},
            "finite observations and rewards.*got observation",
        ),
        ({"space": spaces.Box(-1, 1, (0,))}, "the observation space must hold numbers"),
        ({"step": (ZEROS, 1.0, True, {})}, "step must return observation, reward, terminated"),
        ({"step": (ZEROS, 1.0, None, False, {})}, "terminated must be true or false, got None"),
        ({"step": (ZEROS, 1.0, np.array([True]), False, {})}, "terminated must be true or false"),
    ],
)
def test_answers_that_break_the_protocol_are_one_line(answers, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        train(lambda: Stranger(**answers), **SMALL)
    assert "\n" not in str(caught.value)
    if "space must" not in message:
        assert str(caught.value).startswith("environment 'Stranger': ")


def test_an_environment_without_spaces_is_one_line():
    class Bare(gymnasium.Env):
        pass

    with pytest.raises(InvalidInputError, match="must have an observation_space, Bare has none"):
        train(Bare, **SMALL)


def test_a_constructor_without_render_mode_is_no_obstacle(registered):
    result = train(registered[Plain], **SMALL)
    assert result.agent.evaluate(1) == (10.0,)


@pytest.mark.parametrize("kind", [Plain, Unseen])
def test_what_cannot_be_drawn_is_said_before_anything_is_trained(registered, kind):
    with pytest.raises(InvalidInputError, match="cannot be drawn: it has no render mode rgb_array"):
        require_drawable(registered[kind])


def test_the_drawing_is_that_of_the_episode(registered, tmp_path):
    require_drawable(registered[Seen])
    agent = train(registered[Seen], **SMALL).agent
    with Image.open(agent.render(tmp_path / "a.gif", stride=3)) as picture:
        assert picture.n_frames == 4  # steps 1, 4, 7 and 10
    with Image.open(agent.render(tmp_path / "a.png")) as picture:
        shades = np.asarray(picture)[0, ::6, 0]
    assert shades.tolist() == [1, 3, 5, 6, 8, 10]
    endless = agent.render(
        tmp_path / "b.gif",
        environment=lambda: Seen("rgb_array", length=None),
        stride=1,
        max_episode_steps=30,
    )
    with Image.open(endless) as picture:
        assert picture.n_frames == 30


def test_episodes_without_an_end_are_cut_off_and_that_is_said():
    def endless():
        return Stranger(length=None)

    agent = train(endless, **SMALL).agent
    with pytest.warns(UserWarning, match="2 of 2 episodes did not end .* after 1000 steps; set"):
        assert agent.evaluate(2, environment=endless) == (float(MAX_EPISODE_STEPS),) * 2
    assert agent.evaluate(2, environment=endless, max_episode_steps=7) == (7.0, 7.0)
    found = agent.evaluation(3, environment=endless, max_episode_steps=7)
    assert (found.cut_off, found.max_steps) == (3, 7)
    with pytest.raises(InvalidInputError, match="max_episode_steps must be >= 1 or None, got 0"):
        agent.evaluate(1, environment=endless, max_episode_steps=0)


def test_the_limit_of_the_environment_is_kept_and_is_no_cut():
    def limited():
        return gymnasium.wrappers.TimeLimit(Stranger(length=None), MAX_EPISODE_STEPS + 5)

    agent = train(limited, **SMALL).agent
    found = agent.evaluation(1, environment=limited)
    assert (found.returns, found.cut_off) == ((MAX_EPISODE_STEPS + 5.0,), 0)
