"""The priors that the experiment gives, and how its runs are compared."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments import priors, surfaces
from experiments.harness.problems import Problem
from experiments.priors import Cell, Extremes, around, by_transfer, centred, curves, report, weights
from fisherbo.prior import LogNormal, Normal

SPACE = {
    "c": CategoricalDistribution(["a", "b", "d"]),
    "x": FloatDistribution(0, 10),
    "lr": FloatDistribution(1e-4, 1, log=True),
    "rare": IntDistribution(1, 100),
}


@pytest.fixture
def tasks(monkeypatch):
    """Five tasks whose best configurations differ; one parameter exists in two of them."""
    best = [{"c": "a" if i else "b", "x": float(i), "lr": 10.0 ** -(i % 3)} for i in range(5)]
    best[0]["rare"] = best[4]["rare"] = 7
    kept = {
        Extremes(f"space/{i}").key(): {"best": params, "worst": {"c": "d", "x": 9.0, "lr": 1.0}}
        for i, params in enumerate(best)
    }
    monkeypatch.setattr(priors, "found_extremes", lambda: kept)
    monkeypatch.setattr(surfaces, "DEVELOPMENT", {"space": tuple("01234")})
    monkeypatch.setattr(surfaces, "problem", lambda name: Problem(name, SPACE, lambda p: 0.0))


def test_a_width_is_a_share_of_the_range_that_is_searched():
    assert around(SPACE["x"], 0.3, 0.2) == Normal(3.0, 2.0)
    logarithmic = around(SPACE["lr"], 0.5, 0.25)
    assert isinstance(logarithmic, LogNormal)
    assert astuple(logarithmic) == pytest.approx((1e-2, 10.0))
    assert weights(SPACE["c"], "b") == pytest.approx({"b": 0.7, "a": 0.15, "d": 0.15})


def test_priors_by_transfer_do_not_know_the_task_itself(tasks):
    found = by_transfer("space/4")  # from tasks 0 to 3
    assert astuple(found["x"]) == pytest.approx((1.5, np.std([0, 1, 2, 3], ddof=1)))
    assert found["c"] == {"a": 4, "b": 2, "d": 1}
    assert "rare" not in found  # exists in one of them only
    other = by_transfer("space/unknown")
    assert other["x"].mean == pytest.approx(2.0)


def test_the_own_prior_is_off_as_far_as_it_says(tasks):
    off = [(centred("space/2", "best", seed)["x"].mean - 2.0) / 10 for seed in range(200)]
    inside = [x for x in off if x > -0.19]  # the range ends at 0
    assert np.mean(np.abs(inside) < priors.WIDTH) == pytest.approx(0.75, abs=0.1)
    right = [max(p, key=p.get) for p in (centred("space/2", "best", s)["c"] for s in range(200))]
    assert right.count("a") / 200 == pytest.approx(priors.SHARE, abs=0.1)
    wrong = centred("space/2", "worst", 0)
    assert wrong["x"] == Normal(9.0, 2.0) and max(wrong["c"], key=wrong["c"].get) == "d"


def test_regrets_are_compared_by_task(monkeypatch):
    monkeypatch.setattr(surfaces, "regret", lambda: lambda name, best: best)
    found = {}
    for task in "abcdefgh":
        for seed in (0, 1):
            found[Cell(task, "none", "", seed)] = {"values": [1.0] * 49 + [0.2 + 0.1 * seed]}
            row = {"values": [0.6] + [0.5] * 48 + [0.3]}
            found[Cell(task, "own", "fisherbo", seed)] = row
    by_arm = curves(found)
    assert by_arm["none", ""]["a"][-1] == pytest.approx(0.25)
    regrets, paired = report("t", by_arm).renderables
    assert [list(c.cells)[1] for c in regrets.columns] == [
        *("own", "fisherbo", "0.600", "0.500", "0.500", "0.300")
    ]
    (row,) = zip(*(c.cells for c in paired.columns), strict=True)
    assert row == (
        *("own", "fisherbo", "100%/0%", "0.0078", "+0.050 [+0.050, +0.050]"),
        *("1.20 [1.20, 1.20]", "0.0078", "50"),
    )


def test_the_interval_of_a_ratio_covers_it():
    rng = np.random.default_rng(0)
    theirs = rng.random(60)
    ratio, low, high = priors.ratio_of_means(0.8 * theirs + 0.1 * rng.random(60), theirs)
    assert low < ratio < high and low < 0.9 < high + 0.05
    assert math.isclose(priors.ratio_of_means(theirs, theirs)[0], 1.0)


@pytest.mark.parametrize("dev", [True, False])
def test_other_data_sets_are_run_in_the_end(dev):
    args = {"dev": dev, "quick": False, "seeds": None, "methods": list(priors.METHODS)}
    cells = priors.cells_of(type("Args", (), args))
    own, other = (set(surfaces.names(t)) for t in (surfaces.DEVELOPMENT, surfaces.FINAL))
    names = {cell.problem for cell in cells}
    assert names < own if dev else names == other
    assert len(set(cells)) == len(cells)
    first = {cell.problem.partition("/")[0] for cell in cells[:8]}
    assert first == set(priors.SCENARIOS[:2])
