"""A progress bar over the steps of a run, with the mean return of the last episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fisherbo.progress import bar
from fisherbo.rl.rollout import Episode

Show = Callable[[int, Sequence[Episode]], None]

_LAST = 20


@contextmanager
def progress_bar(name: str, total: int, *, shown: bool) -> Iterator[Show]:
    """Function that shows steps and episodes."""
    with bar(name, total, "steps", shown=shown) as show:
        yield lambda steps, episodes: show(steps, reached(episodes))


def reached(episodes: Sequence[Episode]) -> str:
    """Mean return of the last episodes, in words."""
    last = [episode.value for episode in episodes[-_LAST:]]
    if not last:
        return "no episode has ended yet"
    return f"mean return {sum(last) / len(last):.1f} of the last {len(last)} episodes"
