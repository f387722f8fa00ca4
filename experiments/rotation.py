"""What rotated axes of the kernel are worth: FisherSampler with and without, on the same runs.

    python -m experiments.rotation --quick      functions 10 and 11 in 5-D, some two minutes
    python -m experiments.rotation --write      half an hour on one core
    python -m experiments.rotation --groups tables mixint

Only pairs that methods are tuned on: instances 3 and 4 of BBOB. "ill-conditioned" are functions 10,
11, 13 and 14, whose valleys run along no parameter, with eight seeds; "others" the other twenty,
with one seed. The two runs of a pair have the same seed and first points, and are the same until a
rotation is kept. Rows are kept in runs/rotation.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from experiments import bbob, tables
from experiments.harness import rows, statistics
from experiments.harness.comparison import by_group, clipped, log10_regret
from experiments.harness.peers import sampler_version
from experiments.harness.problems import Problem
from experiments.harness.traces import Run, optimize
from experiments.options import command_line
from fisherbo import FisherSampler

Array = NDArray[np.float64]
MARKS = (25, 50, 100)
BUDGET = 100
ILL_CONDITIONED = (10, 11, 13, 14)
OTHERS = tuple(f for f in bbob.FUNCTIONS if f not in ILL_CONDITIONED)


@dataclass(frozen=True)
class Cell:
    group: str
    problem: str
    seed: int
    rotation: bool
    budget: int

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"fisher@{sampler_version('fisher')}:rotation={self.rotation}"
        return f"{who}/{self.group}/{self.problem}/{self.seed}/{self.budget}"


def names(dimension: int, functions: Sequence[int], *, mixint: bool = False) -> list[str]:
    """Development instances."""
    return [bbob.problem_name(f, i, dimension, mixint=mixint) for f in functions for i in (3, 4)]


GROUPS: Mapping[str, tuple[Sequence[str], Sequence[int]]] = {
    "ill-conditioned 5-D": (names(5, ILL_CONDITIONED), range(8)),
    "ill-conditioned 10-D": (names(10, ILL_CONDITIONED), range(8)),
    "others 5-D": (names(5, OTHERS), (0,)),
    "others 10-D": (names(10, OTHERS), (0,)),
    "mixint": (names(5, bbob.FUNCTIONS, mixint=True), (0,)),
    "tables": (tables.NAMES, (100,)),
}
"""Problems and seeds."""


def problem_of(cell: Cell) -> Problem:
    return (tables if cell.group == "tables" else bbob).problem(cell.problem)


def work(cell: Cell) -> rows.Row:
    """The best value after each trial of one study, and the CPU seconds of a suggestion."""
    run = Run("fisher", cell.problem, cell.seed, cell.budget)
    sampler = FisherSampler(seed=cell.seed, rotation=cell.rotation)
    trace = optimize(run, problem_of(cell), sampler)
    best = np.minimum.accumulate(trace.values).tolist()
    return {"best": best, "cpu": trace.cpu_seconds / cell.budget}


def report(found: Mapping[Cell, rows.Row]) -> Table:
    """A line for each group, and for each of the ill-conditioned functions."""
    table = Table(title="Loss without rotation, and with it (log10 regret; normalised on tables)")
    budget = max(cell.budget for cell in found)
    marks = [*(m for m in MARKS if m < budget), budget]
    table.add_column("suite")
    heads = ("runs", *(f"at {m}" for m in marks), "better", "worse", "alike")
    for name in (*heads, "p sign", "p runs", "p problems", "CPU ratio"):
        table.add_column(name, justify="right")
    for group, (problems, _) in GROUPS.items():
        functions = sorted({name.split("_i")[0] for name in problems})
        parts = functions if group.startswith("ill") else []
        for part in (*parts, ""):
            mine = [
                cell
                for cell in found
                if cell.group == group
                and not cell.rotation
                and cell.problem.startswith(part)
                and replace(cell, rotation=True) in found
            ]
            if mine:
                name = part or (f"{group}, all" if parts else group)
                table.add_row(name, *line(mine, found, marks), end_section=not part)
    table.caption = (
        "better, worse, alike: runs by the last loss with rotation. p: of those that differ by a "
        "two-sided sign test; Wilcoxon on runs; Wilcoxon on the problems' means."
    )
    return table


def line(mine: Sequence[Cell], found: Mapping[Cell, rows.Row], marks: Sequence[int]) -> list[str]:
    scale = clipped if mine[0].group == "tables" else log10_regret
    pairs = [(cell, replace(cell, rotation=True)) for cell in mine]
    losses = np.array(
        [[scale(c.problem, np.array(found[c]["best"])) for c in pair] for pair in pairs]
    )[..., [m - 1 for m in marks]]
    gain = losses[:, 0, -1] - losses[:, 1, -1]
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    means = by_group([(c.problem, c.seed) for c in mine], gain)
    cpu = [sum(found[pair[k]]["cpu"] for pair in pairs) for k in (0, 1)]
    differ = better + worse
    sign = binomtest(better, differ).pvalue if differ else 1.0
    return [
        str(len(mine)),
        *(f"{a:.3f}, {b:.3f}" for a, b in losses.mean(0).T),
        *(str(count) for count in (better, worse, len(mine) - differ)),
        *(f"{p:.1e}" for p in (sign, statistics.wilcoxon_p(gain), statistics.wilcoxon_p(means))),
        f"{cpu[1] / cpu[0]:.2f}",
    ]


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Pair by pair, so that a part of them is a fair comparison too."""
    chosen = {group: GROUPS[group] for group in args.groups}
    if args.quick:
        chosen = {"ill-conditioned 5-D": (names(5, ILL_CONDITIONED[:2]), range(4))}
    return [
        Cell(group, problem, seed, rotation, args.budget)
        for group, (problems, seeds) in chosen.items()
        for seed in list(seeds)[: args.seeds]
        for problem in problems
        for rotation in (False, True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("rotation", __doc__, "workers again write", quick="some two minutes")
    parser.set_defaults(workers=1)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--seeds", type=int, help="at most so many")
    parser.add_argument("--budget", type=int, default=BUDGET)
    args = parser.parse_args(argv)
    cells = cells_of(args)
    found = rows.collect("rotation", cells, work, workers=args.workers, again=args.again)
    console = Console(width=160, record=True)
    console.print(report(found))
    if args.write:
        made_by = (
            f"Made by `{rows.command('rotation', argv)}` at source digest "
            f"{sampler_version('fisher')}, on the pairs that methods are tuned on."
        )
        rows.write(console, "rotation", "What rotated axes of the kernel are worth", made_by)


if __name__ == "__main__":
    main()
