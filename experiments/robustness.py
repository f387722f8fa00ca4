"""What one bad value costs: an outlier, an infinity, a failure, or an objective that is constant.

    python -m experiments.robustness --quick    2 functions, 5 seeds, 25 evaluations
    python -m experiments.robustness --write    4 functions, 40 seeds, 40 evaluations

On every function and seed a study is run clean and again with the value of one of the ten design
points replaced (one of the nine that are not the best, drawn by the seed):

    outlier     worse than the worst by a million times the function's range
    +inf, -inf  infinitely bad; infinitely good, as a logarithm of nothing is
    nan         NaN, which Optuna takes as a failed trial
    again       nothing replaced: the clean run with other random numbers, which is the noise

The damage is the log10 regret at the end, less that of the clean run on the same function and seed;
regret counts the true values of all other trials, and below 1e-6 a function is solved. By the 95 %
bootstrap interval of its mean a kind costs something if the interval lies above 0, nothing if it
lies below log10 2 (a factor of two of the regret), and else no cost is shown. p: Wilcoxon against
clean, by Holm over the kinds of a sampler.

A constant objective must not end a study, nor gather its points: the smallest and the median
distance of a point to its nearest neighbour, over those of as many scrambled Sobol points.
Rows are kept in runs/robustness.jsonl; --again makes them anew.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from scipy.stats.qmc import Sobol

from experiments import rows, statistics
from experiments.peers import sampler_version
from experiments.problems import N_DESIGN, Params, Problem
from experiments.traces import Run, optimize

Array = NDArray[np.float64]

SAMPLERS = ("fisher", "gp", "tpe")
DEFAULT_SAMPLERS = ("fisher", "gp")
KINDS = ("again", "outlier", "+inf", "-inf", "nan")
SOLVED = 1e-6
AGAIN = 10_000  # added to the seed where the random numbers are to differ


# Functions of a point of the unit cube, less their minimum


def branin(u: Array) -> float:
    x, y = 15 * u[0] - 5, 15 * u[1]
    bowl = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10 - 0.39788735772973816)


HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(u: Array) -> float:
    hills = np.exp(-np.sum(HARTMANN_A * (u - HARTMANN_P) ** 2, 1))
    return float(3.32236801141551 - np.array([1.0, 1.2, 3.0, 3.2]) @ hills)


def levy5(u: Array) -> float:
    w = 1 + (20 * u - 11) / 4
    waves = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + waves.sum() + last)


def ellipsoid4(u: Array) -> float:
    return float(10 ** np.linspace(0, 2, 4) @ (u - np.array([0.3, 0.6, 0.45, 0.7])) ** 2)


def constant(u: Array) -> float:
    return 1.0


FUNCTIONS: Mapping[str, tuple[int, Callable[[Array], float]]] = {
    "branin": (2, branin),
    "hartmann6": (6, hartmann6),
    "levy5": (5, levy5),
    "ellipsoid4": (4, ellipsoid4),
    "constant2": (2, constant),
    "constant5": (5, constant),
}


@cache
def value_range(function: str) -> float:
    """Largest less smallest of 1,024 values over the box."""
    d, f = FUNCTIONS[function]
    values = [f(u) for u in Sobol(d, rng=0).random(1024)]
    return max(values) - min(values)


@dataclass(frozen=True)
class Study(Problem):
    """A problem whose design does not change where only the sampler's random numbers shall."""

    def design(self, seed: int) -> list[Params]:
        """The first points of the seed, or of the seed that is run again."""
        return super().design(seed % AGAIN)


@dataclass(frozen=True)
class Cell:
    sampler: str
    function: str
    kind: str
    seed: int
    budget: int

    def key(self) -> str:
        """Names the versions and all settings."""
        who = f"{self.sampler}@{sampler_version(self.sampler)}"
        return f"{who}/{self.function}/{self.kind}/{self.seed}/{self.budget}"


def work(cell: Cell) -> rows.Row:
    """The true values of a study in order, without the one that was replaced, and its points."""
    d, f = FUNCTIONS[cell.function]
    space: dict[str, BaseDistribution] = {f"x{j}": FloatDistribution(0, 1) for j in range(d)}
    points: list[list[float]] = []
    spoilt = spoil(cell)

    def loss(params: Params) -> float:
        points.append([params[name] for name in space])
        value = f(np.array(points[-1]))
        return spoilt[1] if len(points) - 1 == spoilt[0] else value

    seed = cell.seed + AGAIN * (cell.kind == "again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimize(
            Run(cell.sampler, cell.function, seed, cell.budget), Study(cell.function, space, loss)
        )
    values = [f(np.array(u)) for i, u in enumerate(points) if i != spoilt[0]]
    return {"values": values, "points": points}


def spoil(cell: Cell) -> tuple[int, float]:
    """Which trial's value is replaced, −1 for none, and by what."""
    d, f = FUNCTIONS[cell.function]
    names = {f"x{j}": FloatDistribution(0, 1) for j in range(d)}
    design = Problem(cell.function, names, lambda p: 0.0).design(cell.seed)
    values = np.array([f(np.array(list(p.values()))) for p in design])
    bad = {
        "outlier": values.max() + 1e6 * value_range(cell.function),
        "+inf": np.inf,
        "-inf": -np.inf,
        "nan": np.nan,
    }
    if cell.kind not in bad:
        return -1, 0.0
    others = np.argsort(values)[1:]
    drawn = np.random.default_rng(cell.seed).choice(others)
    return int(drawn), float(bad[cell.kind])


def regret(row: rows.Row) -> float:
    """log10 of the best true value, which is the regret."""
    return float(np.log10(max(min(row["values"]), SOLVED)))


def damages(
    found: Mapping[Cell, rows.Row], sampler: str, kind: str
) -> dict[str, NDArray[np.float64]]:
    """log10 regret less that of the clean run, for each seed, by function."""
    by_function: dict[str, list[float]] = {}
    for cell, row in found.items():
        clean = found.get(Cell(sampler, cell.function, "clean", cell.seed, cell.budget))
        if (cell.sampler, cell.kind) == (sampler, kind) and clean is not None:
            by_function.setdefault(cell.function, []).append(regret(row) - regret(clean))
    return {function: np.array(d) for function, d in by_function.items()}


def interval(differences: Sequence[Array], *, draws: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over functions, seeds redrawn within each."""
    rng = np.random.default_rng(0)
    means = [rng.choice(d, (draws, len(d))).mean(1) for d in differences]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    return float(low), float(high)


def report(found: Mapping[Cell, rows.Row]) -> Table:
    samplers = list(dict.fromkeys(c.sampler for c in found))
    functions = list(dict.fromkeys(c.function for c in found if c.kind == "clean"))
    budget = next(iter(found)).budget
    table = Table(title=f"log10 regret after {budget} evaluations, less that of the clean run")
    table.add_column("sampler")
    table.add_column("one value is")
    for name in ("runs", *functions, "mean", "95 %", "effect size", "p (Holm)"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for s in samplers:
        clean = [regret(row) for c, row in found.items() if (c.sampler, c.kind) == (s, "clean")]
        by_kind = {k: damages(found, s, k) for k in KINDS}
        by_kind = {k: d for k, d in by_kind.items() if d}
        raw = [statistics.wilcoxon_p(np.concatenate(list(d.values()))) for d in by_kind.values()]
        for k, p, (kind, d) in zip(
            range(len(raw)), statistics.holm(raw), by_kind.items(), strict=True
        ):
            every = np.concatenate(list(d.values()))
            low, high = interval(list(d.values()))
            size = every.mean() / (every.std() or 1.0)
            table.add_row(
                *(s, kind, str(len(every))),
                *(f"{d[f].mean():+.2f}" if f in d else "–" for f in functions),
                *(f"{every.mean():+.2f}", f"[{low:+.2f}, {high:+.2f}]", f"{size:+.2f}"),
                *(f"{p:.2f}", verdict(kind, low, high)),
                end_section=k == len(raw) - 1,
            )
        table.caption = (table.caption or "") and f"{table.caption} "
        table.caption = f"{table.caption}{s}, clean: mean log10 regret {np.mean(clean):.2f}."
    return table


def verdict(kind: str, low: float, high: float) -> str:
    """What the interval of the mean damage says."""
    if kind == "again":
        return "(noise)"
    if low > 0:
        return f"costs {10**low:.1f}× the regret or more"
    word = "costs nothing" if high <= np.log10(2) else "no cost shown"
    return f"{word}: at most {10**high:.1f}× the regret"


def spread(points: Array) -> tuple[float, float]:
    """Smallest and median nearest-neighbour distance over those of Sobol points (20 scrambles)."""

    def distances(x: Array) -> Array:
        between = cdist(x, x)
        np.fill_diagonal(between, np.inf)
        nearest: Array = between.min(1)
        return np.array([nearest.min(), np.median(nearest)])

    n, d = points.shape
    sobol = [Sobol(d, rng=seed).random(1 << n.bit_length())[:n] for seed in range(20)]
    smallest, median = distances(points) / np.median([distances(x) for x in sobol], axis=0)
    return float(smallest), float(median)


def constant_report(found: Mapping[Cell, rows.Row], asked: Sequence[Cell]) -> Table:
    table = Table(title="constant objective: distances to the nearest neighbour, over Sobol's")
    for name in ("sampler", "d", "studies", "ended by an error", "smallest", "median", "verdict"):
        table.add_column(name, justify="left" if name in ("sampler", "verdict") else "right")
    for s, f in dict.fromkeys((c.sampler, c.function) for c in asked):
        mine = [c for c in asked if (c.sampler, c.function) == (s, f)]
        made = [spread(np.array(found[c]["points"])) for c in mine if c in found]
        failed = len(mine) - len(made)
        smallest, median = np.mean(made, axis=0) if made else (0.0, 0.0)
        good = not failed and median >= 0.5
        words = "points keep spreading" if good else "points gather or studies end"
        counts = (str(FUNCTIONS[f][0]), str(len(mine)), str(failed))
        table.add_row(s, *counts, f"{smallest:.2f}", f"{median:.2f}", words)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    real = [f for f in FUNCTIONS if not f.startswith("constant")]
    parser.add_argument("--quick", action="store_true", help="under 5 minutes")
    parser.add_argument("--functions", nargs="+", default=real, choices=real)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="make kept rows anew")
    parser.add_argument("--write", action="store_true", help="also to experiments/results")
    args = parser.parse_args(argv)
    if args.quick:
        args.functions, args.seeds, args.budget = ["branin", "hartmann6"], 5, 25
    if args.budget <= N_DESIGN:
        parser.error(f"--budget must be > {N_DESIGN}, the design's size; got {args.budget}")
    cells = [
        Cell(s, f, kind, seed, args.budget)
        for f in args.functions
        for seed in range(args.seeds)
        for kind in ("clean", *KINDS)
        for s in args.samplers
    ]
    flat = [
        Cell(s, f, "clean", seed, args.budget)
        for f in ("constant2", "constant5")
        for seed in range(args.seeds)
        for s in args.samplers
    ]
    found = rows.collect("robustness", cells + flat, work, workers=args.workers, again=args.again)
    console = Console(width=180, record=True)
    console.print(report({c: row for c, row in found.items() if c not in flat}))
    console.print(constant_report(found, flat))
    if args.write:
        made_by = f"Made by `{rows.command('robustness', argv)}`"
        rows.write(console, "robustness", "What one bad value costs", made_by)


if __name__ == "__main__":
    main()
