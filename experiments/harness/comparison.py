"""A comparison of samplers on one suite: which runs it consists of, and the tables it prints.

Every suite has final pairs (problem, seed), which reports are about, and development pairs, on
which alone methods are tuned. A peer that ran on a part of the pairs is compared on that part.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.table import Table

from experiments.harness import statistics
from experiments.harness.peers import SAMPLERS, missing, sampler_version
from experiments.harness.traces import RESULTS, Run, Trace, collect, load

Array = NDArray[np.float64]
Pair = tuple[str, int]
Scale = Callable[[str, Array], Array]

MARKS = (15, 25, 50, 100)
BUDGET = 100
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
        try:
            version(self.package)
        except PackageNotFoundError:
            return f"{self.name}: not installed; pip install -c constraints.txt {self.package}"
        return None

    def runs(self, pairs: Sequence[Pair], samplers: Sequence[str], budget: int) -> list[Run]:
        """All runs, problem by problem, so that a part of them is a fair comparison too."""
        return [Run(s, problem, seed, budget) for problem, seed in pairs for s in samplers]


@dataclass(frozen=True)
class Comparison:
    """Best scaled losses so far, by sampler and pair, and the mean CPU seconds a suggestion."""

    metric: str
    best: Mapping[str, Mapping[Pair, Array]]
    seconds: Mapping[str, float]

    def length(self, sampler: str) -> int:
        """Evaluations that every trace of the sampler has."""
        return min(len(best) for best in self.best[sampler].values())

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
    scale = suite.scale()
    best: dict[str, dict[Pair, Array]] = {}
    cpu: dict[str, list[float]] = {}
    wanted = set(pairs)
    for trace in sorted(traces, key=lambda t: len(t.values)):
        run = trace.run
        if (run.problem, run.seed) in wanted:
            so_far = np.minimum.accumulate(trace.values)
            best.setdefault(run.sampler, {})[run.problem, run.seed] = scale(run.problem, so_far)
            cpu.setdefault(run.sampler, []).append(trace.cpu_seconds / len(trace.values))
    order = [s for s in SAMPLERS if s in best]
    return Comparison(
        suite.metric,
        {s: best[s] for s in order},
        {s: float(np.mean(cpu[s])) for s in order},
    )


def current(suite: Suite) -> list[Trace]:
    """Kept traces of a suite made by the samplers' present versions."""
    versions = {s: sampler_version(s) for s in SAMPLERS if missing(s) is None}
    return [
        trace
        for key, trace in load(RESULTS / f"{suite.name}.jsonl").items()
        if key.startswith(f"{trace.run.sampler}@{versions.get(trace.run.sampler)}/")
    ]


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
    length = comparison.length(REFERENCE)
    full = [
        s
        for s in comparison.best
        if comparison.paired(s) == pairs and comparison.length(s) >= length
    ]
    partial = [s for s in comparison.best if s not in full]
    parts = [_full_table(title, comparison, full, pairs)]
    if partial:
        parts.append(_paired_table(title, comparison, partial))
    return Group(*parts)


def _marks(length: int) -> list[int]:
    return [m for m in MARKS if m < length] + [length]


def _full_table(
    title: str, comparison: Comparison, samplers: Sequence[str], pairs: Sequence[Pair]
) -> Table:
    marks = _marks(comparison.length(REFERENCE))
    losses = {m: comparison.losses(samplers, pairs, m) for m in marks}
    last = losses[marks[-1]]
    means = by_group(pairs, last)
    p_values = statistics.paired_wilcoxon(means, 0)
    wins = win_share(last)
    groups = [group(problem) for problem, _ in pairs]
    table = Table(title=f"{title}: {len(means)} problems, {len(pairs)} runs of each sampler")
    columns = ["sampler", *(f"rank {m}" for m in marks), *(f"regret {m}" for m in marks)]
    for name in (*columns, "fisher wins", "p (Holm)", "rank − fisher, 95 %", "CPU ms"):
        table.add_column(name, justify="left" if name == "sampler" else "right")
    for j, s in enumerate(samplers):
        row = [f"{statistics.average_ranks(losses[m])[j]:.2f}" for m in marks]
        row += [f"{losses[m][:, j].mean():.3f}" for m in marks]
        if j == 0:
            row += ["–", "–", "–"]
        else:
            low, high = statistics.bootstrap_interval(last, groups, 0, j)
            row += [f"{wins[j]:.0%}", f"{p_values[j]:.1e}", f"[{low:+.2f}, {high:+.2f}]"]
        table.add_row(s, *row, f"{1000 * comparison.seconds[s]:.1f}")
    table.caption = (
        f"rank: mean rank, 1 = best; regret: mean {comparison.metric}; after so many evaluations. "
        "The first 10 are the same points for all. p: Wilcoxon against fisher on the problems' "
        "means."
    )
    return table


def _paired_table(title: str, comparison: Comparison, samplers: Sequence[str]) -> Table:
    table = Table(title=f"{title}: samplers that ran on a part, each against fisher on that part")
    columns = (
        "sampler",
        "problems",
        "runs",
        "evaluations",
        "its regret",
        "fisher's",
        "fisher wins",
    )
    for name in (*columns, "p (Holm)", "CPU ms"):
        table.add_column(name, justify="left" if name == "sampler" else "right")
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
        table.add_row(*row, f"{p:.1e}", f"{1000 * comparison.seconds[row[0]]:.1f}")
    return table


def command(suite: Suite, doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Run a suite from the command line and print its tables."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{suite.name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    execute(suite, parser.parse_args(argv))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that all suites share."""
    parser.add_argument("--quick", action="store_true", help="a small part, under 5 minutes")
    parser.add_argument("--dev", action="store_true", help="the pairs that methods are tuned on")
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--problems", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--workers", type=int, default=os.cpu_count())


def execute(suite: Suite, args: argparse.Namespace) -> None:
    """Make the runs that are missing, then print the report on those that were asked for."""
    console = Console(width=180)
    reasons = {s: missing(s) for s in args.samplers}
    for reason in (suite.missing(), *reasons.values()):
        if reason:
            console.print(reason)
    if suite.missing():
        return
    samplers = [s for s, reason in reasons.items() if reason is None]
    pairs = suite.quick if args.quick else suite.dev if args.dev else suite.final
    pairs = [
        (problem, seed)
        for problem, seed in pairs
        if problem in (args.problems or [problem]) and seed in (args.seeds or [seed])
    ]
    budget = min(args.budget, suite.quick_budget) if args.quick else args.budget
    runs = suite.runs(pairs, samplers, budget)
    traces = collect(runs, suite.work, RESULTS / f"{suite.name}.jsonl", workers=args.workers)
    console.print(report(suite.name, compare(suite, traces, pairs)))
