"""Ten thousand trials: what a late suggestion costs and what it is worth.

    python -m experiments.scale --quick         400 trials of history, the next 100, one seed
    python -m experiments.scale --write         9,000 trials of history, the last 1,000, three seeds
    python -m experiments.scale --tail 300 --samplers fisher random

The problem is a rotated Rastrigin function in 10-D, whose optimum is 0. Its history is the same for
all samplers and left as earlier tuning would: half Sobol points, half normal ones around the twenty
best so far at shrinking scale. Each sampler then makes the last trials by ask and tell, in a
process of its own: CPU seconds a suggestion, peak memory, and the values found.

A sampler's tail is compared with fisher's seed by seed: the chance that a trial of fisher's is the
better one, with Mann–Whitney's p (the largest over seeds, by Holm over samplers; trials of one
study depend on each other, so p is a guide). A full run takes about half an hour, one process.
Rows are kept in runs/scale.jsonl, one for each sampler and seed.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table
from scipy.stats import mannwhitneyu
from scipy.stats.qmc import Sobol

from experiments.harness import rows, statistics
from experiments.harness.peers import make_sampler, sampler_version
from experiments.harness.problems import Params, Problem
from experiments.options import command_line

Array = NDArray[np.float64]

DIMENSION = 10
SAMPLERS = ("fisher", "tpe", "random", "cmaes")
DEFAULT_SAMPLERS = ("fisher", "tpe", "random")
GENERATIONS, PARENTS = 20, 20
WIDTHS = (0.2, 0.01)  # of the history's normal points, first and last, in units of the box


def rastrigin(x: Array, rotation: Array, centre: Array) -> Array:
    """Values at points ``(m, d)`` of the box [−5, 5]^d; 0 at the centre, shape ``(m,)``."""
    z = (x - centre) @ rotation.T
    values: Array = np.sum(z**2 + 10 - 10 * np.cos(2 * np.pi * z), -1)
    return values


@cache
def landscape(seed: int) -> tuple[Array, Array]:
    """Rotation and optimum of the function."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))
    return rotation, rng.uniform(-3, 3, DIMENSION)


def problem(seed: int) -> Problem:
    space: dict[str, BaseDistribution] = {
        f"x{j}": FloatDistribution(-5, 5) for j in range(DIMENSION)
    }

    def loss(params: Params) -> float:
        x = np.array([[params[name] for name in space]])
        return float(rastrigin(x, *landscape(seed))[0])

    return Problem("rastrigin10", space, loss)


def history(seed: int, count: int) -> tuple[Array, Array]:
    """Points in [−5, 5]^d and their values, shapes ``(count, d)`` and ``(count,)``."""
    rng = np.random.default_rng([seed, count])
    engine = Sobol(DIMENSION, rng=rng)
    x = 10 * engine.random(1 << (count // 2).bit_length())[: count - count // 2] - 5
    values = rastrigin(x, *landscape(seed))
    for width, chunk in zip(
        np.geomspace(*WIDTHS, GENERATIONS),
        np.array_split(np.arange(count // 2), GENERATIONS),
        strict=True,
    ):
        leaders = x[np.argsort(values)[:PARENTS]]
        parents = leaders[rng.integers(len(leaders), size=len(chunk))]
        children = np.clip(parents + 10 * width * rng.standard_normal(parents.shape), -5, 5)
        x = np.concatenate([x, children])
        values = np.append(values, rastrigin(children, *landscape(seed)))
    return x, values


@dataclass(frozen=True)
class Cell:
    sampler: str
    seed: int
    history: int
    tail: int

    def key(self) -> str:
        """Names the versions and all settings."""
        who = f"{self.sampler}@{sampler_version(self.sampler)}"
        return f"{who}/{self.seed}/{self.history}/{self.tail}"


def work(cell: Cell) -> rows.Row:
    """CPU seconds and values of the last trials, and the process's peak memory in MB."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = problem(cell.seed)
    x, values = history(cell.seed, cell.history)
    distributions = dict(task.space)
    study = optuna.create_study(sampler=make_sampler(cell.sampler, cell.seed))
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(distributions, point, strict=True)),
                distributions=distributions,
                value=value,
            )
            for point, value in zip(x.tolist(), values.tolist(), strict=True)
        ]
    )
    loaded = peak_memory()
    seconds, found = [], []
    for _ in range(cell.tail):
        start = time.process_time()
        trial = study.ask()
        params = task.suggest(trial)
        asked = time.process_time() - start
        value = task.loss(params)
        start = time.process_time()
        study.tell(trial, value)
        seconds.append(asked + time.process_time() - start)
        found.append(value)
    return {
        "seconds": seconds,
        "values": found,
        "best_before": float(values.min()),
        "loaded_mb": loaded,
        "peak_mb": peak_memory(),
    }


def peak_memory() -> float:
    """The most memory that this process has held, in MB.

    Linux's getrusage would count the parent's memory before exec too; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def superiority(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Chance that a value of ours is the smaller one, ties counting half, and its p-value."""
    result = mannwhitneyu(theirs, ours)
    return float(result.statistic) / (len(ours) * len(theirs)), float(result.pvalue)


def report(found: Mapping[Cell, rows.Row], cells: Sequence[Cell]) -> Table:
    first = cells[0]
    table = Table(
        title=f"rotated Rastrigin, {DIMENSION}-D: {first.history} trials of history, then "
        f"{first.tail} by each sampler"
    )
    table.add_column("sampler")
    names = ("seeds", "first s", "median ms", "p95 ms", "total s", "peak MB", "of which history")
    values = ("best before", "best of tail", "median of tail", "better than history")
    for name in (*names, *values, "fisher better", "p (Holm)"):
        table.add_column(name, justify="right")
    by_sampler = {
        s: {c.seed: row for c, row in found.items() if c.sampler == s}
        for s in dict.fromkeys(c.sampler for c in found)
    }
    against = compare(by_sampler)
    for s, made in by_sampler.items():
        tails = [np.array(row["values"]) for row in made.values()]
        seconds = np.concatenate([row["seconds"][1:] for row in made.values()])
        before = [row["best_before"] for row in made.values()]
        share = np.mean([np.mean(t < b) for t, b in zip(tails, before, strict=True)])
        chance, p = against.get(s, (float("nan"), float("nan")))
        table.add_row(
            *(s, str(len(made)), f"{np.mean([r['seconds'][0] for r in made.values()]):.2f}"),
            *(f"{1000 * np.median(seconds):.1f}", f"{1000 * np.quantile(seconds, 0.95):.1f}"),
            f"{np.mean([np.sum(r['seconds']) for r in made.values()]):.1f}",
            f"{max(r['peak_mb'] for r in made.values()):.0f}",
            f"{max(r['loaded_mb'] for r in made.values()):.0f}",
            *(f"{np.mean(before):.2f}", f"{np.mean([t.min() for t in tails]):.2f}"),
            *(f"{np.mean([np.median(t) for t in tails]):.2f}", f"{share:.1%}"),
            *((f"{chance:.0%}", f"{p:.0e}") if s in against else ("–", "–")),
        )
    table.caption = (
        "Means over seeds; times of all suggestions but the first, CPU; memory the largest. "
        "fisher better: chance that a trial of its tail is better than one of the sampler's."
    )
    return table


def compare(
    by_sampler: Mapping[str, Mapping[int, rows.Row]],
) -> dict[str, tuple[float, float]]:
    """Mean chance that fisher's trial is the better one, and p, for each other sampler."""
    ours = by_sampler.get("fisher", {})
    chances, raw = {}, {}
    for s, theirs in by_sampler.items():
        shared = sorted(set(ours) & set(theirs))
        if s != "fisher" and shared:
            pairs = [superiority(ours[k]["values"], theirs[k]["values"]) for k in shared]
            chances[s] = float(np.mean([chance for chance, _ in pairs]))
            raw[s] = max(p for _, p in pairs)
    corrected = statistics.holm(list(raw.values()))
    return {s: (chances[s], float(p)) for s, p in zip(raw, corrected, strict=True)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("scale", __doc__, "again write", quick="under 5 minutes")
    parser.add_argument("--history", type=int, help="trials before; 9,000 or, if quick, 400")
    parser.add_argument("--tail", type=int, help="trials that are made; 1,000 or, if quick, 100")
    parser.add_argument("--seeds", type=int, help="studies; 3 or, if quick, 1")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--workers", type=int, default=1, help="more than one disturbs the times")
    args = parser.parse_args(argv)
    before = args.history or (400 if args.quick else 9_000)
    tail = args.tail or (100 if args.quick else 1_000)
    seeds = args.seeds or (1 if args.quick else 3)
    cells = [Cell(s, seed, before, tail) for seed in range(seeds) for s in args.samplers]
    found = rows.collect(
        "scale", cells, work, workers=args.workers, own_process=True, again=args.again
    )
    console = Console(width=180, record=True)
    console.print(report(found, cells))
    if args.write:
        made_by = f"Made by `{rows.command('scale', argv)}`"
        rows.write(console, "scale", "Ten thousand trials", made_by)


if __name__ == "__main__":
    main()
