"""Tables and pictures of runs on COCO's functions, by algorithm, dimension and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from experiments.coco_data import (
    ALL_FUNCTIONS,
    GROUPS,
    Array,
    History,
    expected_running_times,
    log_regrets,
    shares,
)
from experiments.coco_picture import FIRST, Panel, picture
from experiments.harness import statistics

DIMENSIONS = (2, 3, 5, 10, 20)
REFERENCE = "FisherSampler"
BUDGETS = (2, 5, 10, 25, 50)
"""Evaluations over dimension at which shares are reported."""
PRECISIONS = (10.0, 1.0, 0.1, 1e-3, 1e-8)
TEXTS = ("dimension", "group", "algorithm")
CURVE = tuple(np.geomspace(FIRST, BUDGETS[-1], 60).tolist())
Algorithms = Mapping[str, Sequence[History]]


def select(
    histories: Sequence[History], dimension: int, functions: Sequence[int] = ALL_FUNCTIONS
) -> list[History]:
    """Runs on these functions in one dimension; none if a function has no run."""
    chosen = [h for h in histories if h.dimension == dimension and h.function in functions]
    return chosen if {h.function for h in chosen} == set(functions) else []


def in_dimension(
    algorithms: Algorithms, dimension: int, functions: Sequence[int] = ALL_FUNCTIONS
) -> dict[str, list[History]]:
    """Runs of each algorithm that has all of these functions."""
    named = {name: select(found, dimension, functions) for name, found in algorithms.items()}
    return {name: chosen for name, chosen in named.items() if chosen}


def covered(chosen: Sequence[History], budget: float) -> bool:
    """Whether all runs are known to so many evaluations over dimension."""
    return all(h.covers(budget * h.dimension) for h in chosen)


def cells(chosen: Sequence[History]) -> list[str]:
    """Mean share of the targets at each budget; a dash where runs have ended before."""
    means = shares(chosen, BUDGETS).mean(axis=0)
    return [f"{m:.3f}" if covered(chosen, b) else "–" for m, b in zip(means, BUDGETS, strict=True)]


def all_functions(algorithms: Algorithms) -> Table:
    """Shares over all functions, and FisherSampler's lead at the end."""
    table = new_table(
        "Share of COCO's targets reached, all 24 functions",
        *("dimension", "algorithm", "instances", *(f"{b} D" for b in BUDGETS), "log10 regret"),
        *("FisherSampler's lead [95 %]", "functions won", "p (Holm)"),
    )
    for dimension in DIMENSIONS:
        named = in_dimension(algorithms, dimension)
        leads = {
            name: shares(named[REFERENCE], BUDGETS)[:, -1] - shares(chosen, BUDGETS)[:, -1]
            for name, chosen in named.items()
            if REFERENCE in named and name != REFERENCE
            if covered(named[REFERENCE] + chosen, BUDGETS[-1])
        }
        p_values = statistics.holm([statistics.wilcoxon_p(lead) for lead in leads.values()])
        verdicts = {
            name: _lead(leads[name], p) for name, p in zip(leads, p_values.tolist(), strict=True)
        }
        for name, chosen in named.items():
            instances = str(len({h.instance for h in chosen}))
            end = f"{log_regrets(chosen, BUDGETS[-1]).mean():.3f}"
            row = [f"{dimension}-D", name, instances, *cells(chosen)]
            row += [end if covered(chosen, BUDGETS[-1]) else "–"]
            table.add_row(*row, *verdicts.get(name, ["–"] * 3))
    table.caption = (
        f"After so many evaluations; D: dimension. The regret, lead, share of the functions on "
        f"which FisherSampler has the larger mean share, a tie counting half, and p are those "
        f"after {BUDGETS[-1]} D. Lead and p (Wilcoxon): over the functions' means."
    )
    return table


def _lead(lead: Array, p: float) -> list[str]:
    mean, low, high = statistics.mean_interval(lead)
    won = np.mean((lead > 0) + 0.5 * (lead == 0))
    return [f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", f"{won:.0%}", f"{p:.1e}"]


def by_group(algorithms: Algorithms) -> Table:
    """Shares on COCO's groups of functions."""
    table = new_table(
        "Share of COCO's targets reached, by group of functions",
        *("dimension", "group", "algorithm", *(f"{b} D" for b in BUDGETS)),
    )
    for dimension in DIMENSIONS:
        for group, functions in GROUPS.items():
            for name, chosen in in_dimension(algorithms, dimension, functions).items():
                table.add_row(f"{dimension}-D", group, name, *cells(chosen))
    table.caption = ", ".join(f"{g}: functions {f[0]} to {f[-1]}" for g, f in GROUPS.items())
    return table


def running_times(algorithms: Algorithms) -> Table:
    """Functions on which a precision is reached, and the median of the expected running times."""
    table = new_table(
        "Functions on which a precision is reached, and median ERT / D",
        *("dimension", "algorithm", *(f"{p:g}" for p in PRECISIONS)),
    )
    for dimension in DIMENSIONS:
        for name, chosen in in_dimension(algorithms, dimension).items():
            if not covered(chosen, BUDGETS[-1]):
                continue
            row = []
            for precision in PRECISIONS:
                times = expected_running_times(chosen, precision, BUDGETS[-1])
                row.append(f"{np.isfinite(times).sum()} ({np.median(times):.1f})")
            table.add_row(f"{dimension}-D", name, *row)
    table.caption = (
        f"ERT: evaluations of all runs until the precision is reached, up to {BUDGETS[-1]} D each, "
        "over the number of runs that reach it; infinite where none does."
    )
    return table


def held_out(histories: Sequence[History], left_out: Sequence[int]) -> Table:
    """FisherSampler's shares with and without the instances on which methods were chosen."""
    table = new_table(
        f"FisherSampler without instances {', '.join(map(str, left_out))}",
        *("dimension", "instances", *(f"{b} D" for b in BUDGETS)),
    )
    for dimension in DIMENSIONS:
        if chosen := select([h for h in histories if h.instance not in left_out], dimension):
            instances = len({h.instance for h in chosen})
            table.add_row(f"{dimension}-D", str(instances), *cells(chosen))
    return table


def new_table(title: str, *columns: str) -> Table:
    """An empty table."""
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in TEXTS else "right")
    return table


def panel(
    title: str, algorithms: Algorithms, dimension: int, functions: Sequence[int] = ALL_FUNCTIONS
) -> Panel:
    """Shares of each algorithm against evaluations."""
    found = {}
    for name, chosen in in_dimension(algorithms, dimension, functions).items():
        means = shares(chosen, CURVE).mean(axis=0).tolist()
        found[name] = [m if covered(chosen, b) else None for m, b in zip(means, CURVE, strict=True)]
    return Panel(title, found)


def draw(algorithms: Algorithms, place: Path) -> None:
    """The pictures: all functions, and by group."""
    dimensions = [d for d in DIMENSIONS if select(algorithms[REFERENCE], d)]
    whole = [[panel(f"{d}-D", algorithms, d) for d in dimensions]]
    groups = [
        [panel(f"{d}-D, {group}", algorithms, d, functions) for d in dimensions]
        for group, functions in GROUPS.items()
    ]
    title = "Runtime distributions on COCO's functions"
    (place / "coco.svg").write_text(picture(title, CURVE, whole, (180, 200)))
    text = picture(f"{title}, by group", CURVE, groups, (180, 140))
    (place / "coco_groups.svg").write_text(text)
