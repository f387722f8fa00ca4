"""What each part of the sampler is worth: the same studies with one part taken out at a time.

    python -m experiments.ablation --quick      8 BBOB functions, 40 evaluations, under 5 minutes
    python -m experiments.ablation --write      the development pairs of five suites
    python -m experiments.ablation --suites tables --variants no-warp no-plateaus

The pairs are those that methods are tuned on, never those of the comparison with other samplers.
Losses are log10 of the regret on BBOB, normalised regret on tables and real training. p: Wilcoxon
on the problems' means, corrected by Holm over the variants of a suite. Rows are kept in
runs/ablation.jsonl; --again makes them anew. Without BBOB, --write writes a file of the suites'
names. Surfaces need the folder that `experiments.surfaces` reads, given by the variable YAHPO_DATA.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from experiments import bbob, hpo, surfaces, tables
from experiments.harness import rows, statistics
from experiments.harness.comparison import Pair, Suite, by_group, clipped, log10_regret, win_share
from experiments.harness.peers import sampler_version
from experiments.harness.problems import Problem
from experiments.harness.traces import Run, optimize
from experiments.options import command_line
from fisherbo import FisherSampler
from fisherbo.acquisition.propose import Effort
from fisherbo.gp.fisher import score_metric
from fisherbo.gp.model import PRIOR_MEAN
from fisherbo.sampler.options import AlgorithmOptions

Array = NDArray[np.float64]
FULL = "full"
MARKS = (25, 50, 100)
LEAST_PAIRS = 200  # of a suite, if its runs are short
QUICK_FUNCTIONS = (1, 6, 8, 10, 13, 15, 20, 22)


VARIANTS: Mapping[str, AlgorithmOptions] = {
    "no-warp": AlgorithmOptions(half_rank=False),
    "prior-mean-0": AlgorithmOptions(prior_mean=0.0),
    "prior-mean-low": AlgorithmOptions(prior_mean=PRIOR_MEAN),
    "no-quadratic": AlgorithmOptions(quadratic_from=math.inf),
    "no-plateaus": AlgorithmOptions(plateaus=False),
    "no-stalls": AlgorithmOptions(stalls=False),
    "no-margin": AlgorithmOptions(margin=0.0),
    "no-ascent": AlgorithmOptions(effort=Effort(steps=0)),
    "no-search": AlgorithmOptions(effort=Effort(generations=1, count=1, neighboured=0)),
    "no-neighbours": AlgorithmOptions(effort=Effort(neighboured=0)),
    "score-metric": AlgorithmOptions(metric=score_metric),
    "fit-each-trial": AlgorithmOptions(refit_after=1),
    "fit-every-tenth": AlgorithmOptions(refit_after=10),
}
DISCRETE = ("no-search", "no-neighbours")
"""Variants that differ in spaces with discrete parameters only."""

TRAINING = ("no-plateaus",)
"""Variants that differ where values are equal."""

TUNING = ("prior-mean-low", "no-margin")
"""Variants that differ in spaces with logarithmic or categorical parameters only."""

CONTINUOUS = ("no-quadratic",)
"""Variants that differ in spaces without discrete parameters only."""


@dataclass(frozen=True)
class Task:
    """A suite and what an ablation does on it."""

    suite: Suite
    problem: Callable[[str], Problem]
    pairs: tuple[Pair, ...]
    variants: tuple[str, ...]
    budget: int = 100


def variants_without(*left_out: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in VARIANTS if not any(name in names for names in left_out))


def tasks() -> dict[str, Task]:
    """The suites by name."""
    continuous, mixint = bbob.suite(5), bbob.suite(5, mixint=True)
    wide = bbob.suite(10)

    def repeated(suite: Suite) -> tuple[Pair, ...]:
        names, first = list(dict.fromkeys(name for name, _ in suite.dev)), suite.dev[0][1]
        seeds = range(first, first + math.ceil(LEAST_PAIRS / len(names)))
        return tuple((name, seed) for seed in seeds for name in names)

    smooth = variants_without(DISCRETE, TRAINING, TUNING)
    mixed = variants_without(TRAINING, CONTINUOUS)
    training = tuple(p for p in hpo.SUITE.dev if not p[0].startswith("cash"))
    return {
        "bbob": Task(continuous, bbob.problem, repeated(continuous), smooth),
        "bbob10": Task(wide, bbob.problem, tuple(wide.dev), ("score-metric",)),
        "mixint": Task(
            mixint, bbob.problem, repeated(mixint), variants_without(TRAINING, TUNING, CONTINUOUS)
        ),
        "tables": Task(tables.SUITE, tables.problem, repeated(tables.SUITE), mixed),
        "hpo": Task(hpo.SUITE, hpo.problem, training, tuple(VARIANTS)),
        "surfaces": Task(
            surfaces.SUITE, surfaces.problem, tuple(surfaces.SUITE.dev), mixed, surfaces.BUDGET
        ),
    }


@dataclass(frozen=True)
class Cell:
    suite: str
    problem: str
    seed: int
    variant: str
    budget: int

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"fisher@{sampler_version('fisher')}:{self.variant}"
        return f"{who}/{self.suite}/{self.problem}/{self.seed}/{self.budget}"


def work(cell: Cell) -> rows.Row:
    """The best value after each trial of one study, and the CPU seconds of a suggestion."""
    problem = tasks()[cell.suite].problem(cell.problem)
    options = VARIANTS.get(cell.variant, AlgorithmOptions())
    sampler = FisherSampler(seed=cell.seed, _options=options)
    trace = optimize(Run("fisher", cell.problem, cell.seed, cell.budget), problem, sampler)
    best = np.minimum.accumulate(trace.values).tolist()
    return {"best": best, "cpu": trace.cpu_seconds / cell.budget}


def scaled(suite: str, found: Mapping[Cell, rows.Row]) -> dict[Cell, Array]:
    """Best losses so far in the suite's scale."""
    best = {cell: np.array(row["best"]) for cell, row in found.items() if cell.suite == suite}
    if suite in ("bbob", "bbob10", "mixint"):
        return {cell: log10_regret(cell.problem, b) for cell, b in best.items()}
    if suite == "tables":
        return {cell: clipped(cell.problem, b) for cell, b in best.items()}
    scale = surfaces.regret() if suite == "surfaces" else hpo.regret()
    return {cell: scale(cell.problem, b) for cell, b in best.items()}


def report(suite: str, found: Mapping[Cell, rows.Row]) -> Table:
    """Every variant against the full sampler, on the pairs that both have."""
    losses = scaled(suite, found)
    table = Table(title=f"{suite}: loss of each variant, and of the full sampler on the same runs")
    budget = max((cell.budget for cell in losses), default=0)
    marks = [*(m for m in MARKS if m < budget), budget]
    table.add_column("variant")
    for name in ("runs", *(f"at {m} (full)" for m in marks), "full wins", "p (Holm)", "CPU ratio"):
        table.add_column(name, justify="right")
    lines, raw = [], []
    for variant in VARIANTS:
        mine = [c for c in losses if c.variant == variant and _full(c) in losses]
        if not mine:
            continue
        pairs = [(c.problem, c.seed) for c in mine]
        both = np.array([[losses[_full(c)], losses[c]] for c in mine])[..., [m - 1 for m in marks]]
        means = by_group(pairs, both[..., -1])
        raw.append(statistics.wilcoxon_p(means[:, 1] - means[:, 0]))
        cpu = np.mean([found[c]["cpu"] for c in mine]) / np.mean(
            [found[_full(c)]["cpu"] for c in mine]
        )
        at = [f"{theirs:.3f} ({ours:.3f})" for ours, theirs in both.mean(0).T]
        lines.append([variant, str(len(mine)), *at, f"{win_share(both[..., -1])[1]:.0%}", cpu])
    for line, p in zip(lines, statistics.holm(raw) if raw else (), strict=True):
        table.add_row(*line[:-1], f"{p:.3f}", f"{line[-1]:.2f}")
    table.caption = "full wins: share of runs in which the full sampler is ahead at the last mark."
    return table


def _full(cell: Cell) -> Cell:
    return Cell(cell.suite, cell.problem, cell.seed, FULL, cell.budget)


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Problem by problem, so that a part of them is a fair comparison too."""
    chosen = {name: task for name, task in tasks().items() if name in args.suites}
    return [
        Cell(name, problem, seed, variant, min(args.budget, task.budget))
        for name, task in chosen.items()
        if _missing(name) is None
        for problem, seed in task.pairs
        if seed in (args.seeds or [seed]) and (not args.quick or problem in _quick())
        for variant in (FULL, *task.variants)
        if variant in (FULL, *args.variants)
    ]


def _missing(name: str) -> str | None:
    """What a suite lacks here."""
    if name == "surfaces" and surfaces.DATA not in os.environ:
        return f"surfaces are left out: {surfaces.DATA} is not set"
    return tasks()[name].suite.missing()


def _quick() -> set[str]:
    return {bbob.problem_name(f, 3, 5) for f in QUICK_FUNCTIONS}


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("ablation", __doc__, "seeds workers again write", quick="under 5 minutes")
    parser.add_argument("--suites", nargs="+", default=list(tasks()), choices=list(tasks()))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--budget", type=int, default=100, help="at most so many evaluations")
    args = parser.parse_args(argv)
    if args.quick:
        args.suites, args.budget = ["bbob"], min(args.budget, 40)
        args.seeds = args.seeds or [0]
    console = Console(width=140, record=True)
    for name in args.suites:
        if reason := _missing(name):
            console.print(reason)
    cells = cells_of(args)
    found: dict[Cell, Any] = rows.collect(
        "ablation", cells, work, workers=args.workers, again=args.again
    )
    for name in args.suites:
        if any(cell.suite == name for cell in found):
            console.print(report(name, found))
    if args.write:
        made_by = (
            f"Made by `{rows.command('ablation', argv)}` at source digest "
            f"{sampler_version('fisher')}, on the pairs that methods are tuned on."
        )
        name = "ablation" if "bbob" in args.suites else "_".join(["ablation", *args.suites])
        rows.write(console, name, "What each part of the sampler is worth", made_by)


if __name__ == "__main__":
    main()
