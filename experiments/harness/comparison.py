"""A comparison of samplers on one suite: which runs it consists of, and the tables it prints.

Every suite has final pairs (problem, seed), which reports are about, and development pairs, on
which alone methods are tuned. A peer that ran on a part of the pairs is compared on that part.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.table import Table

from experiments.harness import statistics
from experiments.harness.peers import SAMPLERS, missing
from experiments.harness.provenance import not_installed
from experiments.harness.traces import Run, Trace, collect, is_current, load
from experiments.options import command_line

Array = NDArray[np.float64]
Pair = tuple[str, int]
Scale = Callable[[str, Array], Array]

MARKS = (15, 25, 50, 100)
DEFAULT_SAMPLERS = ("fisher", "gp", "tpe", "cmaes", "random")
REFERENCE = "fisher"


def clipped(problem: str, best: Array) -> Array:
    """Normalised regret: 1 is the median of one random point, and nothing counts as worse."""
    return np.clip(best, 0.0, 1.0)


def log10_regret(problem: str, best: Array) -> Array:
    """Logarithm of the regret; below 1e-8 a problem counts as solved, as in COCO."""
    return np.log10(np.maximum(best, 1e-8))


@dataclass(frozen=True)
class Suite:
    """Problems with seeds, how to work on them, and how losses are scaled for reports."""

    name: str
    work: Callable[[Run], Trace]
    final: Sequence[Pair]
    dev: Sequence[Pair]
    quick: Sequence[Pair]
    quick_budget: int = 40
    scale: Callable[[], Scale] = lambda: clipped
    metric: str = "normalised regret"
    package: str = "optuna"

    def missing(self) -> str | None:
        """One line that says why the suite cannot run here; None where it can."""
        return not_installed(self.name, self.package)


@dataclass(frozen=True)
class Comparison:
    """Best scaled losses so far, by sampler and pair, and the mean CPU seconds a suggestion."""

    metric: str
    best: Mapping[str, Mapping[Pair, Array]]
    seconds: Mapping[str, float]

    def losses(self, samplers: Sequence[str], pairs: Sequence[Pair], mark: int) -> Array:
        """Best after ``mark`` evaluations, shape ``(pairs, samplers)``."""
        return np.array([[self.best[s][p][mark - 1] for s in samplers] for p in pairs])

    def mark(self, sampler: str) -> int:
        """The last evaluation that both the sampler and the reference have on all shared pairs."""
        pairs = self.paired(sampler)
        return min(len(self.best[name][p]) for name in (REFERENCE, sampler) for p in pairs)

    def paired(self, sampler: str) -> list[Pair]:
        """Pairs on which both the sampler and the reference ran."""
        return sorted(set(self.best[sampler]) & set(self.best[REFERENCE]))


def compare(suite: Suite, traces: Sequence[Trace], pairs: Sequence[Pair]) -> Comparison:
    """The traces of the samplers' present versions on the pairs, the longest of each."""
    scale, wanted = suite.scale(), set(pairs)
    best: dict[str, dict[Pair, Array]] = {}
    cpu: dict[str, list[float]] = {}
    for trace in sorted(traces, key=lambda t: (SAMPLERS.index(t.run.sampler), len(t.values))):
        run = trace.run
        if (run.problem, run.seed) in wanted:
            so_far = np.minimum.accumulate(trace.values)
            best.setdefault(run.sampler, {})[run.problem, run.seed] = scale(run.problem, so_far)
            if not math.isnan(trace.cpu_seconds):
                cpu.setdefault(run.sampler, []).append(trace.cpu_seconds / len(trace.values))
    return Comparison(suite.metric, best, {s: float(np.mean(c)) for s, c in cpu.items()})


def current(suite: Suite, source: str | None = None) -> list[Trace]:
    """Kept traces of the samplers' present versions, or FisherSampler's at a digest ``source``."""
    return [t for key, t in load(suite.name).items() if is_current(key, t.run, source)]


def group(problem: str) -> str:
    """The unit of the statistics: instances of one function are one problem."""
    return re.sub(r"_i\d\d(?=_d\d)", "", problem)


def by_group(pairs: Sequence[Pair], values: Array) -> Array:
    """Means over the seeds and instances of every problem, shape ``(problems, ...)``."""
    names = np.array([group(problem) for problem, _ in pairs])
    return np.array([values[names == name].mean(axis=0) for name in dict.fromkeys(names)])


def win_share(losses: Array) -> Array:
    """Share of rows where column 0 is below each column, a tie counting half."""
    first = losses[:, :1]
    share: Array = (np.where(first < losses, 1.0, 0.0) + 0.5 * (first == losses)).mean(axis=0)
    return share


def report(title: str, comparison: Comparison) -> Group:
    """The table of the samplers that ran everywhere, and that of those that ran on a part."""
    if REFERENCE not in comparison.best:
        return Group(f"{title}: no traces of {REFERENCE} yet")
    pairs = sorted(comparison.best[REFERENCE])
    all_of_it = (pairs, comparison.mark(REFERENCE))
    full = [s for s in comparison.best if (comparison.paired(s), comparison.mark(s)) == all_of_it]
    part = [s for s in comparison.best if s not in full]
    tables = [_full_table(title, comparison, full, pairs)]
    return Group(*tables, *([_paired_table(title, comparison, part)] if part else []))


def _full_table(
    title: str, comparison: Comparison, samplers: Sequence[str], pairs: Sequence[Pair]
) -> Table:
    length = comparison.mark(REFERENCE)
    marks = [*(m for m in MARKS if m < length), length]
    losses = {m: comparison.losses(samplers, pairs, m) for m in marks}
    last = losses[length]
    means = by_group(pairs, last)
    p_values = statistics.holm([statistics.wilcoxon_p(m - means[:, 0]) for m in means.T[1:]])
    wins = win_share(last)
    groups = [group(problem) for problem, _ in pairs]
    table = _table(
        f"{title}: {len(means)} problems, {len(pairs)} runs of each sampler",
        *("sampler", *(f"rank {m}" for m in marks), *(f"regret {m}" for m in marks)),
        *("fisher wins", "p (Holm)", "rank − fisher, 95 %", "CPU ms"),
    )
    for j, s in enumerate(samplers):
        row = [f"{statistics.average_ranks(losses[m])[j]:.2f}" for m in marks]
        row += [f"{losses[m][:, j].mean():.3f}" for m in marks]
        against = ["–", "–", "–"]
        if j:
            low, high = statistics.bootstrap_interval(last, groups, 0, j)
            against = [f"{wins[j]:.0%}", f"{p_values[j - 1]:.1e}", f"[{low:+.2f}, {high:+.2f}]"]
        table.add_row(s, *row, *against, f"{1000 * comparison.seconds.get(s, math.nan):.1f}")
    table.caption = (
        f"rank: mean rank, 1 = best; regret: mean {comparison.metric}; after so many evaluations. "
        "The first 10 are the same points for all. p: Wilcoxon against fisher on the problems' "
        "means."
    )
    return table


def _paired_table(title: str, comparison: Comparison, samplers: Sequence[str]) -> Table:
    table = _table(
        f"{title}: samplers that ran on a part, each against fisher on that part",
        *("sampler", "problems", "runs", "evaluations", "its regret", "fisher's", "fisher wins"),
        *("p (Holm)", "CPU ms"),
    )
    rows, raw = [], []
    for s in samplers:
        if pairs := comparison.paired(s):
            mark = comparison.mark(s)
            losses = comparison.losses((REFERENCE, s), pairs, mark)
            means = by_group(pairs, losses)
            raw.append(statistics.wilcoxon_p(means[:, 1] - means[:, 0]))
            ours, theirs = losses.mean(axis=0)
            counts = [s, str(len(means)), str(len(pairs)), str(mark)]
            share = f"{win_share(losses)[1]:.0%}"
            rows.append([*counts, f"{theirs:.3f}", f"{ours:.3f}", share])
    for row, p in zip(rows, statistics.holm(raw), strict=True):
        table.add_row(*row, f"{p:.1e}", f"{1000 * comparison.seconds.get(row[0], math.nan):.1f}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for j, name in enumerate(columns):
        table.add_column(name, justify="right" if j else "left")
    return table


def parser(name: str, doc: str | None, shared: str = "") -> argparse.ArgumentParser:
    """Of a suite's command line, with the options that all suites have and others of `SHARED`."""
    common = f"dev problems seeds workers untimed {shared}"
    made = command_line(name, doc, common, quick="a small part, under 5 minutes")
    made.add_argument("--budget", type=int, default=100)
    made.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), choices=SAMPLERS)
    return made


def execute(suite: Suite, args: argparse.Namespace) -> None:
    """Make the runs that are missing, then print the report on those that were asked for."""
    console = Console(width=180)
    for reason in (suite.missing(), *(missing(s) for s in args.samplers)):
        if reason:
            console.print(reason)
    if suite.missing():
        return
    pairs = [
        (problem, seed)
        for problem, seed in (suite.quick if args.quick else suite.dev if args.dev else suite.final)
        if problem in (args.problems or [problem]) and seed in (args.seeds or [seed])
    ]
    if not pairs:
        console.print(f"no runs: {suite.name} has none of these problems with these seeds")
    budget = min(args.budget, suite.quick_budget) if args.quick else args.budget
    runs = [  # problem by problem, so that a part of them is a fair comparison too
        Run(sampler, problem, seed, budget)
        for problem, seed in pairs
        for sampler in args.samplers
        if missing(sampler) is None
    ]
    traces = collect(suite.name, runs, suite.work, workers=args.workers, timed=not args.untimed)
    console.print(report(suite.name, compare(suite, traces, pairs)))
