"""What the order of categories is worth, where the sampler is told it, and where it is told wrong.

    python -m experiments.categories --data FOLDER --quick    5 tasks, 1 seed
    python -m experiments.categories --data FOLDER --dev      50 development tasks, 2 seeds
    python -m experiments.categories --data FOLDER --write    40 other tasks, 2 seeds: run once

The tuning surfaces are those of `experiments.surfaces`. Each of their integers becomes a category
of at most 8 choices, evenly spaced on its scale, as users write them: ``[16, 32, 64, 128]``.
FisherSampler runs 50 trials, the first 10 at the same points for all, and is told

    unordered    nothing
    ordered      the order, `fisherbo.ordered`
    distances    the matrix of |i − j|
    shuffled     an order drawn at random for each parameter and run: a mistake

Regret is normalised as for the surfaces. A task's mean over its seeds counts once in the tests of
significance, which compare with unordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from rich.console import Console
from rich.table import Table

import fisherbo
from experiments import surfaces
from experiments.harness import rows
from experiments.harness.problems import Problem
from experiments.harness.provenance import not_installed, source_digest
from experiments.harness.statistics import holm, mean_interval, wilcoxon_p
from experiments.harness.traces import Run, optimize
from experiments.options import command_line

Array = NDArray[np.float64]

TRIALS, CHOICES = 50, 8
MARKS = (20, 30, TRIALS)
SCENARIOS = ("lcbench", "rbv2_aknn", "rbv2_rpart", "rbv2_xgboost", "rbv2_ranger")
UNORDERED, ORDERED, DISTANCES, SHUFFLED = ARMS = ("unordered", "ordered", "distances", "shuffled")


@dataclass(frozen=True)
class Cell:
    """One search."""

    arm: str
    task: str
    seed: int

    def key(self) -> str:
        """The code's digest, what is told, the task and the seed."""
        code = source_digest("kinds.py", "space.py", "sampler", "gp", "acquisition", "optimize")
        return f"{code}: {self.arm}, {self.task}, seed {self.seed}, {TRIALS} trials"


def as_category(distribution: BaseDistribution) -> BaseDistribution:
    """An integer as at most 8 choices, evenly spaced on its scale; any other as it is."""
    if not isinstance(distribution, IntDistribution):
        return distribution
    low, high = float(distribution.low), float(distribution.high)
    count = min(CHOICES, round(high - low) + 1)
    spaced = (np.geomspace if distribution.log else np.linspace)(low, high, count)
    return CategoricalDistribution(sorted({round(v) for v in spaced}))


def problem(task: str) -> tuple[Problem, list[str]]:
    """A surface with categories for integers, and the names of these."""
    found = surfaces.problem(task)
    space = {name: as_category(d) for name, d in found.space.items()}
    return replace(found, space=space), [n for n, d in space.items() if d != found.space[n]]


def told(cell: Cell, choices: Sequence[Any], rng: np.random.Generator) -> Any:
    """What the sampler is told of a parameter's choices."""
    if cell.arm == DISTANCES:
        place = np.arange(len(choices))
        return np.abs(place[:, None] - place)
    if cell.arm == SHUFFLED:
        return fisherbo.ordered(*(choices[i] for i in rng.permutation(len(choices))))
    return fisherbo.ordered(*choices) if cell.arm == ORDERED else "unordered"


def work(cell: Cell) -> rows.Row:
    """Losses in order of evaluation, and CPU seconds of the suggestions."""
    made, names = problem(cell.task)
    rng = np.random.default_rng([cell.seed, *cell.task.encode()])
    spaces = {name: made.space[name] for name in names}
    categories = {
        name: told(cell, d.choices, rng)
        for name, d in spaces.items()
        if isinstance(d, CategoricalDistribution)
    }
    sampler = fisherbo.FisherSampler(seed=cell.seed, categories=categories)
    trace = optimize(Run("fisher", cell.task, cell.seed, TRIALS), made, sampler)
    return {"values": trace.values, "cpu_seconds": trace.cpu_seconds}


Found = Mapping[Cell, rows.Row]


def regrets(found: Found, arm: str, mark: int) -> dict[str, Array]:
    """Normalised regrets after so many trials by task, one for each seed."""
    scale = surfaces.regret()
    tasks: dict[str, list[float]] = {}
    for cell, row in found.items():
        if cell.arm == arm:
            best = np.array([min(row["values"][:mark])])
            tasks.setdefault(cell.task, []).append(float(scale(cell.task, best)[0]))
    return {task: np.array(values) for task, values in tasks.items()}


def by_scenario(found: Found) -> Table:
    """Mean regrets after the last trial."""
    table = Table(title=f"Mean normalised regret after {TRIALS} trials")
    table.add_column("scenario")
    for arm in ARMS:
        table.add_column(arm, justify="right")
    at_end = {arm: regrets(found, arm, TRIALS) for arm in ARMS}
    for scenario in SCENARIOS:
        of = {
            a: [v.mean() for t, v in r.items() if t.startswith(scenario)] for a, r in at_end.items()
        }
        if of[UNORDERED]:
            table.add_row(scenario, *(f"{np.mean(of[arm]):.3f}" for arm in ARMS))
    return table


def summary(found: Found) -> Table:
    """Each arm against unordered, over tasks, with p-values of all rows corrected together."""
    cells = [(arm, mark) for arm in ARMS[1:] for mark in MARKS]
    pairs = {c: _paired(found, *c) for c in cells}
    p_values = holm([wilcoxon_p(_means(ours) - _means(base)) for ours, base in pairs.values()])
    table = Table(title="Against unordered, over tasks; p by Wilcoxon and Holm")
    table.add_column("told")
    for head in ("trials", "regret", "unordered", "difference, 95 %", "runs better / worse", "p"):
        table.add_column(head, justify="right")
    for ((arm, mark), (ours, base)), p in zip(pairs.items(), p_values, strict=True):
        mean, low, high = mean_interval(_means(ours) - _means(base))
        each = np.concatenate(ours) - np.concatenate(base)
        table.add_row(
            arm,
            str(mark),
            f"{_means(ours).mean():.3f}",
            f"{_means(base).mean():.3f}",
            f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{(each < 0).mean():.0%} / {(each > 0).mean():.0%}",
            f"{p:.4f}",
        )
    seconds = [f"{a} {1000 * _seconds(found, a) / TRIALS:.1f}" for a in ARMS]
    table.caption = f"CPU ms a suggestion: {', '.join(seconds)}."
    return table


def _paired(found: Found, arm: str, mark: int) -> tuple[list[Array], list[Array]]:
    ours, base = regrets(found, arm, mark), regrets(found, UNORDERED, mark)
    tasks = [t for t in base if t in ours and len(ours[t]) == len(base[t])]
    return [ours[t] for t in tasks], [base[t] for t in tasks]


def _means(of: Sequence[Array]) -> Array:
    return np.array([v.mean() for v in of])


def _seconds(found: Found, arm: str) -> float:
    return float(np.mean([r["cpu_seconds"] for c, r in found.items() if c.arm == arm]))


def tasks_of(suite: Mapping[str, Sequence[str]]) -> list[str]:
    """Of the scenarios with integers."""
    return list(surfaces.names({scenario: suite[scenario] for scenario in SCENARIOS}))


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(
        "categories", __doc__, "data dev write", quick="5 development tasks, 1 seed"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    args = parser.parse_args(argv)
    console = Console(width=130, record=True)
    if missing := not_installed("categories", "onnxruntime"):
        console.print(missing)
        return
    surfaces.require_data(parser, args.data)
    dev = args.dev or args.quick
    tasks = tasks_of(surfaces.DEVELOPMENT if dev else surfaces.FINAL)
    if args.quick:
        tasks = [next(t for t in tasks if t.startswith(s)) for s in SCENARIOS]
    first = 100 if dev else 0
    seeds = range(first, first + (1 if args.quick else args.seeds))
    cells = [Cell(arm, task, seed) for task in tasks for seed in seeds for arm in args.arms]
    found = rows.collect("categories", cells, work)
    console.print(by_scenario(found))
    console.print(summary(found))
    if args.write:
        title = "Ordered, unordered and wrongly ordered categories"
        made_by = rows.command("categories", argv)
        console.print(f"wrote {rows.write(console, 'categories', title, made_by)}")


if __name__ == "__main__":
    main()
