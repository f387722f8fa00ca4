"""A progress bar on standard error over so many units of work, with a few words beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

Show = Callable[[int, str], None]
"""Shows how much is done, and words."""


@contextmanager
def bar(name: str, total: int, unit: str, *, shown: bool) -> Iterator[Show]:
    """Function that shows progress: a bar on a terminal, elsewhere a line at each tenth."""
    if not shown:
        yield lambda done, words: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, name, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[words]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    # One refresh a second: the bar's thread is of the process whose CPU seconds are measured.
    with Progress(*columns, console=console, refresh_per_second=1, expand=True) as progress:
        task = progress.add_task(name, total=total, words="")
        yield lambda done, words: progress.update(
            task, completed=min(done, total), words=words, refresh=True
        )


def _lines(console: Console, name: str, total: int, unit: str) -> Show:
    said: set[int] = set()

    def show(done: int, words: str) -> None:
        tenth = min(10 * done // total, 10)
        if tenth not in said:
            said.add(tenth)
            line = f"{name}: {done} of {total} {unit}, {words}"
            console.print(line, highlight=False, soft_wrap=True)

    return show
