"""Several objectives: how their values are warped, and how a search fills their front."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from fisherbo import FisherSampler
from fisherbo.acquisition.log_ehvi import HypervolumeImprovement
from fisherbo.acquisition.scalarisation import ScalarisedImprovement
from fisherbo.gp.warp import warp
from fisherbo.sampler.options import AlgorithmOptions

TARGETS = np.array([[0.2, 0.2, 0.5], [0.8, 0.2, 0.5], [0.5, 0.8, 0.5], [0.5, 0.4, 0.9]])


def study_of(m, trials, **options):
    def objective(trial):
        x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
        return ((x - TARGETS[:m]) ** 2).sum(1).tolist()

    sampler = FisherSampler(seed=1, n_startup_trials=5, _options=AlgorithmOptions(**options))
    study = optuna.create_study(directions=["minimize"] * m, sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return study


def kind(study):
    return type(study.sampler.inspect(study).acquisition)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_values_of_three_objectives_keep_their_distances(m):
    seen = study_of(m, 12).sampler.inspect(study_of(m, 12)).observations
    for y, warped in zip(seen.y.T, seen.warped, strict=True):
        if m == 2:
            assert warped == pytest.approx(warp(y))
        else:
            assert warped == pytest.approx((y - y.mean()) / y.std())
    far = replace(seen, y=np.where(np.arange(12)[:, None] == 3, -1e20, seen.y))
    for y, warped in zip(far.y.T, far.warped, strict=True):
        others = warped[np.arange(12) != 3]
        assert np.isfinite(warped).all() and np.argmin(warped) == 3
        assert np.ptp(others) > 0.01 * np.ptp(warped)
        assert np.array_equal(np.argsort(warped, kind="stable"), np.argsort(y, kind="stable"))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_every_other_trial_improves_along_a_direction_once_there_are_ten_for_each_objective(m):
    before, later, last = (
        study_of(m, 8),
        study_of(m, 12, spread_from=4),
        study_of(m, 13, spread_from=4),
    )
    assert kind(before) is HypervolumeImprovement
    assert kind(later) is (
        HypervolumeImprovement
        if m == 2
        else ScalarisedImprovement
        if m == 3
        else HypervolumeImprovement
    )
    assert kind(last) is HypervolumeImprovement
    bounded = [
        np.isfinite(edges[pairs[:, 1]]).all()
        for edges, pairs in zip(
            last.sampler.inspect(last).acquisition.cells.edges,
            last.sampler.inspect(last).acquisition.cells.pairs,
            strict=True,
        )
    ]
    assert bounded == [m == 3] * m


def test_two_objectives_never_change():
    never, always = (study_of(2, 14, spread_from=s) for s in (float("inf"), 0.0))
    assert [t.values for t in never.trials] == [t.values for t in always.trials]


def test_a_search_of_three_objectives_resumes_exactly():
    whole, part = study_of(3, 16, spread_from=3), study_of(3, 12, spread_from=3)
    part.sampler = FisherSampler(
        seed=1, n_startup_trials=5, _options=AlgorithmOptions(spread_from=3)
    )

    def objective(trial):
        x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
        return ((x - TARGETS[:3]) ** 2).sum(1).tolist()

    part.optimize(objective, n_trials=4)
    assert [t.params for t in part.trials] == [t.params for t in whole.trials]


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_an_objective_that_never_changes_does_no_harm(constant):
    def objective(trial):
        x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
        return [*((x - TARGETS[:2]) ** 2).sum(1).tolist(), constant]

    sampler = FisherSampler(seed=0, n_startup_trials=5, _options=AlgorithmOptions(spread_from=3))
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    study.optimize(objective, n_trials=20)
    x = np.array([list(t.params.values()) for t in study.trials])
    assert len(np.unique(x.round(6), axis=0)) == 20
    assert np.abs(x[12:, 2] - 0.5).mean() < np.abs(x[:5, 2] - 0.5).mean()


def test_constraints_and_running_trials_count_along_a_direction_too():
    def objective(trial):
        x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
        trial.set_constraint("c", float(x[0] - 0.6))
        return ((x - TARGETS[:3]) ** 2).sum(1).tolist()

    sampler = FisherSampler(seed=0, n_startup_trials=6, _options=AlgorithmOptions(spread_from=3))
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    study.optimize(objective, n_trials=18)
    assert np.mean([t.params["a"] <= 0.6 for t in study.trials[9:]]) >= 0.7
    running = [study.ask() for _ in range(4)]
    asked = np.array([[t.suggest_float(name, 0, 1) for name in "abc"] for t in running])
    assert min(np.abs(a - b).max() for i, a in enumerate(asked) for b in asked[:i]) > 1e-3
