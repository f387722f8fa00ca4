"""Every storage of Optuna's gives the same study, and a killed worker loses nothing."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from fisherbo import FisherSampler

POSTGRES = os.environ.get("FISHERBO_TEST_POSTGRES")
needs_postgres = pytest.mark.skipif(
    POSTGRES is None, reason="FISHERBO_TEST_POSTGRES does not hold the URL of a PostgreSQL database"
)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def objective(trial):
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    n = trial.suggest_int("größe/n", 1, 1000, log=True)
    x = trial.suggest_float("x", 0, 1)
    if kind == "a":
        x += trial.suggest_float("a/more", 0, 1, step=0.25)
    trial.report(x, 0)
    if trial.number % 7 == 5:
        raise optuna.TrialPruned
    return (x - 0.4) ** 2 + np.log(n / 30) ** 2 if trial.number % 9 != 4 else float("nan")


@contextmanager
def in_memory(folder):
    yield InMemoryStorage()


@contextmanager
def sqlite(folder):
    yield RDBStorage(f"sqlite:///{folder}/s.db")


@contextmanager
def journal(folder):
    yield JournalStorage(JournalFileBackend(f"{folder}/s.log"))


@contextmanager
def postgresql(folder):
    if POSTGRES is None:
        pytest.skip("FISHERBO_TEST_POSTGRES does not hold the URL of a PostgreSQL database")
    storage = RDBStorage(POSTGRES)
    yield storage
    storage.engine.dispose()


SERVER = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
from optuna.storages import RDBStorage, get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(RDBStorage(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextmanager
def grpc(folder):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", SERVER, f"sqlite:///{folder}/s.db", str(port)]
    server = subprocess.Popen(command)
    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
    try:
        storage.wait_server_ready(timeout=60)
        yield storage
    finally:
        storage.close()
        server.kill()
        server.wait(timeout=20)


def points(storage):
    study = optuna.create_study(
        study_name=f"contract-{uuid.uuid4().hex}",
        storage=storage,
        sampler=FisherSampler(seed=4, n_startup_trials=5),
    )
    study.enqueue_trial({"x": 0.5})
    study.optimize(objective, n_trials=16)
    pending = [study.ask() for _ in range(2)]
    asked = [trial.suggest_float("x", 0, 1) for trial in pending]
    return [t.params for t in study.trials], asked, study.sampler.recommend(study)


@pytest.mark.parametrize(
    "opened",
    [sqlite, journal, postgresql, pytest.param(grpc, marks=pytest.mark.slow)],
    ids=lambda f: f.__name__,
)
def test_every_storage_gives_the_same_suggestions(opened, tmp_path):
    with opened(tmp_path) as storage:
        found = points(storage)
    with in_memory(tmp_path) as storage:
        expected = points(storage)
    assert found == expected


WORKER = """
import sys, threading, time, warnings, optuna
warnings.simplefilter("ignore")
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from fisherbo import FisherSampler
optuna.logging.set_verbosity(optuna.logging.ERROR)
url, name, slow = sys.argv[1], sys.argv[2], sys.argv[3] == "slow"
storage = RDBStorage(url, heartbeat_interval=1, grace_period=3,
    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3))
study = optuna.load_study(study_name=name, storage=storage,
    sampler=FisherSampler(seed=0, n_startup_trials=6))
def objective(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    if slow and trial.number >= 4:
        print(trial.number, flush=True)
        time.sleep(600)
    time.sleep(0.3)
    return (x - 0.3) ** 2 + (y - 0.7) ** 2
def stop_when_done(study, trial):
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    retried = any("failed_trial" in t.system_attrs for t in complete)
    if len(complete) >= 24 and retried:  # however slow the machine is to notice the dead worker
        study.stop()
study.optimize(objective, callbacks=[stop_when_done])
"""


@needs_postgres
@pytest.mark.slow
def test_four_processes_lose_nothing_when_one_is_killed():
    name = f"killed-{uuid.uuid4().hex}"
    storage = RDBStorage(POSTGRES)
    study = optuna.create_study(study_name=name, storage=storage)
    kinds = ["slow", "quick", "quick", "quick"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, POSTGRES, name, kind],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for kind in kinds
    ]  # fmt: skip
    try:
        number = int(workers[0].stdout.readline())
        workers[0].send_signal(signal.SIGKILL)
        assert [worker.wait(timeout=240) for worker in workers] == [-signal.SIGKILL, 0, 0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    check_nothing_is_lost(study.trials, number)
    storage.engine.dispose()


def check_nothing_is_lost(trials, number):
    assert [t.number for t in trials] == list(range(len(trials)))
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(complete) >= 24
    assert trials[number].state == TrialState.FAIL
    again = [t for t in trials if t.system_attrs.get("failed_trial") == number]
    assert [t.state for t in again] == [TrialState.COMPLETE]
    assert again[0].params == trials[number].params
    assert len({tuple(t.params.values()) for t in complete}) == len(complete)
    assert {t.state for t in trials if t is not trials[number]} <= {
        TrialState.COMPLETE,
        TrialState.WAITING,
    }
