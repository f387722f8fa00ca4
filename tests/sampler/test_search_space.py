"""Conditions are read off the trials; the model knows all parameters of a dynamic space."""

import numpy as np
import optuna
import pytest

from fisherbo import FisherSampler
from fisherbo.sampler.search_space import with_conditions
from fisherbo.sampler.trials import ReadersByStudy, StudyReader
from fisherbo.space import Space

NAN = np.nan


def space(step, high, categorical):
    d = len(step)
    return Space(
        np.zeros(d), np.array(high), np.array(step), np.zeros(d, bool), np.array(categorical)
    )


def test_a_parameter_that_depends_on_a_choice():
    s = space([1.0, 0.0, 0.0], [2.0, 1.0, 1.0], [True, False, False])
    rows = np.array([[0, 0.3, NAN], [0.5, NAN, 0.7], [0, 0.1, NAN], [0.5, NAN, 0.2]])
    learned = with_conditions(s, rows)
    exists = learned.exists(np.array([[0, 0.9, 0.9], [0.5, 0.9, 0.9], [1.0, 0.9, 0.9]]))
    assert exists.tolist() == [[True, True, False], [True, False, True], [True, True, True]]
    assert learned.snap(np.array([0.0, 0.9, 0.9])).tolist() == [0, 0.9, 0.5]


def test_a_parameter_that_exists_above_a_threshold():
    s = space([1.0, 0.0], [4.0, 1.0], [False, False])
    rows = np.array([[0, NAN], [0.25, NAN], [0.75, 0.4], [1.0, 0.2], [0.75, 0.1]])
    learned = with_conditions(s, rows)
    at = np.array([[0.0, 0.1], [0.25, 0.1], [0.75, 0.1], [1.0, 0.1]])
    assert learned.exists(at)[:, 1].tolist() == [False, False, True, True]


def test_conditions_nest():
    s = space([1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [True, True, False])
    rows = np.array([[0, NAN, NAN], [1, 0, NAN], [1, 1, 0.4], [1, 1, 0.8], [0, NAN, NAN]])
    learned = with_conditions(s, rows)
    at = np.array([[0, 1, 0.3], [1, 0, 0.3], [1, 1, 0.3]])
    assert learned.exists(at).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_without_a_rule_a_parameter_counts_as_there():
    s = space([1.0, 0.0], [1.0, 1.0], [True, False])
    late = np.array([[0, NAN], [1, NAN], [0, 0.4], [1, 0.6]])
    assert with_conditions(s, late).conditions == ()
    assert with_conditions(s, late[:0]).conditions == ()


def svm(trial):
    kernel = trial.suggest_categorical("kernel", ["linear", "rbf", "poly"])
    c = trial.suggest_float("C", 1e-3, 1e3, log=True)
    value = 1 + abs(np.log10(c) - 1)
    if kernel == "rbf":
        value += abs(np.log10(trial.suggest_float("gamma", 1e-4, 1e2, log=True)) + 2) - 1
    elif kernel == "poly":
        value += 0.1 * trial.suggest_int("degree", 2, 5)
    return value


def test_conditional_parameters_are_modelled():
    def regret(sampler):
        study = optuna.create_study(sampler=sampler)
        study.optimize(svm, n_trials=50)
        return study.best_value

    ours = np.median([regret(FisherSampler(seed=s)) for s in range(3)])
    assert ours < 0.1
    assert ours < np.median([regret(optuna.samplers.RandomSampler(seed=s)) for s in range(3)])


def test_an_empty_trial_and_a_late_parameter_harm_nothing():
    def late(trial):
        if trial.number == 12:
            return 5.0
        value = (trial.suggest_float("x", -5, 5) - 1) ** 2
        if trial.number > 15:
            value += trial.suggest_float("late", 0, 1) ** 2
        return value

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(late, n_trials=45)
    assert study.trials[12].params == {}
    assert min(t.value for t in study.trials if "late" in t.params) < 0.02


def test_a_range_that_changes_is_followed():
    def moving(trial):
        high = 5 if trial.number < 15 else 20
        return (trial.suggest_float("x", -5, high) - 12) ** 2

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(moving, n_trials=35)
    assert study.best_value < 0.1


def test_finished_trials_are_read_once_and_studies_kept_apart():
    readers = ReadersByStudy(StudyReader)
    study, other = (
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)) for _ in range(2)
    )
    study.optimize(svm, n_trials=8)
    reader = readers.of(study)
    union = reader.parameters(study.trials).varying
    assert list(union) == sorted({name for t in study.trials for name in t.params})
    _, first = reader.table(union, study.trials)
    assert np.isnan(first.x).any() and not np.isnan(first.x).all()
    assert reader.table(union, study.trials)[1].x == pytest.approx(first.x, nan_ok=True)
    assert readers.of(other).parameters(other.trials).varying == {}
    assert readers.of(study) is reader


def test_pruned_trials_show_conditions_unless_they_stopped_before_asking():
    s = space([1.0, 0.0, 0.0], [2.0, 1.0, 1.0], [True, False, False])
    complete = np.array([[0.5, NAN, 0.2]] * 3)  # never the choice that has the second parameter
    pruned = np.array([[0.0, 0.3, 0.2], [1.0, NAN, 0.7], [0.0, 0.9, 0.1]])
    assert with_conditions(s, complete).conditions == ()
    (condition,) = with_conditions(s, complete, pruned).conditions
    assert (condition.child, condition.parent) == (1, 0)
    assert condition.present.tolist() == [True, False, False]
    complete = np.concatenate([complete, [[0.0, 0.4, 0.3]]])
    early = np.array([[0.0, NAN, NAN]])  # it stopped before it asked for the others
    (condition,) = with_conditions(s, complete, early).conditions
    assert condition.present.tolist() == [True, False, True]


def test_a_study_that_is_mostly_pruned_asks_for_what_its_branch_has():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        momentum = 0.0
        if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
            momentum = trial.suggest_float("momentum", 0, 1)
        trial.report(x + momentum, 0)
        if "momentum" in trial.params or trial.number % 4:
            raise optuna.TrialPruned
        return x

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, 24)
    inspection = study.sampler.inspect(study)
    (condition,) = inspection.request.space.conditions
    names = list(inspection.search_space)
    assert (names[condition.child], names[condition.parent]) == ("momentum", "optimizer")
