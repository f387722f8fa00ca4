"""Many workers, dead workers: who counts as pending, and that no point is asked for twice."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from fisherbo import FisherSampler
from fisherbo.sampler.running import PATIENCE, without_abandoned

MINUTE = timedelta(minutes=1)


def bowl(trial):
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-3, 10, log=True)
    return (x - 1) ** 2 + np.log(y) ** 2


def finished(number, duration, state=TrialState.COMPLETE):
    start = datetime.now() - 10 * MINUTE - duration
    value = 0.0 if state == TrialState.COMPLETE else None
    return FrozenTrial(number, state, value, start, start + duration, {}, {}, {}, {}, {}, number)


def running(number, age):
    start = datetime.now() - age
    return FrozenTrial(number, TrialState.RUNNING, None, start, None, {}, {}, {}, {}, {}, number)


def pending(trials):
    kept = without_abandoned(optuna.create_study(), trials)
    assert [t.number for t in kept if t.state.is_finished()] == [
        t.number for t in trials if t.state.is_finished()
    ]
    return [t.number for t in kept if t.state == TrialState.RUNNING]


def test_a_trial_that_runs_much_longer_than_others_is_abandoned():
    quick = [finished(i, MINUTE / 10) for i in range(5)]
    assert pending([*quick, running(5, MINUTE), running(6, PATIENCE + MINUTE)]) == [5]
    slow = [finished(i, 30 * MINUTE) for i in range(5)]
    assert pending([*slow, running(5, 100 * MINUTE), running(6, 301 * MINUTE)]) == [5]


def test_one_long_trial_in_many_does_not_stretch_the_patience():
    trials = [finished(i, MINUTE / 10) for i in range(50)] + [finished(50, 600 * MINUTE)]
    assert pending([*trials, running(51, 60 * MINUTE)]) == []


def test_durations_that_say_nothing_abandon_nobody():
    old = running(9, 10_000 * MINUTE)
    assert pending([old]) == [9]
    assert pending([finished(0, timedelta(0)), old]) == [9]
    assert pending([finished(0, MINUTE, TrialState.FAIL), old]) == [9]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
def test_a_stale_heartbeat_is_heeded_at_once(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{tmp_path}/s.db", heartbeat_interval=60, grace_period=3600
        )
    study = optuna.create_study(storage=storage)
    dead, alive, silent = (study.ask() for _ in range(3))
    for trial in (dead, alive):
        storage.record_heartbeat(trial._trial_id)
    with storage.engine.begin() as connection:  # two hours ago
        connection.execute(
            sqlalchemy.text(
                "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-2 hours') "
                "WHERE trial_id = :trial"
            ),
            {"trial": dead._trial_id},
        )
    kept = without_abandoned(study, study.get_trials(deepcopy=False))
    assert [t.number for t in kept] == [alive.number, silent.number]


def test_an_abandoned_trial_no_longer_repels():
    def suggestion(age):
        study = optuna.create_study(sampler=FisherSampler(seed=0))
        study.optimize(bowl, n_trials=12)
        trial = study.ask()
        bowl(trial)
        frozen = study._storage._get_trial(trial._trial_id)
        frozen.datetime_start = datetime.now() - age
        other = study.ask()
        bowl(other)
        return trial.params, other.params

    first, beside = suggestion(MINUTE)
    same, after = suggestion(10 * PATIENCE)
    assert first == same
    assert beside != after


WORKER = """
import sys, optuna
from fisherbo import FisherSampler
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="s", storage=sys.argv[1],
    sampler=FisherSampler(seed=0, n_startup_trials=4))
study.optimize(lambda t: (t.suggest_float("x", 0, 1) - 0.4) ** 2 + t.suggest_float("y", -1, 1) ** 2,
    n_trials=8)
"""


def test_processes_with_one_seed_never_repeat_a_point(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="s", storage=url)
    command = [sys.executable, "-c", WORKER, url]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [worker.wait(timeout=200) for worker in workers] == [0, 0]
    trials = study.trials
    assert [t.number for t in trials] == list(range(16))
    assert len({tuple(sorted(t.params.items())) for t in trials}) == 16


@pytest.mark.parametrize("kind", ["corner", "grid"])
@pytest.mark.parametrize("seed", [0, 3])
def test_workers_that_ask_at_the_same_moment_do_not_choose_the_same_point(kind, seed):
    """Neither sees the other's parameters, and the best point is a corner or on a grid."""

    def ask(trial):
        if kind == "grid":
            return [trial.suggest_int(name, 0, 9) for name in "xy"]
        return [trial.suggest_float(name, 0, 1) for name in "xy"]

    study = optuna.create_study(sampler=FisherSampler(seed=seed, n_startup_trials=5))
    study.optimize(lambda t: sum(ask(t)), n_trials=8)
    alone = study.ask()
    twin, rivals = copy.deepcopy(study), [study.ask() for _ in range(2)]
    first = ask(optuna.Trial(twin, alone._trial_id))
    assert kind == "grid" or first == [0, 0]
    points = [first, *(ask(rival) for rival in reversed(rivals))]
    assert len({tuple(p) for p in points}) == 3


def test_sixteen_trials_are_eight_and_eight(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    whole = optuna.create_study(sampler=FisherSampler(seed=1, n_startup_trials=4))
    whole.optimize(bowl, n_trials=16)
    for _ in range(2):
        part = optuna.create_study(
            storage=url,
            study_name="s",
            load_if_exists=True,
            sampler=FisherSampler(seed=1, n_startup_trials=4),
        )
        part.optimize(bowl, n_trials=8)
    assert [t.params for t in part.trials] == [t.params for t in whole.trials]


def test_eight_workers_ask_before_any_tells():
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=4))
    for _ in range(3):
        trials = [study.ask() for _ in range(8)]
        values = [bowl(trial) for trial in trials]
        for trial, value in zip(trials, values, strict=True):
            study.tell(trial, value)
    assert len({t.params["x"] for t in study.trials}) == 24
    assert study.best_value < 1.0


def test_a_sampler_in_use_can_be_copied_and_pickled():
    study = optuna.create_study(sampler=FisherSampler(seed=2, n_startup_trials=3))
    study.optimize(bowl, n_trials=6)
    suggestions = []
    for twin in (copy.deepcopy(study.sampler), pickle.loads(pickle.dumps(study.sampler))):
        again = copy.deepcopy(study)
        again.sampler = twin
        again.optimize(bowl, n_trials=2)
        suggestions.append([t.params for t in again.trials])
    assert suggestions[0] == suggestions[1]
