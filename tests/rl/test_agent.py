"""A trained policy: it acts alike after a file, is evaluated, drawn, and told from other files."""

import json
import os
import signal
import stat
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from fisherbo.cli import main
from fisherbo.cli.rl import _setting
from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.rl import Agent, run, train

SMALL = {"n_envs": 2, "rollout": 64, "hidden": (8,)}


@pytest.fixture(scope="module", params=["CartPole-v1", "Pendulum-v1"])
def agent(request):
    return train(request.param, steps=256, **SMALL).agent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_saved_policy_acts_alike(agent, tmp_path):
    agent.save(tmp_path / "policy.pt")
    loaded = Agent.load(tmp_path / "policy.pt")
    assert (loaded.environment, loaded.spec) == (agent.environment, agent.spec)
    assert loaded.evaluate(2, seed=5) == agent.evaluate(2, seed=5)
    assert loaded.evaluate(2, seed=6) != agent.evaluate(2, seed=5)
    drawn = agent.evaluate(2, seed=5, deterministic=False)
    assert drawn == loaded.evaluate(2, seed=5, deterministic=False)


def test_the_evaluation_is_that_of_the_environment(countdown):
    result = train(lambda: countdown(), steps=64, **SMALL)
    with pytest.raises(InvalidInputError, match="without an id; pass environment"):
        result.agent.evaluate(2)
    found = result.agent.evaluate(3, environment=lambda: countdown(7, reward=0.5))
    assert found == (3.5, 3.5, 3.5)


def test_a_drawing_shows_the_episode(agent, tmp_path):
    before = dict(os.environ)
    gif = agent.render(tmp_path / "a" / "episode.gif", seed=1)
    png = agent.render(tmp_path / "episode.png", seed=1)
    assert dict(os.environ) == before
    with Image.open(gif) as picture:
        frames = picture.n_frames
    if agent.environment == "CartPole-v1":
        assert 4 < frames < 251
    with Image.open(png) as picture:
        assert picture.width > 5 * picture.height
        assert len(np.unique(np.asarray(picture))) > 2


def test_what_does_not_fit_is_refused(agent, tmp_path):
    with pytest.raises(InvalidInputError, match=r"must end in .gif or .png"):
        agent.render(tmp_path / "episode.mp4")
    with pytest.raises(InvalidInputError, match="episodes must be >= 1"):
        agent.evaluate(0)
    with pytest.raises(InvalidInputError, match="like the one that the policy was trained on"):
        agent.evaluate(1, environment="Acrobot-v1")
    with pytest.raises(InvalidInputError, match="numbers, got 7"):
        agent.act(np.zeros(7))
    with pytest.raises(InvalidInputError, match="must be finite"):
        agent.act(np.full(agent.spec.observations, np.nan))
    (tmp_path / "other.pt").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"fisherbo.rl.Agent.save"):
        Agent.load(tmp_path / "other.pt")
    train("CartPole-v1", steps=128, checkpoint=tmp_path / "run.pt", **SMALL)
    with pytest.raises(InvalidInputError, match="is no policy"):
        Agent.load(tmp_path / "run.pt")


@pytest.mark.parametrize(("module", "named"), [("pygame", "pygame"), ("PIL", "pillow")])
def test_a_package_that_drawing_needs_is_named(agent, tmp_path, monkeypatch, module, named):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{named} is not .*fisherbo\[rl\]"):
        agent.render(tmp_path / "episode.gif")


SETTINGS = ["--set", "n_envs=2", "--set", "rollout=64", "--set", "hidden=8", "--episodes", "2"]


def test_the_command_trains_saves_evaluates_and_draws(folder, capsys):
    command = ["rl", "CartPole-v1", "--algorithm", "ppo", "--steps", "256", *SETTINGS]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "policy: runs/rl/CartPole-v1-ppo-0.pt" in captured.out
    assert "evaluation: mean return" in captured.out
    assert "256 of 256 steps, mean return" in captured.err
    assert [p.name for p in (folder / "runs" / "rl").iterdir()] == ["CartPole-v1-ppo-0.pt"]
    again = ["rl", "CartPole-v1", "--policy", "runs/rl/CartPole-v1-ppo-0.pt", "--episodes", "2"]
    assert main([*again, "--render", "pole.png"]) == 0
    assert "drawing: pole.png" in capsys.readouterr().out
    assert (folder / "pole.png").stat().st_size > 500
    assert main([*again, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert main([*command, "--quiet", "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["evaluation"]) == 2
    assert found["returns"] == list(
        train("CartPole-v1", algorithm="ppo", steps=256, **SMALL).returns
    )


def test_the_command_goes_on_where_it_was_interrupted(folder, monkeypatch, capsys):
    whole = train("CartPole-v1", steps=512, **SMALL).agent.actor.state_dict()
    advance, calls = run._Run.advance, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(run._Run, "advance", interrupted)
    command = ["rl", "CartPole-v1", "--steps", "512", *SETTINGS]
    assert main(command) == 130
    assert "what was done is kept, resume: fisherbo rl CartPole-v1" in capsys.readouterr().err
    assert main(command) == 0
    assert len(calls) == 1 + 4  # four updates in all, one of them begun twice
    resumed = Agent.load("runs/rl/CartPole-v1-trpo-0.pt").actor.state_dict()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value)


def test_more_steps_go_on_from_the_saved_policy(folder, capsys):
    command = ["rl", "CartPole-v1", "--save", "p.pt", "-f", "json", "--quiet", *SETTINGS]
    assert main([*command, "--steps", "256"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "--steps", "512"]) == 0
    more = json.loads(capsys.readouterr().out)
    whole = train("CartPole-v1", steps=512, **SMALL)
    assert first["returns"] == more["returns"][: len(first["returns"])]
    assert more["returns"] == list(whole.returns)
    assert (first["steps"], more["steps"]) == (256, 512)
    assert os.listdir(folder) == ["p.pt"]
    assert main([*command, "--steps", "256"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["returns"] == more["returns"]
    assert captured.err.startswith("fisherbo: note: p.pt has 512 steps already, nothing was tr")


def test_more_steps_go_on_where_the_learning_rate_is_annealed(folder, capsys):
    command = ["rl", "CartPole-v1", "--algorithm", "ppo", "--save", "p.pt", "--quiet", *SETTINGS]
    assert main([*command, "--steps", "256"]) == 0
    before = Agent.load("p.pt").actor.state_dict()
    assert main([*command, "--steps", "384", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 384
    after = Agent.load("p.pt").actor.state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in before)


@contextmanager
def interruptible():
    """Ctrl-C is heeded, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--set", "gamma=0.9"], "p.pt is of another run: gamma was 0.99, is 0.9; run as then or"),
        (["--seed", "1"], "p.pt is of another run: seed was 0, is 1"),
        (["--algorithm", "vanilla"], "p.pt is of another run: algorithm was trpo, is vanilla"),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_another_run_never_overwrites_a_policy(
    folder, capsys, monkeypatch, change, message, interrupted
):
    command = ["rl", "CartPole-v1", "--save", "p.pt", "--quiet", *SETTINGS]
    assert main([*command, "--steps", "256"]) == 0
    if interrupted:  # a checkpoint beside the policy makes no difference
        with monkeypatch.context() as patch, interruptible():
            patch.setattr(run._Run, "result", lambda self: signal.raise_signal(signal.SIGINT))
            assert main([*command, "--steps", "384"]) == 130
        assert (folder / "p.pt.checkpoint").exists()
    before = (folder / "p.pt").read_bytes()
    capsys.readouterr()
    assert main([*command, "--steps", "512", *change]) == 2
    assert message in capsys.readouterr().err
    assert (folder / "p.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda agent, path: agent.save(path), "is a policy without the run that trained it"),
        (lambda agent, path: path.write_bytes(b"mine"), "is not a checkpoint of"),
        (
            lambda agent, path: train("CartPole-v1", steps=128, checkpoint=path, **SMALL),
            "is no policy",
        ),
    ],
)
def test_other_files_are_never_overwritten(folder, capsys, make, message):
    make(train("CartPole-v1", steps=128, **SMALL).agent, folder / "p.pt")
    before = (folder / "p.pt").read_bytes()
    assert main(["rl", "CartPole-v1", "--save", "p.pt", "--steps", "256", *SETTINGS]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert (folder / "p.pt").read_bytes() == before
    assert os.listdir(folder) == ["p.pt"]


@pytest.mark.parametrize("word", ["--save", "--render"])
def test_places_that_cannot_be_written_are_said_before_the_training(folder, capsys, word):
    (folder / "folder.png").mkdir()
    (folder / "file").touch()
    for place in ("folder.png", "file/below.png"):
        assert main(["rl", "CartPole-v1", "--steps", "10000000", word, place]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"fisherbo: error: {word} {place} cannot be written: ")
    assert sorted(os.listdir(folder)) == ["file", "folder.png"]


def test_the_command_says_what_was_cut_off(folder, capsys):
    """CliffWalking-v1 has no limit of time, and an untrained policy walks into the wall."""
    command = ["rl", "CliffWalking-v1", "--steps", "256", "-f", "json", "--quiet", *SETTINGS]
    assert main([*command, "--max-episode-steps", "20"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["cut_off"] == 2
    assert captured.err == (
        "fisherbo: note: 2 of 2 episodes did not end and were cut off after 20 steps; "
        "--max-episode-steps sets another limit\n"
    )


def test_files_have_the_permissions_of_the_umask(folder):
    before = os.umask(0o027)
    try:
        command = ["rl", "CartPole-v1", "--steps", "256", "--save", "p.pt", "--quiet", *SETTINGS]
        assert main([*command, "--render", "p.png"]) == 0
    finally:
        os.umask(before)
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("p.pt", "p.png")} == {0o640}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CartPol-v1"], "did you mean 'CartPole-v1'"),
        (["CartPole-v1", "--algorithm", "dqn"], "algorithm must be one of"),
        (["CartPole-v1", "--steps", "x"], "must be a whole number of at least 1, got 'x'"),
        (["CartPole-v1", "--steps", "-5"], "must be a whole number of at least 1, got '-5'"),
        (["CartPole-v1", "--set", "gamma"], "--set needs NAME=VALUE"),
        (["CartPole-v1", "--set", "gamma=2"], "gamma must be in"),
        (["CartPole-v1", "--set", "hidden=a,b"], "hidden must be widths"),
        (["CartPole-v1", "--policy", "none.pt"], "there is no policy none.pt"),
        (["CartPole-v1", "--render", "a.mp4"], "must end in .gif or .png"),
        (["CartPole-v1", "--max-episode-steps", "0"], "a whole number of at least 1, got '0'"),
        (["CartPole-v1", "--threads", "0"], "--threads: must be a whole number of at least 1"),
        ([], "the following arguments are required"),
    ],
)
def test_bad_input_of_the_command_is_one_line(folder, capsys, words, message):
    assert main(["rl", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("fisherbo: error: ")
    assert message in line


def test_the_words_of_set_are_values():
    found = dict(map(_setting, ["a=1", "b=1e-3", "c=true", "d=None", "e=cg", "hidden=8,4"]))
    assert found == {"a": 1, "b": 1e-3, "c": True, "d": None, "e": "cg", "hidden": (8, 4)}
