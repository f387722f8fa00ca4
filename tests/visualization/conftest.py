import math

import optuna
import pytest

import fisherbo


def mixed(trial):
    x = trial.suggest_float("x", -5, 5)
    lr = trial.suggest_float("lr", 1e-5, 1, log=True)
    n = trial.suggest_int("n", 1, 20)
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    if trial.number in (5, 12):
        raise optuna.TrialPruned
    return (x - 2) ** 2 + (math.log10(lr) + 2) ** 2 + 0.05 * (n - 7) ** 2 + (kind == "a")


@pytest.fixture(scope="session")
def study():
    """A finished study of all kinds of parameters; tests do not change it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    study.optimize(mixed, n_trials=30)
    return study


@pytest.fixture(scope="session")
def two_objectives():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = fisherbo.FisherSampler(seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return x**2 + y, x - y**2

    study.optimize(objective, n_trials=14)
    return study
