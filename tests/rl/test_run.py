"""Training runs: they learn, are repeated and resumed bit for bit, and refuse bad environments."""

import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.rl import Agent, train
from fisherbo.rl.normalisation import Moments

ALGORITHMS = ["trpo", "ppo", "acktr", "vanilla"]
SMALL = {"n_envs": 2, "rollout": 64, "hidden": (8,)}


def weights(result):
    return torch.cat([p.detach().flatten() for p in result.agent.actor.parameters()])


def same(one, other):
    assert one.episodes == other.episodes
    assert one.updates == other.updates
    assert one.steps == other.steps
    assert torch.equal(weights(one), weights(other))


class _StopError(Exception):
    pass


def stop_after(updates):
    count = 0

    def callback(update, episodes):
        nonlocal count
        count += 1
        if count == updates:
            raise _StopError

    return callback


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, environment, algorithm):
    settings = {"algorithm": algorithm, "steps": 1024, "seed": 3, **SMALL}
    if algorithm == "trpo":
        settings["direction"] = "kfac-preconditioned-cg"
    whole = train(environment, **settings)
    file = tmp_path / "run.pt"
    with pytest.raises(_StopError):
        train(environment, checkpoint=file, callback=stop_after(3), **settings)
    same(train(environment, checkpoint=file, **settings), whole)
    same(train(environment, checkpoint=file, **settings), whole)  # nothing is left to do


def test_a_killed_run_goes_on(tmp_path):
    script = (
        "import sys, fisherbo.rl\n"
        "r = fisherbo.rl.train('CartPole-v1', steps=int(sys.argv[2]), checkpoint=sys.argv[1],"
        " n_envs=2, rollout=64, hidden=(8,))\n"
    )
    file = tmp_path / "run.pt"
    process = subprocess.Popen([sys.executable, "-c", script, str(file), "1000000000"])
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = torch.load(file, weights_only=True)["collector"]["steps"]
    steps = done + 256
    settings = {"steps": steps, **SMALL}
    same(train("CartPole-v1", checkpoint=file, **settings), train("CartPole-v1", **settings))


def test_the_seed_is_all_that_a_run_depends_on():
    torch.manual_seed(1)
    one = train("CartPole-v1", steps=256, seed=1, **SMALL)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same(train("CartPole-v1", steps=256, seed=1, **SMALL), one)
    assert torch.equal(torch.get_rng_state(), before)
    other = train("CartPole-v1", steps=256, seed=2, **SMALL)
    assert other.returns != one.returns


def test_returns_are_those_of_whole_episodes_in_order(countdown):
    result = train(lambda: countdown(5, reward=2.0), steps=64, n_envs=2, rollout=16, hidden=(4,))
    assert result.returns == (10.0,) * 12
    assert [e.length for e in result.episodes] == [5] * 12
    assert [e.step for e in result.episodes] == [10 * (k // 2 + 1) for k in range(12)]
    assert [u.step for u in result.updates] == [32, 64]
    assert result.steps == 64
    assert result.cpu_seconds > 0


def test_steps_are_rounded_up_to_a_whole_number_of_each_environment(countdown):
    result = train(lambda: countdown(), steps=41, n_envs=2, rollout=16, hidden=(4,))
    assert result.steps == 42


def test_actions_keep_to_their_bounds_and_numbers():
    seen = []

    class Watched(gymnasium.Env):
        observation_space = spaces.Discrete(3)

        def __init__(self, action_space):
            self.action_space = action_space

        def reset(self, *, seed=None, options=None):
            return 1, {}

        def step(self, action):
            assert self.action_space.contains(action), action
            seen.append(action)
            return 2, 1.0, len(seen) % 7 == 0, False, {}

    boxed = spaces.Box(np.array([[-0.1, 2.0]], np.float32), np.array([[0.2, 3.0]], np.float32))
    for space in (boxed, spaces.Discrete(3, start=4)):
        seen.clear()
        train(lambda space=space: Watched(space), steps=32, n_envs=1, rollout=16, hidden=(4,))
        assert len(seen) == 32


class Odd(gymnasium.Env):
    """An environment with whatever spaces and values."""

    def __init__(self, observation_space=None, action_space=None, seen=0.0, reward=1.0):
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = action_space or spaces.Discrete(2)
        self.values = (seen, reward)
        self.count = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        late = self.count > 20
        seen = np.full(2, self.values[0] if late else 0.0, np.float32)
        return seen, self.values[1] if late else 1.0, self.count % 10 == 0, False, {}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("CartPol-v1", "'CartPol-v1' cannot be made.*did you mean 'CartPole-v1'"),
        ("CartPole-v9", "cannot be made"),
        ("no such thing", "cannot be made"),
        ("nowhere:Thing-v0", "cannot be made"),
        (lambda: 3, "must be a Gymnasium id or make a gymnasium.Env, got int"),
        (lambda: Odd(action_space=spaces.MultiDiscrete([2, 3])), "Discrete or a Box of floats"),
        (lambda: Odd(action_space=spaces.Box(0, 5, (1,), np.int64)), "Discrete or a Box of floats"),
        (lambda: Odd(observation_space=spaces.Sequence(spaces.Discrete(2))), "flattens"),
        (lambda: Odd(seen=np.nan), "finite observations and rewards, got observation"),
        (lambda: Odd(reward=np.nan), "finite observations and rewards, got reward"),
        (lambda: Odd(reward=np.inf), "finite observations and rewards, got reward"),
    ],
)
def test_bad_environments_are_refused_with_one_line(environment, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        train(environment, steps=128, n_envs=1, rollout=64, hidden=(4,))
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    for name in [n for n in sys.modules if n.startswith("fisherbo.rl")]:
        monkeypatch.delitem(sys.modules, name)
    import fisherbo.rl

    with pytest.raises(MissingExtraError, match=r"pip install 'fisherbo\[rl\]'"):
        _ = fisherbo.rl.train
    assert fisherbo.rl.trpo_update.__name__ == "trpo_update"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "tropo"}, "one of trpo, ppo, acktr, vanilla.*did you mean 'trpo'"),
        ({"gama": 0.9}, "unknown setting 'gama'.*did you mean 'gamma'"),
        ({"gamma": 1.1}, "gamma must be in"),
        ({"gamma": "x"}, "gamma must be in"),
        ({"n_envs": 0}, "n_envs must be a whole number >= 1"),
        ({"rollout": 2.5}, "rollout must be a whole number >= 1"),
        ({"hidden": ()}, "hidden must be widths"),
        ({"hidden": 3}, "hidden must be widths"),
        ({"direction": "up"}, "direction must be one of"),
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"max_kl": float("nan")}, "max_kl must be > 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        train("CartPole-v1", **{"steps": 64, **settings})


def test_a_checkpoint_of_another_run_is_refused(tmp_path, countdown):
    file = tmp_path / "run.pt"
    train("CartPole-v1", steps=128, checkpoint=file, **SMALL)
    with pytest.raises(InvalidInputError, match="another run: seed was 0, is 1"):
        train("CartPole-v1", steps=128, checkpoint=file, seed=1, **SMALL)
    with pytest.raises(InvalidInputError, match="algorithm was trpo, is vanilla"):
        train("CartPole-v1", steps=128, checkpoint=file, algorithm="vanilla", **SMALL)
    file.write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match=r"no[t]? .*checkpoint of fisherbo.rl.train"):
        train("CartPole-v1", steps=128, checkpoint=file, **SMALL)
    result = train("CartPole-v1", steps=128, **SMALL)
    result.agent.save(file)
    with pytest.raises(InvalidInputError, match=r"not a checkpoint of fisherbo\.rl\.train"):
        train("CartPole-v1", steps=128, checkpoint=file, **SMALL)


def test_a_run_goes_on_from_a_saved_result(tmp_path):
    whole = train("Pendulum-v1", steps=512, **SMALL)
    part = train("Pendulum-v1", steps=256, **SMALL)
    part.save(tmp_path / "part.pt")
    assert Agent.load(tmp_path / "part.pt").evaluate(1) == part.agent.evaluate(1)
    same(train("Pendulum-v1", steps=512, start=tmp_path / "part.pt", **SMALL), whole)
    done = train("Pendulum-v1", steps=128, start=tmp_path / "part.pt", **SMALL)
    same(done, part)
    done.save(tmp_path / "again.pt")
    same(train("Pendulum-v1", steps=512, start=tmp_path / "again.pt", **SMALL), whole)
    with pytest.raises(InvalidInputError, match=r"part.pt is of another run: seed was 0, is 1"):
        train("Pendulum-v1", steps=512, start=tmp_path / "part.pt", seed=1, **SMALL)


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    """Earlier versions kept the steps of annealed runs, and no origin, scale and dtype."""
    settings = {"algorithm": "ppo", **SMALL}
    file = tmp_path / "run.pt"
    train("Pendulum-v1", steps=256, checkpoint=file, **settings)
    state = torch.load(file, weights_only=True)
    for name in ("origin", "scale", "dtype"):
        del state["config"]["spec"][name]
    state["config"]["steps"] = 256
    torch.save(state, file)
    assert train("Pendulum-v1", steps=512, checkpoint=file, **settings).steps == 512


def test_a_checkpoint_that_cannot_be_written_is_said_first(tmp_path, countdown):
    calls = []
    with pytest.raises(InvalidInputError, match=r"checkpoint .* cannot be written: it is a"):
        train(lambda: calls.append(1) or countdown(), steps=64, checkpoint=tmp_path)
    assert calls == []


def test_an_environment_that_forgets_its_seed_cannot_be_resumed(tmp_path):
    rng = np.random.default_rng(0)

    class Fickle(Odd):
        def step(self, action):
            _, *rest = super().step(action)
            return rng.random(2, np.float32), *rest

    file = tmp_path / "run.pt"
    settings = {"checkpoint": file, "n_envs": 1, "rollout": 15, "hidden": (4,)}
    train(Fickle, steps=15, **settings)
    with pytest.raises(InvalidInputError, match="depend on its seed and the actions alone"):
        train(Fickle, steps=30, **settings)


def test_moments_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    parts = [rng.normal(3, 2, (n, 2)) for n in (1, 4, 50)]
    moments = Moments.of_width(2)
    for part in parts:
        moments = moments.with_rows(part)
    rows = np.concatenate(parts)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=1e-3)
    standardised = moments.standardised(rows)
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(0), 1, atol=1e-3)
    assert (np.sign(moments.scaled(rows)) == np.sign(rows)).all()
    assert moments.standardised(np.full((1, 2), 1e9)).max() == 10
    again = Moments.from_state(moments.state())
    assert (again.mean == moments.mean).all() and again.count == moments.count


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["trpo", "ppo"])
def test_cart_pole_is_learned(algorithm):
    """A random policy returns some 20; half of the steps that the experiment takes give 150."""
    result = train("CartPole-v1", algorithm=algorithm, steps=15_000, seed=0)
    assert np.mean(result.returns[:20]) < 50
    assert np.mean(result.agent.evaluate(10, seed=100)) > 150
    if algorithm == "trpo":
        taken = [update.policy for update in result.updates if update.policy.accepted]
        assert len(taken) > 5
        assert all(step.kl <= 0.01 and step.gain > 0 for step in taken)
