"""Ctrl-C at safe points: a signal may arrive in the middle of a write to the storage.

A `KeyboardInterrupt` raised anywhere can be swallowed by a callback or leave a trial half told. So
the first Ctrl-C is only noted, and raised at the next `check`; a second one acts at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_noted = threading.Event()


@contextmanager
def deferred() -> Iterator[None]:
    """Hold back the first Ctrl-C until `check`, or until the block ends; the handler is set back.

    Does nothing outside the main thread, nested, or where Ctrl-C is ignored or handled otherwise.
    """
    ours_to_set = threading.current_thread() is threading.main_thread()
    if not ours_to_set or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        _noted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield
        check()
    finally:
        _noted.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise the `KeyboardInterrupt` that was held back, if there is one."""
    if _noted.is_set():
        _noted.clear()
        raise KeyboardInterrupt
