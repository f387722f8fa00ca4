"""Learning curves: moving means by brute force, thresholds, tables, and the page."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from fisherbo.cli import main
from fisherbo.rl.learning_curve import WINDOW, moving_mean, reward_threshold, solved_at, write_csv
from fisherbo.rl.rollout import Episode
from fisherbo.rl.run import train
from fisherbo.rl.settings import DEFAULTS, Settings, defaults_table, used_by
from fisherbo.visualization.policy import plot_learning_curve, policy_page


def episodes(values):
    return [Episode(10 * (k + 1), float(value), 10) for k, value in enumerate(values)]


@pytest.mark.parametrize("count", [0, 1, 7, 250])
def test_the_moving_mean_is_that_of_the_last_episodes(count):
    values = np.random.default_rng(count).normal(size=count)
    expected = [values[max(0, k - 99) : k + 1].mean() for k in range(count)]
    np.testing.assert_allclose(moving_mean(episodes(values)), expected, atol=1e-12)


def test_solved_when_a_whole_window_reaches_the_threshold():
    run = episodes([0.0] * 50 + [10.0] * 200)
    assert solved_at(run, 10.0) == 10 * 150
    assert solved_at(run, 5.0) == 10 * 100
    assert solved_at(run, 10.1) is None
    assert solved_at(run, None) is None
    assert solved_at(run[: WINDOW - 1], 0.0) is None  # fewer than a window


def test_thresholds_are_gymnasium_s():
    assert reward_threshold("CartPole-v1") == 475
    assert reward_threshold("Pendulum-v1") is None
    assert reward_threshold("no such environment") is None


def test_the_table_has_every_episode(tmp_path):
    run = episodes([1.0, 2.5])
    write_csv(run, tmp_path / "new" / "run.csv")
    with (tmp_path / "new" / "run.csv").open() as file:
        first, second = csv.DictReader(file)
    assert second == {
        "episode": "1", "step": "20", "return": "2.5", "length": "10", "mean_return_of_100": "1.75",
    }  # fmt: skip
    assert first["mean_return_of_100"] == "1.0"


def test_the_figure_and_the_page_show_the_run():
    run = episodes([1.0, 3.0])
    figure = plot_learning_curve(run, threshold=4.0)
    dots, line = figure.data
    assert list(dots.y) == [1.0, 3.0] and list(line.y) == [1.0, 2.0]
    (note,) = figure.layout.annotations
    assert note.y == 4.0
    page = policy_page("Tiny-v0", run, [2.0, 4.0], {"algorithm": "trpo", "gamma": 0.9}, threshold=4)
    assert "mean return 3.0 ± 2.0 of 2 episodes, from 2.0 to 4.0" in page
    assert "no, a mean return of 4 over 100 episodes of training was not reached" in page
    assert page.index("<td>gamma</td><td>0.9</td>") > page.index('id="learning_curve"')
    assert "Gymnasium tells no threshold" in policy_page("Tiny-v0", [], [2.0], {})


# --- settings, and who uses them ---

OTHER = {
    "max_kl": 0.001, "damping": 0.5, "direction": "kfac-preconditioned-cg", "cg_iterations": 1,
    "backtrack": 0.1, "max_backtracks": 0, "factor_decay": 0.1, "value_optimizer": "sgd",
    "value_lr": 0.03, "value_epochs": 1, "value_batch": 7, "lr": 0.05, "anneal": None, "epochs": 1,
    "batch_size": 9, "clip": 0.01, "target_kl": 1e-6, "entropy": 0.5, "max_grad_norm": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("algorithm", DEFAULTS)
def test_settings_that_an_algorithm_does_not_use_change_nothing(algorithm):
    plain = {"n_envs": 2, "rollout": 32, "hidden": (8,)}
    unused = {name: value for name, value in OTHER.items() if algorithm not in used_by(name)}
    if "anneal" in unused:
        unused["anneal"] = True
    if "value_optimizer" in unused:
        unused["value_optimizer"] = "kfac"
    assert unused
    a = train("CartPole-v1", algorithm=algorithm, steps=128, **plain)
    b = train("CartPole-v1", algorithm=algorithm, steps=128, **plain, **unused)
    for x, y in zip(a.agent.actor.parameters(), b.agent.actor.parameters(), strict=True):
        assert torch.equal(x, y)


def test_the_table_of_settings_is_complete():
    table = defaults_table()
    assert [name for name, _, _ in table] == list(Settings.__dataclass_fields__)
    told = {name: (default, meaning) for name, default, meaning in table}
    assert told["gamma"] == ("0.99", "Discount.")
    assert told["clip"][0] == "0.2 (ppo)"
    assert told["lr"][0] == "0.001 (ppo), 0.01 (vanilla)"
    assert told["hidden"][0] == "64,64"
    assert told["normalise_rewards"][1].startswith("Whether rewards are divided by the running")
    assert all(meaning.endswith(".") for _, meaning in told.values())


# --- from the shell ---


def test_the_settings_are_listed(capsys):
    with pytest.raises(SystemExit) as left:
        main(["rl", "--settings"])
    assert left.value.code == 0
    assert "max_kl = 0.01 (trpo, acktr)\n    Radius of the trust region" in capsys.readouterr().out


def test_a_run_writes_its_page_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["rl", "CartPole-v1", "--steps", "1500", "--episodes", "2", "--report", "a/pole.html"]
    assert main([*words, "--csv", "a/pole.csv", "--set", "n_envs=2"]) == 0
    out = capsys.readouterr().out
    assert "solved: no, a mean return of 475 over 100 episodes of training was not reached" in out
    assert "report: a/pole.html" in out and "episodes: a/pole.csv" in out
    page = Path("a/pole.html").read_text()
    assert 'id="learning_curve"' in page
    assert "<td>max_kl</td>" in page and "<td>clip</td>" not in page  # PPO's
    assert len(Path("a/pole.csv").read_text().splitlines()) > 20


def test_what_cannot_be_written_is_said_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    words = ["rl", "CartPole-v1", "--steps", "100000000"]
    assert main([*words, "--csv", "file/pole.csv"]) == 2
    assert "--csv" in capsys.readouterr().err
    assert main([*words, "--policy", "p.pt", "--report", "x.html"]) == 2
    assert "--report is of a training run, got --policy" in capsys.readouterr().err
