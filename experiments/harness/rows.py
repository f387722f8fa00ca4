"""Results that are not traces: a JSON row for each cell of an experiment, never made twice.

A cell's key names all that determines its row: versions, problem, seed, effort. Rows lie in
runs/NAME.jsonl, a report's last table in experiments/results/NAME.md.
"""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from experiments.harness.provenance import stamp

RUNS = Path("runs")
REPORTS = Path(__file__).parents[1] / "results"

Row = dict[str, Any]


class Cell(Protocol):
    """One unit of work; frozen, so that it can be a key of a dict."""

    def key(self) -> str:
        """Text that tells this cell from every other."""


C = TypeVar("C", bound=Cell)


def load(path: Path) -> dict[str, Row]:
    """Rows kept so far, by key."""
    return parsed(path.read_text().splitlines() if path.exists() else [])


def parsed(lines: Sequence[str]) -> dict[str, Row]:
    """Rows by key; a line cut short by an interruption is passed over."""
    rows: dict[str, Row] = {}
    for line in lines:
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            rows[row.pop("key")] = row
    return rows


def append(path: Path, key: str, row: Row) -> None:
    """Add one row by a single write, so that several processes may share the file."""
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps({"key": key, **row}) + "\n").encode())


def collect(
    name: str,
    cells: Sequence[C],
    work: Callable[[C], Row],
    *,
    workers: int = 1,
    own_process: bool = False,
    again: bool = False,
    shipped: Mapping[str, Row] | None = None,
) -> dict[C, Row]:
    """Rows of the cells, the missing ones made and appended to runs/NAME.jsonl as they end.

    A cell that fails is reported by a line, and is left out of what is returned. With one worker
    this process makes all cells, unless every cell must have a fresh one, as peak memory demands.
    ``again`` makes rows anew that are kept; ``shipped`` are rows known beside those.
    """
    path = RUNS / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {**(shipped or {}), **({} if again else load(path))}
    todo = [cell for cell in cells if cell.key() not in found]
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress:
        task = progress.add_task(name, total=len(cells), completed=len(cells) - len(todo))
        for cell, made in _made(todo, work, workers, own_process):
            if isinstance(made, BaseException):
                progress.console.print(f"failed: {cell.key()}: {made!r}", highlight=False)
            else:
                append(path, cell.key(), made)
                found[cell.key()] = made
            progress.advance(task)
    return {cell: found[cell.key()] for cell in cells if cell.key() in found}


def _made(
    cells: Sequence[C], work: Callable[[C], Row], workers: int, own_process: bool
) -> Iterator[tuple[C, Row | BaseException]]:
    """Cells with their rows, or errors, as they end."""
    if workers == 1 and not own_process:
        for cell in cells:
            try:
                yield cell, work(cell)
            except Exception as error:
                yield cell, error
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),  # every worker imports afresh, with one thread each
        initializer=warnings.simplefilter,
        initargs=("ignore",),  # peers' warnings would tear the progress bar
        max_tasks_per_child=1 if own_process else None,
    ) as pool:
        futures = {pool.submit(work, cell): cell for cell in cells}
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()


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
