"""The table of trials is the same whether they are read one by one or all at once."""

import dataclasses

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fisherbo import NOISE_VARIANCE, FisherSampler
from fisherbo.sampler.trials import FAILED, ReadersByStudy, Status, StudyReader

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def trials_of(study):
    return study.get_trials(deepcopy=False, states=STATES)


def assert_same(study, reader, objectives=1):
    trials, fresh = trials_of(study), StudyReader()
    union = reader.parameters(trials).varying
    assert union == fresh.parameters(trials).varying
    space, table = reader.table(union, trials, objectives)
    other, expected = fresh.table(union, trials, objectives)
    assert space.conditions == other.conditions == ()
    for field in dataclasses.fields(expected):
        got, wanted = getattr(table, field.name), getattr(expected, field.name)
        if isinstance(wanted, tuple):
            assert got == wanted
            continue
        assert np.array_equal(got, wanted, equal_nan=got.dtype == np.float64)
    return table


def ask(trial):
    return trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 9)


def test_trials_that_end_in_any_order_and_way_are_read_once():
    study, reader = (
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)),
        StudyReader(),
    )
    study.enqueue_trial({"x": 0.5})  # waits until the first worker asks
    waiting = study._storage.create_new_trial(
        study._study_id, optuna.trial.create_trial(state=TrialState.WAITING)
    )
    open_trials = [study.ask() for _ in range(4)]
    for trial in open_trials:
        ask(trial)
    assert_same(study, reader)
    open_trials[1].set_constraint("c", 2.5)
    open_trials[1].set_user_attr(NOISE_VARIANCE, 0.25)
    study.tell(open_trials[1], 2.0)
    assert_same(study, reader)
    open_trials[0].report(3.0, 1)
    study.tell(open_trials[0], state=TrialState.PRUNED)
    assert_same(study, reader)
    study._storage.set_trial_system_attr(open_trials[2]._trial_id, FAILED, True)
    study.tell(open_trials[2], state=TrialState.FAIL)
    assert_same(study, reader)
    study._storage.set_trial_state_values(open_trials[3]._trial_id, TrialState.FAIL)  # killed
    assert_same(study, reader)
    if study._storage.get_trial(waiting).state == TrialState.WAITING:
        study._storage.set_trial_state_values(waiting, TrialState.RUNNING)  # comes in between
    table = assert_same(study, reader)
    assert table.noise.max() == 0.25
    assert [c for c in table.constraints if c] == [{"c": 2.5}]
    assert table.have(Status.FAILED).sum() == 1
    assert table.have(Status.KILLED).sum() == 1
    assert np.isnan(table.value[:, 0]).sum() == len(table.x) - 1


def test_a_trial_that_begins_before_those_that_were_read_comes_in_its_place():
    study, reader = (
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)),
        StudyReader(),
    )
    late = optuna.trial.create_trial(state=TrialState.WAITING)
    study.optimize(lambda t: ask(t)[0], n_trials=2)
    waiting = study._storage.create_new_trial(study._study_id, late)
    for _ in range(3):
        trial = study._storage.create_new_trial(study._study_id)
        ask(optuna.Trial(study, trial))
        study._storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    assert len(assert_same(study, reader).x) == 5
    study._storage.set_trial_state_values(waiting, TrialState.RUNNING)
    table = assert_same(study, reader)
    assert len(table.x) == 6
    assert table.have(Status.RUNNING).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_a_reader_that_forgot_suggests_the_same(directions):
    def values(trial):
        x, n = ask(trial)
        return (x - 0.3) ** 2 + n if len(directions) == 1 else ((x - 0.3) ** 2 + n, x * n)

    def params(forget):
        study = optuna.create_study(directions=directions, sampler=FisherSampler(seed=1))
        for _ in range(16):
            if forget:
                study.sampler._readers = ReadersByStudy(StudyReader)
            study.optimize(values, n_trials=1)
        return [t.params for t in study.trials]

    assert params(True) == params(False)
