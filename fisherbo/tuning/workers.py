"""Processes that work on the same studies beside this one; the storage is what they share."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE = 10.0  # seconds that a worker is given to end by itself
LAST_PATIENCE = 60.0  # and, once interrupted, to give up its trial on a busy machine


@contextmanager
def beside(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``work(*arguments)`` in ``count`` new processes while the block runs.

    When the block ends, workers that do not end by themselves are interrupted as by Ctrl-C, so that
    they give up their trials in good order, and at last terminated. An interruption that comes
    while a worker starts waits until `work` begins, which then ends without a word.
    """
    context = get_context("spawn")
    processes = [
        context.Process(target=_interruptible, args=(work, *arguments), daemon=True)
        for _ in range(count)
    ]
    if processes:
        with _interrupts_held_back():
            for process in processes:
                process.start()
    try:
        yield
    finally:
        for process in processes:
            _end(process)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Block Ctrl-C in this thread; a process that is started in the block begins with it blocked.

    Does nothing where signals cannot be blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the first start makes it, and unblocks Ctrl-C with that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interruptible(work: Callable[..., None], *arguments: Any) -> None:
    """Do the work, from where Ctrl-C is heard again; it ends the work quietly."""
    with contextlib.suppress(KeyboardInterrupt):
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        work(*arguments)


def _end(process: BaseProcess) -> None:
    process.join(PATIENCE)
    if process.exitcode is None and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(LAST_PATIENCE)
    if process.exitcode is None:
        process.terminate()
        process.join()
