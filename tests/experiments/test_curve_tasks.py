"""Tasks with learning curves: tables, surrogates, and formulas whose early losses mislead."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from scipy.stats import spearmanr

from experiments import curve_tasks, curves
from experiments.harness.problems import Problem

SPACE = {"rate": FloatDistribution(1e-4, 1e-1, log=True), "momentum": FloatDistribution(0.1, 0.99)}


@dataclass
class Surface:
    """Accuracy rises with the epochs; seconds fall at one of them, as a surrogate's may."""

    scenario = SimpleNamespace(
        outputs=("acc", "time"), output="acc", maximised=True, seconds="time"
    )

    def outputs(self, many, epoch):
        return np.array([[self.accuracy(p, epoch), 2 * epoch - 3 * (epoch == 7)] for p in many])

    def losses(self, many):
        return -self.outputs(many, 52)[:, 0]

    @staticmethod
    def accuracy(p, epoch):
        return (90 - 10 * abs(math.log10(p["rate"]) + 2)) * (1 - math.exp(-epoch * p["momentum"]))


@pytest.fixture
def surrogate(monkeypatch):
    problem = Problem("lcbench/1", SPACE, lambda p: 0.0)
    monkeypatch.setattr(curve_tasks.surfaces, "surface", lambda name: Surface())
    monkeypatch.setattr(curve_tasks.surfaces, "problem", lambda name: problem)
    return curve_tasks.CurveSurface("lcbench/1")


def test_the_curve_of_a_surrogate_is_its_losses_at_each_epoch(surrogate):
    params = {"rate": 0.003, "momentum": 0.4}
    curve = surrogate.curve(params)
    assert len(curve.loss) == len(curve.seconds) == 52
    assert curve.loss[9] == pytest.approx(-Surface.accuracy(params, 10))
    assert (np.diff(curve.seconds) > 0).all() and curve.seconds[51] == pytest.approx(104, abs=0.1)
    trial = optuna.create_study().ask()
    assert set(surrogate.suggest(trial)) == set(SPACE)
    assert len(surrogate.ends) == 1000 and (np.diff(surrogate.ends) >= 0).all()


@pytest.fixture
def taskset(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(-6, -1, (40, 2))
    fall = np.exp(-np.arange(20) * 0.3)
    loss = np.abs(np.log10(x[:, :1]) + 3) + fall
    loss[3, 5:] = np.nan
    for name in ("a", "b"):
        parameters = np.array(["learning_rate", "beta1"])
        np.savez(tmp_path / f"{name}.npz", parameters=parameters, x=x, valid_loss=loss)
    monkeypatch.setenv(curve_tasks.TASKSET, str(tmp_path))
    monkeypatch.delenv(curve_tasks.surfaces.DATA, raising=False)
    curve_tasks.task.cache_clear()
    yield loss
    curve_tasks.task.cache_clear()


def test_rows_of_a_table_are_the_curves_of_its_configurations(taskset):
    table = curve_tasks.task("taskset/a")
    for i in (0, 17, 39):
        params = dict(zip(table.names, table.u[i].tolist(), strict=True))
        np.testing.assert_array_equal(table.curve(params).loss, taskset[i])
    assert table.u.min() == 0 and table.u.max() == 1
    best = float(np.nanmin(taskset[:, -1]))
    assert curve_tasks.better("taskset/a", best) == 0
    assert curve_tasks.better("taskset/a", math.inf) == 1
    middle = float(np.sort(taskset[:, -1])[19])
    assert curve_tasks.better("taskset/a", middle + 1e-9) == 0.5
    assert curve_tasks.nearly("taskset/a", best) > best


def test_development_and_final_tasks_are_apart(taskset):
    development, final = (curve_tasks.names(final) for final in (False, True))
    assert development["taskset"] == ["taskset/a"] and final["taskset"] == ["taskset/b"]
    assert not set(development["crossing"]) & set(final["crossing"])
    assert "lcbench" not in final  # no folder of it


@pytest.mark.parametrize("name", curve_tasks.CROSSING)
def test_made_curves_cross(name):
    """At some step the losses are in the reverse of the order in which they end."""
    made = curve_tasks.CROSSING[name]
    rng = np.random.default_rng(1)
    keys = [f"x{j}" for j in range(made.dimension)]
    drawn = [dict(zip(keys, rng.random(made.dimension), strict=True)) for _ in range(200)]
    loss = np.stack([made.curve(p).loss for p in drawn])
    assert np.isfinite(loss).all()
    order = [spearmanr(loss[:, step], loss[:, -1]).statistic for step in range(45)]
    assert min(order) < -0.15
    assert made.ends == pytest.approx(np.sort(made.ends))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_is_scored_by_the_yardsticks_steps(taskset, monkeypatch, workers):
    monkeypatch.setattr(curves, "WHOLE_TRIALS", 6)
    curves.yardstick.cache_clear()
    base = curves.run(curves.Cell("taskset/a", *curves.YARDSTICK, 0))
    assert base["trials"] >= 6 and base["trace"][-1][0] <= 1
    assert base["used"] >= 5 * 20 + 6
    row = curves.run(curves.Cell("taskset/a", "random", "median", 0, workers=workers))
    shares, losses = zip(*row["trace"], strict=True)
    assert list(losses) == sorted(losses, reverse=True) and list(shares) == sorted(shares)
    assert losses[-1] in taskset[:, -1]
    assert 0.4 <= row["used"] / base["used"] <= 1.1 + 1 / base["used"]
    target = curve_tasks.nearly("taskset/a", base["trace"][-1][1])
    reached = curves.share_until(row, target)
    assert reached == math.inf or curves.best_at(row, reached) <= target
    curves.yardstick.cache_clear()


def test_medians_of_shares_that_are_never_reached_are_infinite_or_not():
    median, low, high = curves.median_interval(np.array([0.1, 0.2, 0.3, math.inf]))
    assert median == pytest.approx(0.25) and low <= 0.2 and high > curves.MOST
