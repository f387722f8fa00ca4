import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import optuna
import pytest

from fisherbo.errors import InvalidInputError, StorageError
from fisherbo.tuning import storage as storages
from fisherbo.tuning import tune_training
from fisherbo.tuning.storage import (
    open_storage,
    parse_url,
    shown,
    sqlite_file,
    storage_file,
    storage_name,
)

WORKER = """
import sys, torch
from torch import nn
import optuna
from fisherbo.tuning import tune_training
optuna.logging.set_verbosity(optuna.logging.ERROR)
torch.set_num_threads(1)
x = torch.linspace(0, 1, 20)[:, None]
result = tune_training(lambda: nn.Linear(1, 1), (x, x), loss="squared_error", optimizer="adam",
    sampler=sys.argv[2], n_trials=int(sys.argv[3]), max_steps=60, storage=sys.argv[1],
    study_name=sys.argv[4])
print(result.counts.done, result.counts.running)
"""


def start(url, sampler="tpe", n_trials=12, name="shared"):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, sampler, str(n_trials), name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def check_shared(url):
    name = f"shared-{uuid.uuid4().hex[:8]}"
    workers = [start(url, name=name) for _ in range(2)]
    outputs = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [out.strip() for out, _ in outputs] == ["12 0", "12 0"]
    study = optuna.load_study(study_name=name, storage=open_storage(url))
    done = [trial for trial in study.trials if trial.state.is_finished() and trial.params]
    assert len(done) == 12
    assert len({tuple(trial.params.values()) for trial in done}) == 12


@pytest.mark.slow
def test_two_processes_share_a_new_sqlite_study(tmp_path):
    check_shared(f"sqlite:///{tmp_path / 'shared.db'}")


@pytest.mark.skipif(
    "FISHERBO_TEST_POSTGRES" not in os.environ,
    reason="FISHERBO_TEST_POSTGRES does not hold the URL of a PostgreSQL database",
)
def test_two_processes_share_a_postgresql_study():
    check_shared(os.environ["FISHERBO_TEST_POSTGRES"])


@pytest.mark.slow
def test_trial_of_a_killed_worker_is_given_up_and_run_again(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(storages, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storages, "GRACE_SECONDS", 2)
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    killed = (
        "import os, fisherbo.tuning.storage as s, torch\n"
        "s.HEARTBEAT_SECONDS, s.GRACE_SECONDS = 1, 2\n"
        "from torch import nn\n"
        "from fisherbo.tuning import tune_training\n"
        "generator = torch.Generator().manual_seed(0)\n"
        "x = torch.randn(32, 3, generator=generator)\n"
        "y = x @ torch.tensor([[1.0], [-2.0], [0.5]])\n"
        "calls = []\n"
        "def squared_error(output, target):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 15: os._exit(9)\n"
        "    return 0.5 * (output - target).square().sum() / len(target)\n"
        f"tune_training(lambda: nn.Linear(3, 1), (x, y), loss=squared_error, likelihood='normal',"
        f" optimizer='adam', sampler='random', max_steps=10, storage={url!r}, n_trials=3)\n"
    )
    worker = subprocess.run([sys.executable, "-c", killed], capture_output=True, check=False)
    assert worker.returncode == 9, worker.stderr
    study = optuna.load_study(study_name="tune-adam", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]
    result = tune_training(**quick, storage=url, n_trials=3)
    assert (result.counts.complete, result.counts.running) == (3, 0)


def test_words_and_urls():
    assert sqlite_file(parse_url("runs/a.db")) == Path("runs/a.db")
    assert sqlite_file(parse_url("sqlite://")) is None
    url = parse_url("postgresql://ann:secret@localhost/studies")
    assert url.drivername in ("postgresql+psycopg", "postgresql+psycopg2")
    assert shown(url) == "postgresql://ann:***@localhost/studies"
    assert isinstance(open_storage(None), optuna.storages.InMemoryStorage)


def test_a_malformed_url_is_told_without_its_password():
    with pytest.raises(InvalidInputError, match="is not a database URL") as caught:
        open_storage("nodatabase://ann:sec:ret@host/studies")
    assert "'nodatabase://ann:***@host/studies'" in str(caught.value)


@pytest.mark.parametrize("text", ["nodatabase://x", "://", "mysql+none://host/db"])
def test_malformed_urls(text):
    with pytest.raises(InvalidInputError, match="is not a database URL"):
        open_storage(text)


def test_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("not a database " * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        open_storage(str(path))
    assert path.read_text().startswith("not a database")


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        open_storage(str(tmp_path / "file" / "tune.db"))


def test_postgresql_that_refuses():
    pytest.importorskip("psycopg2")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(StorageError, match=r"refused.*check the URL") as caught:
        open_storage(f"postgresql://ann:secret@127.0.0.1:{port}/studies")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_postgresql_that_is_silent_is_given_up():
    pytest.importorskip("psycopg2")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StorageError, match="timeout"):
            open_storage(f"postgresql://ann@127.0.0.1:{silent.getsockname()[1]}/studies")


def test_files_and_names_of_storages():
    assert storage_file("journal:runs/a.log") == Path("runs/a.log")
    assert storage_file("runs/a.db") == storage_file("sqlite:///runs/a.db") == Path("runs/a.db")
    assert storage_file("grpc://host:13000") is None
    assert storage_name("journal:a.log") == "journal:a.log"
    assert storage_name("postgresql://ann:secret@h/d") == "postgresql://ann:***@h/d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials.log", "has the name of a journal; give journal:trials.log"),
        ("journal:", "must name a file"),
        ("grpc://host", "must be grpc://HOST:PORT"),
        ("grpc://:13000", "must be grpc://HOST:PORT"),
        ("grpc://host:13000/studies", "must be grpc://HOST:PORT"),
        ("grpc://host:port", "must be grpc://HOST:PORT"),
    ],
)
def test_storages_that_are_no_databases(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=message):
        open_storage(text)
    assert list(tmp_path.iterdir()) == []


def test_a_database_whose_driver_is_not_installed(monkeypatch):
    monkeypatch.setattr("fisherbo.tuning.storage.find_spec", lambda name: None)
    for database, package in (("postgresql", "psycopg2-binary"), ("mysql", "pymysql")):
        with pytest.raises(StorageError, match=f"driver of {database}.*install {package}") as e:
            open_storage(f"{database}://ann:secret@host/studies")
        assert "secret" not in str(e.value)


@pytest.mark.slow
def test_a_proxy_that_does_not_answer():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(StorageError, match=f"grpc://127.0.0.1:{port} cannot be used: .*timeout"):
        open_storage(f"grpc://127.0.0.1:{port}")
