"""What faults cost: a bad value, a penalty in part of the space, constraints that are left out.

    python -m experiments.robustness --quick    2 functions, 5 seeds, 25 evaluations
    python -m experiments.robustness --write    4 functions, 40 seeds, 40 evaluations
    python -m experiments.robustness --samplers fisher --write    without GPSampler: 20 CPU minutes
                                                                  (--seeds 10: 5 minutes)

All comparisons are paired by function and seed: runs share the ten design points and the sampler's
random numbers. Regret is of true values, and below 1e-6 a function is solved. The tables have the
mean difference of log10 regret with its 95 % bootstrap interval, and p by Wilcoxon's test with Holm
over the kinds of a sampler in a table.

One value. The value of one design point, drawn by the seed from the nine that are not the best, is
replaced. The damage is the log10 regret at the end less that of the clean run; regret counts all
other trials.

    again               nothing is replaced: the clean run with other random numbers, the noise
    outlier             worse than the worst by a million times the function's range
    1e30, largest       finite but out of all scale; "largest" is the largest float64
    +inf, -inf, -1e30   infinitely bad; too good to be true, as a logarithm of nothing is
    nan                 NaN, which Optuna takes as a failed trial

Penalty. Where u[0] > 0.75 (each function has a minimum elsewhere) trials return inf, 1e6, 1e26, or
1e26 (1 + a uniform random number). The damage is against inf; regret counts trials elsewhere.

Constraint. Where u[0] > 0.6 (each function has a minimum elsewhere) the constraint c = u[0] - 0.6
is broken, and values are lower by half of the function's range, so that the constraint matters.

    always              all trials tell c
    where broken        trials that break the constraint tell c, others nothing
    where broken, as 1  the same, but they tell 1
    every other trial   odd trials tell c, even ones nothing
    once                trial 3 alone tells 1, whatever it is; no values are lower

Regret counts trials that are truly feasible ("once": all trials). To Optuna 5 a trial that tells
nothing is feasible, even where it breaks the constraint, as even trials of "every other trial" do:
study.best_trial may be one of those, but the regret here ignores them. The damage is against the
same sampler's run that always tells ("once": the clean run); a second table compares samplers with
TPESampler and RandomSampler on the same function, kind and seed. GPSampler is left out: it raises
an error where trials tell different constraints.

Verdicts are read from the interval. A kind costs something if it lies above 0, and nothing if it
lies below log10 2 (a factor of two of the regret); else no cost is shown. A sampler is better than
another if the interval lies below 0, worse if above.

A constant objective must not end a study, nor gather its points: the smallest and the median
distance of a point to its nearest neighbour, over those of as many scrambled Sobol points.
Rows are kept in runs/robustness.jsonl; --again makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from scipy.stats.qmc import Sobol

from experiments.faulty import FUNCTIONS, ONCE, ONE_VALUE, PENALTIES, TOLD, Cell, work
from experiments.harness import rows, statistics
from experiments.harness.problems import N_DESIGN
from experiments.options import command_line

Array = NDArray[np.float64]

SAMPLERS = ("fisher", "gp", "tpe")
DEFAULT_SAMPLERS = ("fisher", "gp")
RIVALS = ("tpe", "random")  # where constraints are left out
SOLVED = 1e-6

# Kinds of each table, and the kind that they are compared with
VALUE = dict.fromkeys(("again", *ONE_VALUE), "clean")
PENALTY = dict.fromkeys(list(PENALTIES)[1:], next(iter(PENALTIES)))
UNTOLD = {**dict.fromkeys(list(TOLD)[1:], next(iter(TOLD))), ONCE: "clean"}


def regret(row: rows.Row) -> float:
    """log10 of the best true value, which is the regret."""
    return float(np.log10(max(min(row["values"]), SOLVED)))


def differences(
    found: Mapping[Cell, rows.Row], sampler: str, kind: str, /, **other: str
) -> dict[str, Array]:
    """log10 regret less that of the run with another kind or sampler, per seed, by function."""
    by_function: dict[str, list[float]] = {}
    for cell, row in found.items():
        if (cell.sampler, cell.kind) == (sampler, kind):
            against = found.get(replace(cell, **other))  # type: ignore[arg-type]  # text fields
            if against is not None:
                by_function.setdefault(cell.function, []).append(regret(row) - regret(against))
    return {function: np.array(d) for function, d in by_function.items()}


def interval(differences: Sequence[Array], *, draws: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over functions, seeds redrawn within each."""
    rng = np.random.default_rng(0)
    means = [rng.choice(d, (draws, len(d))).mean(1) for d in differences]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    return float(low), float(high)


def tested(
    by_kind: Mapping[str, Mapping[str, Array]],
) -> Iterator[tuple[str, Mapping[str, Array], tuple[float, float], float]]:
    """Kinds with their differences, the interval of the mean, and p by Holm over the kinds."""
    by_kind = {kind: d for kind, d in by_kind.items() if d}
    p = [statistics.wilcoxon_p(np.concatenate(list(d.values()))) for d in by_kind.values()]
    for (kind, d), corrected in zip(by_kind.items(), statistics.holm(p), strict=True):
        yield kind, d, interval(list(d.values())), float(corrected)


def table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table of columns with text, with numbers, and with a verdict."""
    made = Table(title=title)
    for name in texts:
        made.add_column(name)
    for name in numbers:
        made.add_column(name, justify="right")
    made.add_column("verdict")
    return made


def means(d: Mapping[str, Array], functions: Sequence[str], low: float, high: float) -> list[str]:
    """Number of pairs, mean of each function, mean of all and its interval."""
    every = np.concatenate(list(d.values()))
    by_function = [f"{d[f].mean():+.2f}" if f in d else "–" for f in functions]
    return [str(len(every)), *by_function, f"{every.mean():+.2f}", f"[{low:+.2f}, {high:+.2f}]"]


def damage_report(
    found: Mapping[Cell, rows.Row], what: str, reference: Mapping[str, str], title: str
) -> Table:
    """What each kind costs a sampler, against its run of the reference kind."""
    functions = list(dict.fromkeys(c.function for c in found))
    numbers = ("runs", *functions, "mean", "95 %", "effect size", "p (Holm)")
    made = table(title, ("sampler", what), numbers)
    captions = []
    for s in dict.fromkeys(c.sampler for c in found):
        by_kind = {k: differences(found, s, k, kind=r) for k, r in reference.items()}
        if not any(by_kind.values()):
            continue
        for kind, d, (low, high), p in tested(by_kind):
            every = np.concatenate(list(d.values()))
            size = every.mean() / (every.std() or 1.0)
            line = (*means(d, functions, low, high), f"{size:+.2f}", f"{p:.1g}")
            made.add_row(s, kind, *line, verdict(kind, low, high))
        made.add_section()
        for r in dict.fromkeys(reference.values()):
            level = [regret(row) for c, row in found.items() if (c.sampler, c.kind) == (s, r)]
            captions += [f"{s}, {r}: mean log10 regret {np.mean(level):.2f}."] if level else []
    made.caption = " ".join(captions)
    return made


def rival_report(found: Mapping[Cell, rows.Row], samplers: Sequence[str]) -> Table:
    """Samplers against rivals where constraints are left out."""
    functions = list(dict.fromkeys(c.function for c in found))
    numbers = ("runs", *functions, "mean", "95 %", "pairs won", "p (Holm)")
    title = "constraint told in part: log10 regret less that of another sampler"
    made = table(title, ("sampler", "against", "constraint is told"), numbers)
    for s, rival in [(s, rival) for s in samplers for rival in RIVALS if s != rival]:
        by_kind = {k: differences(found, s, k, sampler=rival) for k in (*TOLD, ONCE)}
        for kind, d, (low, high), p in tested(by_kind):
            every = np.concatenate(list(d.values()))
            won = np.mean((every < 0) + 0.5 * (every == 0))
            line = (*means(d, functions, low, high), f"{won:.0%}", f"{p:.1g}")
            made.add_row(s, rival, kind, *line, standing(low, high))
        made.add_section()
    return made


def verdict(kind: str, low: float, high: float) -> str:
    """What the interval of the mean damage says."""
    if kind == "again":
        return "(noise)"
    if low > 0:
        return f"costs {10**low:.1f}× the regret or more"
    word = "costs nothing" if high <= np.log10(2) else "no cost shown"
    return f"{word}: at most {10**high:.1f}× the regret"


def standing(low: float, high: float) -> str:
    """What the interval of the mean difference from another sampler says."""
    if high < 0:
        return f"better: at most {10**high:.2g}× its regret"
    return f"worse: at least {10**low:.2g}× its regret" if low > 0 else "no difference shown"


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


def cells_of(
    functions: Sequence[str], seeds: int, budget: int, samplers: Sequence[str]
) -> dict[str, list[Cell]]:
    """What to run for each table: bad values and penalties, constraints, constant objectives."""

    def cells(
        samplers: Sequence[str], functions: Sequence[str], kinds: Sequence[str]
    ) -> list[Cell]:
        return [
            Cell(s, f, kind, seed, budget)
            for f in functions
            for seed in range(seeds)
            for kind in kinds
            for s in samplers
        ]

    telling = [s for s in dict.fromkeys((*samplers, *RIVALS)) if s != "gp"]
    return {
        "values": cells(samplers, functions, ("clean", *VALUE, *PENALTIES)),
        "constraints": cells(telling, functions, (*TOLD, ONCE)),
        "constant": cells(samplers, ("constant2", "constant5"), ("clean",)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("robustness", __doc__, "workers again write", quick="under 5 minutes")
    real = [f for f in FUNCTIONS if not f.startswith("constant")]
    parser.add_argument("--functions", nargs="+", default=real, choices=real)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), choices=SAMPLERS)
    args = parser.parse_args(argv)
    if args.quick:
        args.functions, args.seeds, args.budget = ["branin", "hartmann6"], 5, 25
    if args.budget <= N_DESIGN:
        parser.error(f"--budget must be > {N_DESIGN}, the design's size; got {args.budget}")
    cells = cells_of(args.functions, args.seeds, args.budget, args.samplers)
    every = [cell for group in cells.values() for cell in group]
    found = rows.collect("robustness", every, work, workers=args.workers, again=args.again)
    flat = set(cells["constant"])
    asked = {c: row for c, row in found.items() if c.sampler in args.samplers and c not in flat}
    after = f"log10 regret after {args.budget} evaluations, less that of the run"
    console = Console(width=190, record=True)
    console.print(damage_report(asked, "one value is", VALUE, f"one value: {after} without"))
    console.print(damage_report(asked, "penalty is", PENALTY, f"penalty: {after} with inf"))
    title = f"constraint told in part: {after} that always tells it (once: clean)"
    console.print(damage_report(asked, "constraint is told", UNTOLD, title))
    console.print(
        rival_report({c: row for c, row in found.items() if c not in flat}, args.samplers)
    )
    console.print(constant_report(found, cells["constant"]))
    if args.write:
        made_by = f"Made by `{rows.command('robustness', argv)}`"
        rows.write(console, "robustness", "What faults cost", made_by)


if __name__ == "__main__":
    main()
