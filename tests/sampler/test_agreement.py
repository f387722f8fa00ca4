"""Reports that go against what trials return: nothing is stopped by them, or learned from them."""

import logging
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial
from scipy.stats import kendalltau

import fisherbo
from fisherbo import FisherPruner, FisherSampler
from fisherbo.sampler.agreement import contradict, same_order, tell
from fisherbo.sampler.learning_curves import CurveAxis
from fisherbo.sampler.observations import objective_values
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.trials import read

STEPS = 12


@pytest.mark.parametrize("seed", range(5))
def test_the_share_of_pairs_in_the_same_order_is_that_of_kendall(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 40))
    tau, _ = kendalltau(a, b)
    assert 2 * same_order(a, b) - 1 == pytest.approx(tau, abs=1e-12)


def test_of_many_values_some_are_compared():
    a = np.arange(3000.0)
    assert same_order(a, a**3) == 1.0
    assert same_order(a, -a) == 0.0


@pytest.mark.parametrize(
    ("ends", "values", "expected"),
    [
        ([1, 2, 3, 4], [4, 3, 2, 1], True),
        ([1, 2, 3, 4], [1, 2, 3, 4], False),
        ([1, 2, 3, 4], [5, 5, 5, 5], False),  # a plateau contradicts nothing
        ([1, 2, 3], [3, 2, 1], False),  # too few
        ([1, 2, 3, math.nan], [3, 2, 1, 0], False),
        ([1, 2, 3, 4, -math.inf], [4, 3, 2, 1, 9], True),
        ([1, 2, 3, 4], [2, 1, 4, 3], False),
        ([], [], False),
    ],
)
def test_values_contradict_ends_of_the_opposite_order(ends, values, expected):
    assert contradict(np.array(ends, float), np.array(values, float)) is expected


@pytest.mark.parametrize(
    ("ends", "values", "expected"),
    [
        ([0.3], [0.3], True),  # the report itself
        ([0.3, math.nan], [0.3, 0.1], True),
        ([0.3], [0.9], False),  # not known yet
        ([1, 2], [3, 4], False),
        ([1, 2, 3], [3, 4, 5], True),
        ([1, 2, 3], [5, 3, 4], False),
        ([1, 2, 3], [5, 5, 5], True),
    ],
)
def test_ends_tell_values_where_they_are_the_same_or_three_trials_show_it(ends, values, expected):
    assert tell(np.array(ends, float), np.array(values, float)) is expected


def curve(x):
    """Falls to 0 for x = 1, and to 1 for x = 0."""
    return [1 - x * (1 - math.exp(-0.4 * step)) for step in range(1, STEPS + 1)]


def study_of(value, n_trials, *, directions=("minimize",), sampler=None):
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step, loss in enumerate(curve(x)):
            told = {"loss": loss} if len(directions) == 1 else {"loss": loss, "x": x}
            fisherbo.report(trial, told, step)
            if fisherbo.should_prune(trial):
                raise optuna.TrialPruned
        return value(x) if len(directions) == 1 else (value(x), x)

    study = optuna.create_study(
        directions=list(directions),
        sampler=sampler or RandomSampler(seed=0),
        pruner=FisherPruner(exploration=0.0),
    )
    study.optimize(objective, n_trials=n_trials)
    return study


def pruned_after(study, complete):
    """Pruned trials after so many complete ones."""
    states = [t.state for t in study.trials]
    done = np.cumsum([s == TrialState.COMPLETE for s in states])
    return sum(s == TrialState.PRUNED and d >= complete for s, d in zip(states, done, strict=True))


def test_nothing_is_pruned_by_reports_of_the_wrong_sign(caplog):
    with caplog.at_level(logging.WARNING, "optuna"):
        study = study_of(lambda x: x, 40)
    assert pruned_after(study, 0) == 0
    told = [r.message for r in caplog.records if "returned worse values" in r.message]
    assert len(told) == 1
    assert "report what the objective returns" in told[0]


def test_reports_that_go_with_the_values_prune_as_before():
    study = study_of(lambda x: (1 - x) ** 3, 40)
    assert pruned_after(study, 4) > 10


def test_values_that_are_all_the_same_do_not_keep_trials_from_being_pruned():
    study = study_of(lambda x: 1.0, 40)
    assert pruned_after(study, 4) > 10


def test_one_contradicted_objective_of_two_is_enough():
    agrees = study_of(lambda x: 1 - x, 40, directions=("minimize", "maximize"))
    assert pruned_after(agrees, 4) > 10
    study = study_of(lambda x: x, 40, directions=("minimize", "maximize"))
    assert pruned_after(study, 0) == 0


def test_a_trial_of_a_contradicted_study_is_not_gone_on_with():
    study = study_of(lambda x: x, 12)
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    reports = dict(enumerate(curve(0.99)[:4]))
    study.add_trial(
        create_trial(
            params={"x": 0.99},
            distributions=space,
            state=TrialState.PRUNED,
            intermediate_values=reports,
        )
    )
    assert study.pruner.gain_of_resuming(study, study.trials[-1]) == -math.inf


def seen_by_the_sampler(value):
    """Coordinates that count when ten trials are complete and ten pruned after three reports."""
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    trials = []
    for i in range(20):
        x, whole = (i + 0.5) / 20, i % 2 == 0
        reports = dict(enumerate(curve(x)[: None if whole else 3]))
        trials.append(
            create_trial(
                params={"x": x},
                distributions=space,
                state=TrialState.COMPLETE if whole else TrialState.PRUNED,
                value=value(x) if whole else None,
                intermediate_values=reports,
            )
        )
    table = read(to_space(space), space, trials)
    found = objective_values(to_space(space), table, [optuna.study.StudyDirection.MINIMIZE])
    return np.isfinite(found[:, 0])


def test_what_contradicted_reports_of_pruned_trials_stand_for_is_not_learned():
    assert seen_by_the_sampler(lambda x: 1 - x).all()
    assert seen_by_the_sampler(lambda x: x).tolist() == [True, False] * 10


def test_a_search_with_reports_of_the_wrong_sign_ends_well():
    study = study_of(lambda x: (x - 0.1) ** 2, 30, sampler=FisherSampler(seed=0))
    assert study.best_value < 1e-3


def crossing(x):
    """Until step 5 larger x look worse; they end better."""
    return [(0.2 + 0.6 * x if step < 5 else 1 - x) + 0.5 * math.exp(-step) for step in range(STEPS)]


def test_reports_do_not_stop_a_trial_before_they_go_with_the_ends():
    def objective(trial):
        reports = crossing(trial.suggest_float("x", 0, 1))
        for step, loss in enumerate(reports):
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return reports[-1]

    pruner = FisherPruner(n_startup_trials=4)
    study = optuna.create_study(sampler=RandomSampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=40)
    stopped = [t.last_step for t in study.trials if t.state == TrialState.PRUNED]
    assert len(stopped) > 10
    assert min(stopped) == 5  # the first report that is in the order of the ends
    assert study.best_params["x"] == max(t.params["x"] for t in study.trials)


def test_the_last_report_up_to_a_step_counts():
    axis = CurveAxis(1.0, 9.0, 1.0, best=False)
    trial = create_trial(
        state=TrialState.COMPLETE, value=1.0, intermediate_values={1: 5.0, 4: 2.0, 9: 3.0}
    )
    assert [axis.report_at(step, trial, -1.0) for step in (1, 3, 4, 8, 9)] == [-5, -5, -2, -2, -3]
    assert math.isnan(axis.report_at(0, trial, 1.0))
    best = replace(axis, best=True)
    assert [best.report_at(step, trial, -1.0) for step in (1, 4, 9)] == [-5, -2, -2]
