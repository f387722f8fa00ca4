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

from fisherbo.tuning import storage as storages
from fisherbo.tuning import tune_training
from fisherbo.tuning.objective import seeded
from fisherbo.tuning.record import failure, read
from fisherbo.tuning.resume import RESUMES, Checkpoints


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
    assert result.study.trials[1].user_attrs[RESUMES] == 0
    same_run(result.study.trials[1], whole[0])
    assert result.counts.done == 2
    assert not list(tmp_path.rglob("*.pt"))


def test_without_checkpoints_nothing_is_written_or_enqueued(slowly, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        tune_training(**slowly, loss=interrupted_after(120), storage=storage)
    result = tune_training(**slowly, loss=interrupted_after(None), storage=storage)
    assert not any(RESUMES in trial.user_attrs for trial in result.study.trials)
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
    assert [t.user_attrs for t in waiting] == [{RESUMES: 0}]
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
    resumed = [t for t in result.study.trials if RESUMES in t.user_attrs]
    assert len(resumed) == 1
    assert resumed[0].params == whole[0].params
    assert resumed[0].value == whole[0].value
    assert (result.counts.done, result.counts.running) == (2, 0)
