"""Time of one suggestion: FisherSampler against its peers, in one run, one thread each.

    python -m experiments.latency --quick       d = 5, n = 50 and 200
    python -m experiments.latency --dimensions 5 10 20 --trials 50 200 500 1000

Every sampler is given the same n finished trials, then asks and tells; the median and the mean of
CPU milliseconds over the suggestions are printed, and the ratio of GPSampler's median to it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.traces import make_sampler

SAMPLERS = ("fisher", "gp", "tpe")


def objective(params: dict[str, float]) -> float:
    """A rotated, ill-conditioned bowl with a ripple: neither flat nor solved early."""
    x = np.array([params[name] for name in sorted(params)])
    mixed = x + 0.3 * np.roll(x, 1)
    return float(np.sum(10 ** np.linspace(0, 2, len(x)) * mixed**2) + np.sum(1 - np.cos(6 * x)))


def history(dimension: int, count: int) -> list[optuna.trial.FrozenTrial]:
    """Finished trials as a study in progress has them: half random, half near the optimum."""
    rng = np.random.default_rng(dimension * 10_000 + count)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        f"x{j:02d}": optuna.distributions.FloatDistribution(-5, 5) for j in range(dimension)
    }
    trials = []
    for i in range(count):
        spread = 5.0 if i % 2 else 1.5
        x = np.clip(rng.uniform(-spread, spread, dimension), -5, 5)
        params = dict(zip(distributions, x.tolist(), strict=True))
        trials.append(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=objective(params)
            )
        )
    return trials


def milliseconds(sampler: str, dimension: int, count: int, repeats: int) -> np.ndarray:
    """CPU milliseconds of ``repeats`` suggestions in a row, after one that is not counted."""
    study = optuna.create_study(sampler=make_sampler(sampler, 0))
    study.add_trials(history(dimension, count))
    elapsed = []
    for _ in range(repeats + 1):
        start = time.process_time()
        trial = study.ask()
        params = {f"x{j:02d}": trial.suggest_float(f"x{j:02d}", -5, 5) for j in range(dimension)}
        elapsed.append(1000 * (time.process_time() - start))
        study.tell(trial, objective(params))
    return np.array(elapsed[1:])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="d = 5, n = 50 and 200")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 200, 500])
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    args = parser.parse_args(argv)
    if args.quick:
        args.dimensions, args.trials = [5], [50, 200]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = Table(title="CPU milliseconds a suggestion, one thread")
    for name in ("d", "n", "sampler", "median", "mean", "GPSampler / it (medians)"):
        table.add_column(name, justify="right")
    cells = [(d, n, s) for d in args.dimensions for n in args.trials for s in args.samplers]
    times = {c: milliseconds(c[2], c[0], c[1], args.repeats) for c in track(cells, "latency")}
    for (d, n, s), t in times.items():
        peer = times.get((d, n, "gp"))
        ratio = f"{np.median(peer) / np.median(t):.1f}" if peer is not None else "–"
        table.add_row(str(d), str(n), s, f"{np.median(t):.1f}", f"{np.mean(t):.1f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
