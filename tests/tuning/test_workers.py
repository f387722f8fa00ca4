"""Processes beside this one: they end together with it, and without a word."""

import importlib
import os
import signal
import time

from fisherbo.tuning import workers

SLOW_TO_START = """
import os, signal, time
from pathlib import Path

if os.getpid() != {test}:  # the worker, which imports this first
    Path(__file__).with_name("importing").touch()
    while signal.SIGINT not in signal.sigpending():
        time.sleep(0.01)

def work():
    time.sleep(3600)
"""


def test_a_worker_that_is_interrupted_while_it_starts_ends_quietly(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(workers, "PATIENCE", 0.0)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_start.py").write_text(SLOW_TO_START.replace("{test}", str(os.getpid())))
    work = importlib.import_module("slow_to_start").work
    with workers.beside(1, work):
        while not (tmp_path / "importing").exists():
            time.sleep(0.01)
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_is_heard_in_the_block_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with workers.beside(1, time.sleep, 0):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
