"""Processes that work on the same studies beside this one; the storage is what they share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE = 10.0  # seconds that a worker is given to end by itself


@contextmanager
def beside(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``work(*arguments)`` in ``count`` new processes while the block runs.

    When the block ends, workers that do not end by themselves are interrupted as by Ctrl-C, so that
    they give up their trials in good order, and at last terminated.
    """
    context = get_context("spawn")
    processes = [context.Process(target=work, args=arguments, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            _end(process)


def _end(process: BaseProcess) -> None:
    process.join(PATIENCE)
    if process.exitcode is None and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(PATIENCE)
    if process.exitcode is None:
        process.terminate()
        process.join()
