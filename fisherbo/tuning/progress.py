"""A progress bar over the trials of a study, with the best value so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fisherbo.tuning.result import TuningResult

Update = Callable[[TuningResult], None]


@contextmanager
def progress_bar(name: str, total: int, *, shown: bool) -> Iterator[Update]:
    """Function that shows a study's state; on a terminal a bar, elsewhere a line now and then."""
    if not shown:
        yield lambda result: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, name, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
    )
    # One refresh a second: the bar's thread is of the process whose CPU seconds are measured.
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        task = progress.add_task(name, total=total, best="")
        yield lambda result: progress.update(
            task, completed=result.counts.done, best=best_so_far(result), refresh=True
        )


def best_so_far(result: TuningResult) -> str:
    """The best run in a few words."""
    if result.steps_to_target is not None:
        return (
            f"best: {result.steps_to_target} steps, {result.cpu_seconds_to_target:.1f} CPU s "
            f"to {result.metric} {result.target:g}"
        )
    if result.best_loss is not None:
        return f"best: {result.metric} {result.best_loss:.4g}"
    return "no complete trial yet"


def _lines(console: Console, name: str, total: int) -> Update:
    """One line at the start, at each tenth of the trials and at the end."""
    said: set[int] = set()

    def update(result: TuningResult) -> None:
        tenth = 10 * result.counts.done // total
        if tenth not in said:
            said.add(tenth)
            line = f"{name}: {result.counts.done} of {total} trials, {best_so_far(result)}"
            console.print(line, highlight=False, soft_wrap=True)

    return update
