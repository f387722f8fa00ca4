"""Processes beside this one: they end together with it, and without a word."""

import signal
import time
from pathlib import Path

from fisherbo.tuning import workers


def test_a_worker_that_is_interrupted_while_it_starts_ends_quietly(monkeypatch, capfd):
    monkeypatch.setattr(workers, "PATIENCE", 0.0)
    with workers.beside(1, time.sleep, 3600):
        pass  # it is interrupted before it has imported anything
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_ends_by_itself_is_waited_for(tmp_path):
    with workers.beside(2, Path.mkdir, tmp_path / "made", 0o777, False, True):
        pass
    assert (tmp_path / "made").is_dir()


def test_ctrl_c_is_heard_in_the_block_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with workers.beside(1, time.sleep, 0):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
