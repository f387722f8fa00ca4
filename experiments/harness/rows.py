"""Results that are not traces: a JSON row for each cell of an experiment, never made twice.

A cell's key names all that determines its row: versions, problem, seed, effort. Rows lie in
runs/NAME.jsonl, a report's last table in experiments/results/NAME.md.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.harness.provenance import stamp

RUNS = Path("runs")
REPORTS = Path(__file__).parents[1] / "results"

Row = dict[str, Any]


class Cell(Protocol):
    """One unit of work; frozen, so that it can be a key of a dict."""

    def key(self) -> str:
        """Text that tells this cell from every other."""


C = TypeVar("C", bound=Cell)
Made = Iterator[tuple[C, Row | Exception]]


def load(path: Path) -> dict[str, Row]:
    """Rows kept so far, by key."""
    return parsed(path.read_text().splitlines() if path.exists() else [])


def parsed(lines: Sequence[str]) -> dict[str, Row]:
    """Rows by key; a line cut short by an interruption is passed over."""
    rows: dict[str, Row] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row.pop("key")] = row
    return rows


def append(path: Path, key: str, row: Row) -> None:
    """Add one row by a single write, so that several processes may share the file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps({"key": key, **row}) + "\n").encode())
    finally:
        os.close(file)


def collect(
    name: str,
    cells: Sequence[C],
    work: Callable[[C], Row],
    *,
    workers: int = 1,
    own_process: bool = False,
    again: bool = False,
) -> dict[C, Row]:
    """Rows of the cells, the missing ones made and appended to runs/NAME.jsonl as they end.

    A cell that fails is reported by a line, and is left out of what is returned.

    Args:
        name: Of the experiment.
        cells: What to make, in this order.
        work: A cell to its row.
        workers: Processes that work; with 1, this process does all, one cell after the other.
        own_process: Whether every cell is made in a fresh process, as peak memory demands.
        again: Whether rows that are kept are made anew.
    """
    path = RUNS / f"{name}.jsonl"
    kept = {} if again else load(path)
    if workers == 1 and not own_process:
        return complete(path, cells, kept, lambda todo: _here(todo, work))
    return complete(path, cells, kept, lambda todo: pooled(todo, work, workers, own_process))


def complete(
    path: Path, cells: Sequence[C], kept: dict[str, Row], make: Callable[[Sequence[C]], Made[C]]
) -> dict[C, Row]:
    """Rows of the cells: those kept, and the missing ones, appended to ``path`` as they end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    todo = [cell for cell in cells if cell.key() not in kept]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(path.stem, total=len(cells), completed=len(cells) - len(todo))
        for cell, made in make(todo):
            if isinstance(made, Exception):
                progress.console.print(f"failed: {cell.key()}: {made!r}", highlight=False)
            else:
                append(path, cell.key(), made)
                kept[cell.key()] = made
            progress.advance(task)
    return {cell: kept[cell.key()] for cell in cells if cell.key() in kept}


def _here(cells: Sequence[C], work: Callable[[C], Row]) -> Made[C]:
    for cell in cells:
        try:
            yield cell, work(cell)
        except Exception as error:
            yield cell, error


def pooled(
    cells: Sequence[C], work: Callable[[C], Row], workers: int, own_process: bool = False
) -> Made[C]:
    """Cells with their rows, or errors, as worker processes end them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),  # every worker imports afresh, with one thread each
        initializer=hush,
        max_tasks_per_child=1 if own_process else None,
    ) as pool:
        futures = {pool.submit(work, cell): cell for cell in cells}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield futures[future], error or future.result()


def hush() -> None:
    """Peers' warnings would tear the progress bar."""
    warnings.simplefilter("ignore")


def command(name: str, argv: Sequence[str] | None) -> str:
    """The command line of experiments.NAME with these arguments, or the process's own if None."""
    given = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "-m", f"experiments.{name}", *given])


def write(console: Console, name: str, title: str, made_by: str) -> Path:
    """What a recording console printed, with a stamp, as experiments/results/NAME.md."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{name}.md"
    text = console.export_text(styles=False)
    path.write_text(f"# {title}\n\n{made_by}\n\n{stamp()}\n\n```text\n{text}```\n")
    return path
