"""Studies with pruners: they prune, and find the minimum all the same."""

import numpy as np
import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, WilcoxonPruner
from optuna.trial import TrialState

from fisherbo import FisherSampler

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def bowl(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return (x - 0.3) ** 2 + (y - 0.6) ** 2


def learning(trial):
    """A loss that falls with the steps to the bowl's value."""
    value = bowl(trial)
    for step in range(1, 10):
        trial.report(value + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value


def folds(trial):
    """Losses of one fold after the other, about the bowl's value."""
    value = bowl(trial)
    spread = 0.02 * np.random.default_rng(0).standard_normal(8)
    for fold, deviation in enumerate(spread):
        trial.report(value + deviation, fold)
        if trial.should_prune():
            return value + float(spread[: fold + 1].mean())
    return value


@pytest.mark.parametrize(
    ("make", "objective"),
    [
        (lambda: MedianPruner(n_startup_trials=4), learning),
        (lambda: HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3), learning),
        (lambda: WilcoxonPruner(p_threshold=0.1), folds),
    ],
    ids=["median", "hyperband", "wilcoxon"],
)
def test_a_study_with_a_pruner_finds_the_minimum(make, objective):
    study = optuna.create_study(
        sampler=FisherSampler(seed=0, n_startup_trials=6), pruner=make(), study_name="pruned"
    )
    study.optimize(objective, n_trials=36)
    steps = sum(len(t.intermediate_values) for t in study.trials)
    most = 8 if objective is folds else 9
    assert steps < 0.9 * most * 36  # it did prune
    assert study.best_value < 0.01
    if objective is learning:
        assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
