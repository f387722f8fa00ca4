"""When a training run ends, and the clock that it is measured by."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from fisherbo.errors import InvalidInputError

Stopped = Literal["target", "steps", "seconds", "patience"]


@dataclass(frozen=True)
class Limits:
    """What ends a run; see `fisherbo.training.fit`.

    Raises:
        InvalidInputError: If a limit is not positive, or the target is not finite.
    """

    max_steps: int
    max_seconds: float
    target: float | None
    patience: int | None

    def __post_init__(self) -> None:
        check_counts(max_steps=(self.max_steps, 100), patience=(self.patience, 10))
        if not self.max_seconds > 0:
            raise InvalidInputError(
                f"max_seconds must be > 0, got {self.max_seconds!r}; leave it out for no limit"
            )
        if self.target is not None and not math.isfinite(self.target):
            raise InvalidInputError(
                f"target must be finite, got {self.target!r}; leave it out for no target"
            )

    def reached(self, step: int, seconds: float) -> Stopped | None:
        """Which limit ends a run after so many steps and seconds, if one does."""
        if step >= self.max_steps:
            return "steps"
        return "seconds" if seconds >= self.max_seconds else None


def check_counts(**counts: tuple[int | None, int]) -> None:
    """Check whole numbers by name, each with a typical one.

    Raises:
        InvalidInputError: If one is less than 1.
    """
    for name, (value, typical) in counts.items():
        if value is not None and value < 1:
            raise InvalidInputError(f"{name} must be >= 1, got {value!r}; typical is {typical}")


class Stopwatch:
    """CPU seconds of the process since it was made, without the pauses.

    Args:
        elapsed: Seconds that it begins with.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self._start = time.process_time() - elapsed

    def seconds(self) -> float:
        """What it shows."""
        return time.process_time() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block is not counted."""
        begin = time.process_time()
        try:
            yield
        finally:
            self._start += time.process_time() - begin
