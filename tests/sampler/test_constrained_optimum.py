"""Trials at the constrained optimum that splines expect: when they come, and where they lead."""

import numpy as np
import optuna
import pytest
from scipy.optimize import linprog

from fisherbo import NOISE_VARIANCE, FisherSampler
from fisherbo.sampler.next_trial import next_trial

COST = np.array([-1.0, -2.0, -3.0])
NORMAL = np.array([[1.0, 2.0, 1.0], [1.0, 0.5, 2.0]])
BOUND = np.array([1.5, 1.2])
LEAST = linprog(COST, NORMAL, BOUND, bounds=[(0, 1)] * 3).fun


def programme(trial, told=2):
    x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
    for name, c in list(zip("pq", NORMAL @ x - BOUND, strict=True))[:told]:
        trial.set_constraint(name, float(c))
    return float(COST @ x)


def studied(objective, n, **options):
    study = optuna.create_study(sampler=FisherSampler(seed=0, **options))
    study.optimize(objective, n_trials=n)
    return study


def test_a_linear_programme_is_solved_to_many_digits():
    study = studied(programme, 24)
    assert study.best_value == pytest.approx(LEAST, abs=1e-5)
    assert study.best_value >= LEAST
    assert all(c <= 0 for c in study.best_trial.constraints.values())


def test_the_next_trial_is_told_with_its_reason():
    study = studied(programme, 10)
    told = next_trial(study)
    trial = study.ask()
    params = {name: trial.suggest_float(name, 0, 1) for name in "abc"}
    assert params == pytest.approx(dict(told.params))
    assert told.reason.startswith("Convergence: splines of the objective and the constraints")


def test_a_maximum_is_found_as_a_minimum_is():
    study = optuna.create_study(direction="maximize", sampler=FisherSampler(seed=0))
    study.optimize(lambda trial: -programme(trial), n_trials=24)
    assert study.best_value == pytest.approx(-LEAST, abs=1e-5)


def test_integers_are_suggested_as_integers():
    def objective(trial):
        n = trial.suggest_int("n", 0, 5)
        trial.set_constraint("r", n - 3.5)
        return programme(trial) - n

    study = studied(objective, 30)
    assert study.best_params["n"] == 3
    assert study.best_value == pytest.approx(LEAST - 3, abs=1e-4)


@pytest.mark.parametrize(
    "kind", ["none", "noise", "told noise", "untold", "category", "objectives", "worker", "odd"]
)
def test_splines_are_used_where_they_can_be_trusted_only(kind):
    def objective(trial):
        value = programme(trial, told=1 if kind == "untold" and trial.number == 5 else 2)
        if kind == "noise" and trial.number == 1:
            value += 1.0
        if kind == "told noise":
            trial.set_user_attr(NOISE_VARIANCE, 0.01)
        if kind == "category":
            value += {"u": 0.0, "v": 1.0}[trial.suggest_categorical("kind", ["u", "v"])]
        return (value, value) if kind == "objectives" else value

    directions = ["minimize"] * (2 if kind == "objectives" else 1)
    study = optuna.create_study(directions=directions, sampler=FisherSampler(seed=0))
    if kind == "noise":
        for _ in range(2):
            study.enqueue_trial({"a": 0.2, "b": 0.2, "c": 0.2})
    if kind == "worker":
        other = study.ask()
        programme(other)
    study.optimize(objective, n_trials={"worker": 11, "odd": 11}.get(kind, 10))
    assert study.sampler.inspect(study).quadratic == (kind == "none")
