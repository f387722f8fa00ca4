"""A progress bar over the steps of a run, with the mean return of the last episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fisherbo.rl.rollout import Episode

Show = Callable[[int, Sequence[Episode]], None]

_LAST = 20


@contextmanager
def progress_bar(name: str, total: int, *, shown: bool) -> Iterator[Show]:
    """Function that shows steps and episodes; a bar on a terminal, elsewhere ten lines."""
    if not shown:
        yield lambda steps, episodes: None
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
        TextColumn("{task.fields[reached]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=1) as bar:
        task = bar.add_task(name, total=total, reached="")
        yield lambda steps, episodes: bar.update(
            task, completed=min(steps, total), reached=reached(episodes), refresh=True
        )


def reached(episodes: Sequence[Episode]) -> str:
    """Mean return of the last episodes, in words."""
    last = [episode.value for episode in episodes[-_LAST:]]
    if not last:
        return "no episode has ended yet"
    return f"mean return {sum(last) / len(last):.1f} of the last {len(last)} episodes"


def _lines(console: Console, name: str, total: int) -> Show:
    said: set[int] = set()

    def show(steps: int, episodes: Sequence[Episode]) -> None:
        tenth = min(10 * steps // total, 10)
        if tenth not in said:
            said.add(tenth)
            line = f"{name}: {steps} of {total} steps, {reached(episodes)}"
            console.print(line, highlight=False, soft_wrap=True)

    return show
