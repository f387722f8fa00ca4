"""Trials of killed workers go on from their checkpoints, bit for bit."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fisherbo import FisherPruner
from fisherbo.sampler.pruner import IMPROVEMENT_PROBABILITY
from fisherbo.sampler.trials import RESUME
from fisherbo.tuning import storage as storages
from fisherbo.tuning import tune_training
from fisherbo.tuning.objective import seeded
from fisherbo.tuning.record import failure, read
from fisherbo.tuning.resume import Checkpoints


def network():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, 1))
    for index, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(index))
    return model


def loader(line):
    return DataLoader(TensorDataset(*line), batch_size=10, shuffle=True)


def interrupted_after(count):
    calls = []

    def squared_error(output, target):
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return 0.5 * (output - target).square().sum() / len(target)

    return squared_error


@pytest.fixture
def slowly(line):
    return {
        "build_model": network,
        "data": loader(line),
        "likelihood": "normal",
        "sampler": "random",
        "max_steps": 40,
        "n_trials": 2,
    }


def same_run(trial, other):
    assert trial.params == other.params
    assert trial.value == other.value
    first, second = read(trial), read(other)
    assert [(p.step, p.loss) for p in first.trace] == [(p.step, p.loss) for p in second.trace]
    assert trial.intermediate_values == other.intermediate_values


@pytest.mark.parametrize("optimizer", ["kfac", "ekfac", "adam"])
def test_an_interrupted_trial_goes_on_where_it_was(slowly, optimizer, tmp_path):
    slowly["optimizer"] = optimizer
    whole = tune_training(**slowly, loss=interrupted_after(None)).study.trials
    storage = optuna.storages.InMemoryStorage()
    more = {"storage": storage, "checkpoints": tmp_path}
    with pytest.raises(KeyboardInterrupt):  # a trial is 41 steps, each measured: 4 batches more
        tune_training(**slowly, loss=interrupted_after(120), **more)
    (file,) = tmp_path.rglob("*.pt")
    assert file.name == "trial-0.pt"
    evaluations = []

    def counted(output, target):
        evaluations.append(1)
        return 0.5 * (output - target).square().sum() / len(target)

    counted.__name__ = "squared_error"
    result = tune_training(**slowly, loss=counted, **more)
    states = [trial.state for trial in result.study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert failure(result.study.trials[0]) is None
    assert result.study.trials[1].user_attrs[RESUME] == 0
    same_run(result.study.trials[1], whole[0])
    assert result.counts.done == 2
    assert not list(tmp_path.rglob("*.pt"))


def test_without_checkpoints_nothing_is_written_or_enqueued(slowly, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        tune_training(**slowly, loss=interrupted_after(120), storage=storage)
    result = tune_training(**slowly, loss=interrupted_after(None), storage=storage)
    assert not any(RESUME in trial.user_attrs for trial in result.study.trials)
    assert not list(tmp_path.iterdir())


def test_the_file_left_by_another_study_is_not_used(slowly, tmp_path):
    slowly["n_trials"] = 1
    with pytest.raises(KeyboardInterrupt):
        tune_training(**slowly, loss=interrupted_after(120), checkpoints=tmp_path, seed=1)
    fresh = tune_training(**slowly, loss=interrupted_after(None), checkpoints=tmp_path)
    whole = tune_training(**slowly, loss=interrupted_after(None))
    same_run(fresh.study.trials[0], whole.study.trials[0])


def test_one_worker_alone_hands_a_trial_over(tmp_path):
    study = optuna.create_study()
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.tell(trial, state=TrialState.FAIL)
    checkpoints = Checkpoints.of(tmp_path, "a/b")
    path = checkpoints.path(0)
    path.parent.mkdir(parents=True)
    path.write_text("state")
    checkpoints.requeue(study)
    Checkpoints.of(tmp_path, "a/b").requeue(study)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [t.user_attrs for t in waiting] == [{RESUME: 0}]
    again = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    assert again.params == trial.params
    own = checkpoints.begin(again)
    assert (own.name, own.read_text()) == ("trial-1.pt", "state")
    checkpoints.end(again)
    assert not list(tmp_path.rglob("*.pt"))


def test_trials_that_failed_by_themselves_are_not_run_again(slowly, tmp_path):
    calls = []

    def explosive(output, target):
        calls.append(1)
        value = (output - target).square().mean()
        return value * torch.nan if len(calls) == 60 else value

    result = tune_training(**slowly, loss=explosive, checkpoints=tmp_path)
    assert [t.state for t in result.study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert not list(tmp_path.rglob("*.pt"))


def test_a_run_sets_all_global_generators_back():
    torch.manual_seed(1)
    random.seed(1)
    numpys = np.random.mtrand._rand  # the global one
    numpys.seed(1)
    before = torch.get_rng_state(), random.getstate(), numpys.get_state()[1].copy()
    with pytest.raises(ZeroDivisionError), seeded(0):
        torch.rand(2), random.random(), numpys.random()
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (numpys.get_state()[1] == before[2]).all()


KILLED = """
import os, sys
import fisherbo.tuning.storage as s
s.HEARTBEAT_SECONDS, s.GRACE_SECONDS = 1, 2
import torch
from fisherbo.tuning import tune_training
sys.path.insert(0, sys.argv[1])
from problem import arguments
calls = []
def squared_error(output, target):
    calls.append(1)
    if len(calls) == 120: os._exit(9)
    return 0.5 * (output - target).square().sum() / len(target)
tune_training(**arguments(), loss=squared_error, storage=sys.argv[2], checkpoints=sys.argv[1])
"""

PROBLEM = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
def build():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, 1))
    for index, p in enumerate(model.parameters()):
        nn.init.normal_(p, std=0.5, generator=torch.Generator().manual_seed(index))
    return model
def arguments():
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=10, shuffle=True)
    return {"build_model": build, "data": data, "likelihood": "normal", "sampler": "random",
            "max_steps": 40, "n_trials": 2}
"""


@pytest.mark.slow
def test_the_trial_of_a_killed_worker_goes_on_in_another(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storages, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storages, "GRACE_SECONDS", 2)
    (tmp_path / "problem.py").write_text(PROBLEM)
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    worker = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), url], capture_output=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert worker.returncode == 9, worker.stderr
    problem: dict = {}
    exec(PROBLEM, problem)
    arguments = problem["arguments"]()
    result = tune_training(
        **arguments, loss=interrupted_after(None), storage=url, checkpoints=tmp_path
    )
    whole = tune_training(**arguments, loss=interrupted_after(None)).study.trials
    resumed = [t for t in result.study.trials if RESUME in t.user_attrs]
    assert len(resumed) == 1
    assert resumed[0].params == whole[0].params
    assert resumed[0].value == whole[0].value
    assert (result.counts.done, result.counts.running) == (2, 0)


class Hasty(FisherPruner):
    """Stops every new trial at a step, and prefers any of them to another new one."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def prune(self, study, trial):
        resumed = RESUME in trial.user_attrs
        return max(trial.intermediate_values) >= self.step and not resumed

    def gain_of_resuming(self, study, trial):
        return 1.0


@pytest.mark.parametrize("optimizer", ["kfac", "adam"])
def test_a_pruned_training_that_is_gone_on_with_is_bit_for_bit_an_uninterrupted_one(
    slowly, optimizer, tmp_path
):
    slowly["optimizer"] = optimizer
    whole = tune_training(**slowly, loss=interrupted_after(None)).study.trials
    more = {"checkpoints": tmp_path, "pruner": Hasty(step=17)}
    result = tune_training(**{**slowly, "n_trials": 4}, loss=interrupted_after(None), **more)
    trials = result.study.trials
    states = [trial.state.name for trial in trials]
    assert states == ["PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]
    assert [trial.user_attrs.get(RESUME) for trial in trials] == [None, 0, None, 2]
    same_run(trials[1], whole[0])
    assert not list(tmp_path.rglob("*.pt"))


def test_without_a_pruner_that_goes_on_with_trials_their_files_are_removed(slowly, tmp_path):
    files = []

    class Watched(optuna.pruners.ThresholdPruner):
        def prune(self, study, trial):
            files.extend(path.name for path in tmp_path.rglob("*.pt"))
            return max(trial.intermediate_values) >= 17

    pruner = Watched(upper=1e9)
    result = tune_training(
        **slowly, loss=interrupted_after(None), checkpoints=tmp_path, pruner=pruner
    )
    assert result.counts.pruned == 2
    assert set(files) == {"trial-0.pt", "trial-1.pt"}
    assert not any(RESUME in trial.user_attrs for trial in result.study.trials)
    assert not list(tmp_path.rglob("*.pt"))


def test_files_of_the_most_promising_pruned_trials_are_kept(tmp_path):
    study = optuna.create_study(pruner=Hasty(0))
    checkpoints = Checkpoints.of(tmp_path, "s")
    checkpoints.folder.mkdir(parents=True)
    for number in range(12):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        checkpoints.path(number).write_text("state")
        trial.set_user_attr(IMPROVEMENT_PROBABILITY, 0.1 * (number % 7))
        checkpoints.freeze(trial)
        study.tell(trial, state=TrialState.PRUNED)
    kept = {number for number in range(12) if checkpoints.path(number).exists()}
    assert kept == {2, 3, 4, 5, 6, 9, 10, 11}
    checkpoints.clear(study)
    assert not list(tmp_path.rglob("*.pt"))
