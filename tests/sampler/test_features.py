"""Constraints, failures, several objectives, fixed values, input constraints, finite spaces."""

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler
from optuna.trial import TrialState

from fisherbo import FisherSampler
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import constraints, fit_store

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def run(objective, n, directions=("minimize",), **options):
    study = optuna.create_study(directions=directions, sampler=FisherSampler(seed=0, **options))
    study.optimize(objective, n_trials=n)
    return study


def feasible(trial):
    return all(c <= 0 for c in trial.constraints.values())


def test_a_constrained_optimum_is_reached_with_values_missing():
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("sum", 0.8 - x - y)
        if trial.number % 3:
            trial.set_constraint("low", 1e3 * (0.2 - x))
        return x + y**2

    study = run(objective, 28)
    best = min(t.value for t in study.trials if 0.8 <= sum(t.params.values()) and feasible(t))
    assert best < 0.57  # 0.55 at x = 0.3, y = 0.5
    texts = [
        v for t in study.trials for k, v in t.system_attrs.items() if k.startswith(fit_store.KEY)
    ]
    assert max(map(len, texts)) < 2045
    keys = {k for t in study.trials for k in t.system_attrs if k.startswith(f"{fit_store.KEY}:")}
    assert keys == {f"{fit_store.KEY}:constraint:{name}" for name in ("sum", "low")}


def test_from_an_infeasible_start_a_small_feasible_region_is_found():
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("disc", (x - 0.83) ** 2 + (y - 0.13) ** 2 - 0.03**2)
        return x

    study = run(objective, 24)
    assert any(feasible(t) for t in study.trials)


def test_constraints_keep_the_threshold_and_resist_outliers():
    y = constraints.scaled(np.array([np.nan, 0.0, -1.0, 2.0, 1e9, np.inf, 1e-3]))
    assert np.isnan(y[0]) and y[1] == 0
    assert y[2] > 0 > y[6] > y[3] > y[4]
    assert np.abs(y[1:]).max() <= 3


def test_many_failures_make_a_model_of_their_own():
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if x + y > 0.9:
            return float("nan") if trial.number % 2 else float("inf")
        return -x - y

    study = run(objective, 30)
    assert any(fit_store.attribute(constraints.FAILURES) in t.system_attrs for t in study.trials)
    late = [sum(t.params.values()) for t in study.trials[15:]]
    assert np.median(late) < 1.0
    assert min(t.value for t in study.trials if t.state == TrialState.COMPLETE) < -0.87


def test_failures_alone_are_harmless():
    study = run(lambda t: float("nan") * t.suggest_float("x", 0, 1), 6, n_startup_trials=2)
    assert len({t.params["x"] for t in study.trials}) >= 5


@pytest.mark.parametrize("directions", [("minimize", "maximize"), ("maximize",) * 3])
def test_several_objectives_spread_over_their_front(directions):
    signs = np.array([-1 if d == "minimize" else 1 for d in directions])

    def objective(trial):
        x = np.array([trial.suggest_float(n, 0, 1) for n in "ab"])
        targets = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])[: len(signs)]
        return (-signs * ((x - targets) ** 2).sum(1)).tolist()

    study = run(objective, 20, directions)
    if len(signs) == 2:
        a = sorted(t.params["a"] for t in study.best_trials)
        assert a[0] < 0.3 and a[-1] > 0.7
        assert np.median([abs(t.params["b"] - 0.2) for t in study.trials[12:]]) < 0.1
    assert len(study.best_trials) > 6


def test_a_constrained_front_is_feasible():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("c", 0.4 - x)
        return x**2, (x - 1) ** 2

    study = run(objective, 18, ("minimize", "minimize"))
    assert np.mean([feasible(t) for t in study.trials[12:]]) >= 0.5
    trials = [study.ask() for _ in range(3)]
    assert len({t.suggest_float("x", 0, 1) for t in trials}) == 3


def ridge(trial):
    """For every x the best y is x."""
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return 10 * (x - y) ** 2 + x


def test_enqueued_values_condition_the_others():
    study = run(ridge, 22)
    for x in (0.9, 0.5):
        study.enqueue_trial({"x": x})
    study.optimize(ridge, n_trials=2)
    for trial in study.trials[-2:]:
        assert abs(trial.params["y"] - trial.params["x"]) < 0.25


def test_partially_fixed_values_condition_the_others():
    study = run(ridge, 22)
    study.sampler = PartialFixedSampler({"x": 0.8}, study.sampler)
    study.optimize(ridge, n_trials=2)
    for trial in study.trials[-2:]:
        assert trial.params["x"] == 0.8
        assert abs(trial.params["y"] - 0.8) < 0.25


def test_input_constraints_are_obeyed_by_every_trial():
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        k = trial.suggest_categorical("k", ["a", "b"])
        return -x - y + (k == "a") * 0.1

    study = run(objective, 24, input_constraints=lambda p: p["x"] + p["y"] <= 0.7 and p["k"] == "b")
    params = [t.params for t in study.trials]
    assert all(p["x"] + p["y"] <= 0.7 and p["k"] == "b" for p in params)
    assert study.best_value < -0.69
    assert len({p["x"] for p in params}) >= 22


def test_rules_that_allow_nothing_are_refused_clearly():
    with pytest.raises(InvalidInputError, match="input_constraints must"):
        run(lambda t: t.suggest_float("x", 0, 1), 2, input_constraints=lambda p: False)
    with pytest.raises(InvalidInputError, match="must be a callable"):
        FisherSampler(input_constraints=3)


@pytest.mark.parametrize("n_startup_trials", [1, 10])
def test_a_finite_space_is_used_up_before_anything_is_repeated(n_startup_trials, caplog):
    def objective(trial):
        return trial.suggest_int("i", 0, 4) + trial.suggest_categorical("c", [0, 1, 2, 3])

    optuna.logging.enable_propagation()
    try:
        study = run(objective, 20, n_startup_trials=n_startup_trials)
        assert "Every point" not in caplog.text
        assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 20
        study.optimize(objective, n_trials=3)
    finally:
        optuna.logging.disable_propagation()
    said = {r.created for r in caplog.records if "Every point" in r.getMessage()}
    assert len(said) == 1
