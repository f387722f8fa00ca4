"""Minimise a function of two numbers and a category."""

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    """A bowl, shifted by the category."""
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-3, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    return (x - 1) ** 2 + abs(y - 0.1) + {"a": 0.0, "b": 1.0, "c": 2.0}[kind]


if __name__ == "__main__":
    module = optunahub.load_module("samplers/fisherbo")
    study = optuna.create_study(sampler=module.FisherSampler(seed=0))
    study.optimize(objective, n_trials=40)
    print(study.best_params, study.best_value)
