"""How well the sampler lives with what studies are like: conditions, failures, workers, the past.

    python -m experiments.citizen --quick    8 seeds, 1 BBOB function of 5, under 5 minutes
    python -m experiments.citizen --write    10 seeds, 5 BBOB functions

FisherSampler and GPSampler on the same task with the same seeds:

    conditional   one of two models, each with parameters of its own
    failures      a third of the space fails; every fourth trial is pruned after its first report
    fixed         one of four parameters is enqueued with every second trial
    workers       eight trials asked before any is told
    transfer      30 trials of a shifted task before; Fisher learns from them, "gp" knows nothing;
                  three lines more compare with Fisher that knows nothing either, and three with
                  Fisher that learned from the study of an unrelated task

Losses are log10 of the regret; 0.5 is a factor of three. The gain is GPSampler's less Fisher's. p:
Wilcoxon over the seeds; 95 %: bootstrap of the mean. Below, on BBOB in 5-D: log10 regret with eight
trials asked before each tell, against one by one (needs ``coco-experiment``). Rows are kept in
runs/citizen.jsonl; --again makes them anew.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from experiments.harness import rows, statistics
from experiments.harness.peers import make_sampler, sampler_version
from experiments.options import command_line

Array = NDArray[np.float64]
Objective = Callable[[optuna.Trial], float]

SAMPLERS = ("fisher", "gp")
SOLVED = 1e-6
WORKERS = 8
SCRATCH = "scratch"  # the task of transfer, without an earlier study ...
UNRELATED = "unrelated"  # ... and with one of another task
BBOB = (2, 8, 10, 15, 21)


@dataclass(frozen=True)
class Cell:
    sampler: str
    task: str
    seed: int
    budget: int
    workers: int = 1

    def key(self) -> str:
        """Names the versions and all settings."""
        who = f"{self.sampler}@{sampler_version(self.sampler)}"
        return f"{who}/{self.task}/{self.seed}/{self.budget}/{self.workers}"


# Tasks: an objective of a seed whose minimum is 0


def bowl(seed: int, shift: float = 0.0) -> Objective:
    rng = np.random.default_rng(seed)
    centre, scale = rng.uniform(0.2, 0.8, 4) + shift, 10 ** rng.uniform(-0.5, 0.5, 4)

    def objective(trial: optuna.Trial) -> float:
        x = np.array([trial.suggest_float(f"x{j}", 0, 1) for j in range(4)])
        waves = 0.1 * (1 - np.cos(3 * np.pi * (x - centre))).sum()
        return float(scale @ (x - centre) ** 2 + waves)

    return objective


def conditional(seed: int) -> Objective:
    rng = np.random.default_rng(seed)
    a, b, c, d = rng.uniform(0.2, 0.8, 4)

    def objective(trial: optuna.Trial) -> float:
        shared = (trial.suggest_float("shared", 0, 1) - a) ** 2
        if trial.suggest_categorical("model", ["tree", "net"]) == "tree":
            return float(0.3 + shared + (trial.suggest_float("depth", 0, 1) - b) ** 2)
        rate = np.log10(trial.suggest_float("rate", 1e-4, 1.0, log=True)) / -4
        width = trial.suggest_float("width", 0, 1)
        return float(shared + (rate - c) ** 2 * 4 + (width - d) ** 2)

    return objective


def failures(seed: int) -> Objective:
    inner = bowl(seed)

    def objective(trial: optuna.Trial) -> float:
        value = inner(trial)
        if trial.params["x0"] + trial.params["x1"] > 1.4:
            return float("nan")
        trial.report(value + 0.1, 0)
        if trial.number % 4 == 3:
            raise optuna.TrialPruned
        return value

    return objective


TASKS: Mapping[str, Callable[[int], Objective]] = {
    "conditional": conditional,
    "failures": failures,
    "fixed": bowl,
    "workers": bowl,
    "transfer": bowl,
}


def task_of(cell: Cell) -> Objective:
    """The objective of a cell: ours, or a BBOB function by its name."""
    if cell.task in (*TASKS, SCRATCH, UNRELATED):
        return TASKS.get(cell.task, bowl)(cell.seed)
    from experiments import bbob

    problem = bbob.problem(cell.task)
    return lambda trial: problem.loss(problem.suggest(trial))


def sampler_of(cell: Cell) -> optuna.samplers.BaseSampler:
    """The sampler of a cell, which has learned from an earlier study where it can."""
    if cell.task not in ("transfer", UNRELATED) or cell.sampler != "fisher":
        return make_sampler(cell.sampler, cell.seed)
    from fisherbo import FisherSampler

    source = optuna.create_study(sampler=FisherSampler(seed=cell.seed + 1000))
    related = bowl(cell.seed, shift=0.05)
    source.optimize(bowl(cell.seed + 500) if cell.task == UNRELATED else related, n_trials=30)
    return FisherSampler(seed=cell.seed, source_studies=[source])


def work(cell: Cell) -> rows.Row:
    """The best value after each trial of one study, in the order in which they were asked."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    objective, study = task_of(cell), optuna.create_study(sampler=sampler_of(cell))
    held = np.random.default_rng(cell.seed).uniform(0.2, 0.8)
    values: list[float] = []
    for start in range(0, cell.budget, cell.workers):
        count = min(cell.workers, cell.budget - start)
        if cell.task == "fixed" and start % 2:
            study.enqueue_trial({"x0": held})
        asked = [study.ask() for _ in range(count)]
        ended = [evaluate(objective, trial) for trial in asked]
        for trial, (value, state) in zip(asked, ended, strict=True):
            study.tell(trial, value, state=state)
            values.append(np.inf if value is None else value)
    return {"best": np.minimum.accumulate(values).tolist()}


def evaluate(
    objective: Objective, trial: optuna.Trial
) -> tuple[float | None, optuna.trial.TrialState | None]:
    try:
        value = objective(trial)
    except optuna.TrialPruned:
        return None, optuna.trial.TrialState.PRUNED
    return (None, optuna.trial.TrialState.FAIL) if np.isnan(value) else (value, None)


def loss(row: rows.Row, mark: int = 0) -> float:
    """log10 of the regret after ``mark`` trials, 0 for all."""
    return float(np.log10(max(row["best"][mark - 1], SOLVED)))


def gain_row(better: Sequence[float], worse: Sequence[float]) -> tuple[str, ...]:
    """Mean losses, gain, its interval, wins and p of paired losses."""
    a, b = np.array(better), np.array(worse)
    gain = b - a
    _, low, high = statistics.mean_interval(gain)
    wins = np.mean(gain > 0) + 0.5 * np.mean(gain == 0)
    return (
        *(str(len(gain)), f"{a.mean():.2f}", f"{b.mean():.2f}", f"{gain.mean():+.2f}"),
        *(f"[{low:+.2f}, {high:+.2f}]", f"{wins:.0%}", f"{statistics.wilcoxon_p(gain):.3f}"),
    )


def table_of(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for name in ("pairs", "fisher", "other", "gain", "95 %", "fisher wins", "p"):
        table.add_column(name, justify="right")
    return table


def report(found: Mapping[Cell, rows.Row]) -> Table:
    table = table_of("log10 regret at the end, fisher and GPSampler", "task")
    for task in TASKS:
        mine = [c for c in found if c.task == task and c.sampler == "fisher"]
        pairs = [(c, Cell("gp", c.task, c.seed, c.budget, c.workers)) for c in mine]
        pairs = [(a, b) for a, b in pairs if b in found]
        if pairs:
            ours, theirs = ([loss(found[p[k]]) for p in pairs] for k in (0, 1))
            table.add_row(f"{task} ({pairs[0][0].budget})", *gain_row(ours, theirs))
    for task in ("transfer", UNRELATED):
        taught = [c for c in found if (c.sampler, c.task) == ("fisher", task)]
        plain = [Cell("fisher", SCRATCH, c.seed, c.budget) for c in taught]
        if taught and all(c in found for c in plain):
            for mark in (5, 10, taught[0].budget):
                ours, theirs = ([loss(found[c], mark) for c in cells] for cells in (taught, plain))
                table.add_row(f"{task} ({mark}), fisher without", *gain_row(ours, theirs))
    return table


def workers_report(found: Mapping[Cell, rows.Row]) -> Table:
    table = table_of(f"BBOB 5-D, log10 regret with {WORKERS} workers", "fisher against")
    mine = [
        c for c in found if c.task not in {*TASKS, SCRATCH, UNRELATED} and c.sampler == "fisher"
    ]
    parallel = [c for c in mine if c.workers > 1]
    rivals: dict[str, Callable[[Cell], Cell]] = {
        "GPSampler, as many workers": lambda c: Cell("gp", c.task, c.seed, c.budget, c.workers),
        "itself, one by one": lambda c: Cell("fisher", c.task, c.seed, c.budget),
    }
    for name, rival in rivals.items():
        pairs = [(c, rival(c)) for c in parallel if rival(c) in found]
        if pairs:
            losses = [[loss(found[p[k]]) for p in pairs] for k in (0, 1)]
            table.add_row(name, *gain_row(*losses))
    return table


def cells_of(args: argparse.Namespace) -> list[Cell]:
    cells = [
        Cell(s, task, seed, args.budget, WORKERS if task == "workers" else 1)
        for task in TASKS
        for seed in range(args.seeds)
        for s in args.samplers
    ]
    cells += [
        Cell("fisher", task, seed, args.budget)
        for task in (SCRATCH, UNRELATED)
        for seed in range(args.seeds)
    ]
    if find_spec("cocoex") is None:
        return cells
    from experiments.bbob import problem_name

    chosen: list[tuple[str, int]] = [("fisher", WORKERS), ("fisher", 1)]
    chosen += [(s, WORKERS) for s in args.samplers if s != "fisher"]
    return cells + [
        Cell(s, problem_name(f, 3, 5), seed, args.evaluations, workers)
        for f in args.functions
        for seed in range(min(args.seeds, 3))
        for s, workers in chosen
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("citizen", __doc__, "workers again write", quick="under 5 minutes")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--functions", type=int, nargs="*", default=list(BBOB))
    parser.add_argument("--evaluations", type=int, default=100, help="of each BBOB study")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.budget, args.functions, args.evaluations = 8, 24, [8], 48
    cells = cells_of(args)
    found: dict[Cell, Any] = rows.collect(
        "citizen", cells, work, workers=args.workers, again=args.again
    )
    console = Console(width=140, record=True)
    console.print(report(found))
    if find_spec("cocoex") is None:
        console.print("bbob: not installed; pip install -c constraints.txt coco-experiment")
    else:
        console.print(workers_report(found))
    if args.write:
        made_by = f"Made by `{rows.command('citizen', argv)}`"
        rows.write(console, "citizen", "What studies are like", made_by)


if __name__ == "__main__":
    main()
