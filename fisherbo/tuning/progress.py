"""A progress bar over the trials of a study, with the best value so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fisherbo.progress import bar
from fisherbo.tuning.result import TuningResult

Update = Callable[[TuningResult], None]


@contextmanager
def progress_bar(name: str, total: int, *, shown: bool) -> Iterator[Update]:
    """Function that shows a study's state."""
    with bar(name, total, "trials", shown=shown) as show:
        yield lambda result: show(result.counts.done, best_so_far(result))


def best_so_far(result: TuningResult) -> str:
    """The best run in a few words."""
    if result.steps_to_target is not None:
        return (
            f"best: {result.steps_to_target} steps, {result.cpu_seconds_to_target:.1f} CPU s "
            f"to {result.metric} {result.target:g}"
        )
    loss = result.final_loss if result.target is None else result.best_loss
    if loss is not None:
        return f"best: {loss:.4g} {result.metric}"
    return "no complete trial yet"
