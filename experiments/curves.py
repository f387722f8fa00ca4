"""Pruners on learning curves: pruners and samplers at equal numbers of training steps.

    python -m experiments.curves --data DIR --quick     one task, one seed, four pruners
    python -m experiments.curves --data DIR             development tasks, seeds 100 to 102
    python -m experiments.curves --data DIR --final     final tasks, seeds 0 to 4; once

TaskSet (Metz et al. 2020, the files of the DyHPO authors): real validation losses at 51 steps of
1,000 Adam configurations of 8 parameters on each of 8 text tasks. DIR has them as NAME.npz with
`parameters`, `x` and `valid_loss`. Of the tasks in alphabetical order the odd ones are for
development and the even ones are final. Parameters are mapped to the unit interval in their
logarithm (betas as 1 − beta). A study chooses among the 1,000: a suggestion moves to the nearest
configuration of the table in the unit cube that was not tried yet, and the sampler is told of that.
`experiments.curve_tables` makes such tables of lcbench, which have `u` in place of `x`, each folder
of development or of final tasks alone: --all takes every file.

Without pruning a study has 50 trials. The others have the steps of 20, and are scored by the steps
until they have a complete trial as good as the best of FisherSampler's 50 (of the same task and
seed), and by the share of the table that is better than their best complete trial at equal steps.
The sampler "ranks" is FisherSampler without predicted ends of pruned and running trials.
With several workers a simulated clock runs, on which every step takes a unit of time; steps are
counted all the same. Rows are kept in runs/curves.jsonl.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from rich.table import Table

from experiments.harness import rows
from experiments.harness.statistics import wilcoxon_p
from fisherbo import FisherPruner, FisherSampler
from fisherbo.sampler.options import AlgorithmOptions

Array = NDArray[np.float64]

WHOLE_TRIALS, BUDGET = 50, 20  # trials without pruning; steps of whole trials with it


class EarlyDiscarding(BasePruner):
    """Every trial gets so many reports; a tenth of the trials, the best by then, goes on.

    i-Epoch (Egele et al. 2024), told as a pruner: compared with all trials before.
    """

    def __init__(self, reports: int, keep: float = 0.1) -> None:
        self._reports, self._keep = reports, keep

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is not of the best tenth at its step."""
        if len(trial.intermediate_values) != self._reports:
            return False
        step = max(trial.intermediate_values)
        trials = study.get_trials(deepcopy=False)
        seen = [t.intermediate_values[step] for t in trials if step in t.intermediate_values]
        ordered = sorted(v if math.isfinite(v) else math.inf for v in seen)
        value = trial.intermediate_values[step]
        kept = ordered[math.ceil(self._keep * len(ordered)) - 1]
        return not (math.isfinite(value) and value <= kept)


PRUNERS: Mapping[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "percentile75": lambda: PercentilePruner(75.0),
    "halving": SuccessiveHalvingPruner,
    "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=51),
    "patient": lambda: PatientPruner(MedianPruner(), patience=3),
    "early1": lambda: EarlyDiscarding(1),
    "early5": lambda: EarlyDiscarding(5),
    "fisher": FisherPruner,
}
SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "fisher": lambda seed: FisherSampler(seed=seed),
    "ranks": lambda seed: FisherSampler(seed=seed, _options=AlgorithmOptions(curve_ends=False)),
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class CurveTable:
    """Configurations with their curves.

    Attributes:
        names: Of the parameters.
        u: Configurations in the unit cube, shape ``(n, d)``.
        loss: Losses at each step, which may be NaN, shape ``(n, t)``.
    """

    names: tuple[str, ...]
    u: Array
    loss: Array

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The parameters' distributions."""
        return {name: FloatDistribution(0, 1) for name in self.names}

    def row(self, params: Mapping[str, Any]) -> int:
        """Which configuration has these parameters exactly."""
        u = np.array([params[name] for name in self.names])
        return int(np.abs(self.u - u).sum(1).argmin())

    def better(self, loss: float) -> float:
        """Share of the configurations that end below a loss."""
        return float((self.loss[:, -1] < loss).mean())


@cache
def table(path: str) -> CurveTable:
    """The table of a file of TaskSet."""
    data = np.load(path)
    names = tuple(str(name) for name in data["parameters"])
    if "u" in data:
        return CurveTable(names, data["u"], data["valid_loss"].astype(float))
    x = np.array(
        [c if not n.startswith("beta") else 1 - c for n, c in zip(names, data["x"].T, strict=True)]
    ).T
    logarithm = np.log(np.maximum(x, 1e-12))
    low, high = logarithm.min(0), logarithm.max(0)
    return CurveTable(names, (logarithm - low) / (high - low), data["valid_loss"].astype(float))


class FromTable(BaseSampler):
    """Moves another sampler's suggestions to the nearest configurations that were not tried."""

    def __init__(self, sampler: BaseSampler, curves: CurveTable) -> None:
        self._sampler, self._curves = sampler, curves
        self._tried = np.zeros(len(curves.u), dtype=bool)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters of the table."""
        return self._curves.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The nearest configuration to what the sampler suggests."""
        own = self._sampler.infer_relative_search_space(study, trial)
        found = self._sampler.sample_relative(study, trial, own)
        for name, distribution in search_space.items():
            if name not in found:
                found[name] = self._sampler.sample_independent(study, trial, name, distribution)
        u = np.array([found[name] for name in self._curves.names])
        distance = np.where(self._tried, np.inf, ((self._curves.u - u) ** 2).sum(1))
        nearest = int(distance.argmin())
        self._tried[nearest] = True
        return dict(zip(self._curves.names, self._curves.u[nearest].tolist(), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Never called: all parameters are relative."""
        raise AssertionError(param_name)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the sampler."""
        self._sampler.after_trial(study, trial, state, values)


@dataclass(frozen=True)
class Cell:
    """One study."""

    path: str
    sampler: str
    pruner: str
    seed: int
    workers: int = 1

    @property
    def task(self) -> str:
        """Name of the task."""
        return Path(self.path).stem

    def key(self) -> str:
        """Text that tells this cell from every other."""
        parts = {**asdict(self), "path": self.task}
        return " ".join(f"{name}={value}" for name, value in parts.items())


def run(cell: Cell) -> rows.Row:
    """The steps at which a study's best complete loss fell, with what it fell to."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = table(cell.path)
    study = optuna.create_study(
        sampler=FromTable(SAMPLERS[cell.sampler](cell.seed), curves),
        pruner=PRUNERS[cell.pruner](),
        study_name="curves",  # Hyperband draws a trial's bracket from it
    )
    began, length = time.perf_counter(), curves.loss.shape[1]
    budget = (WHOLE_TRIALS if cell.pruner == "none" else BUDGET) * length
    trace: list[tuple[int, float]] = []
    used, best, asked, complete = 0, math.inf, 0, 0
    running: list[tuple[int, int, int, Trial, Array]] = []  # now, number, when it began …

    def start(now: int) -> None:
        nonlocal asked
        if asked < len(curves.u):
            trial = study.ask(curves.space)
            losses = curves.loss[curves.row(trial.params)]
            heapq.heappush(running, (now + 1, asked, now + 1, trial, losses))
            asked += 1

    for _ in range(cell.workers):
        start(0)
    while running and used < budget:
        now, number, begin, trial, losses = heapq.heappop(running)
        used += 1
        step = now - begin
        trial.report(float(losses[step]), step)
        if step + 1 == length:
            end = float(losses[-1])
            failed = not math.isfinite(end)
            study.tell(trial, None if failed else end, TrialState.FAIL if failed else None)
            complete += not failed
            if end < best:
                best = end
                trace.append((used, best))
            start(now)
        elif trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            start(now)
        else:
            heapq.heappush(running, (now + 1, number, begin, trial, losses))
    seconds = time.perf_counter() - began
    return {"trace": trace, "trials": asked, "complete": complete, "seconds": seconds}


def best_at(trace: Sequence[Sequence[float]], steps: float) -> float:
    """The best loss after so many steps."""
    return min((loss for used, loss in trace if used <= steps), default=math.inf)


def steps_until(trace: Sequence[Sequence[float]], loss: float) -> float:
    """Steps until a loss is reached; infinite if it never is."""
    return next((used for used, found in trace if found <= loss), math.inf)


def report(console: Console, found: Mapping[Cell, rows.Row], length: int = 51) -> None:
    """Tables of all methods, over tasks and seeds."""
    methods = sorted({(c.sampler, c.pruner) for c in found})
    problems = sorted({(c.path, c.seed) for c in found})
    base = {
        (c.path, c.seed): r for c, r in found.items() if (c.sampler, c.pruner) == ("fisher", "none")
    }
    rows_of = {(c.sampler, c.pruner, c.path, c.seed): r for c, r in found.items()}
    shown = Table(title="By method; medians over tasks and seeds")
    for name in ("sampler", "pruner", "steps / 50 trials", "reached", "better % @5", "@10", "@20",
                 "trials", "complete", "fisher's wins @10", "p"):  # fmt: skip
        shown.add_column(name, justify="left" if name in ("sampler", "pruner") else "right")
    for method in methods:
        mine = [p for p in problems if (*method, *p) in rows_of and p in base]
        if not mine:
            continue
        shares, ranks, own = [], [], []
        for p in mine:
            row = rows_of[(*method, *p)]
            target = best_at(base[p]["trace"], math.inf)
            shares.append(steps_until(row["trace"], target) / (WHOLE_TRIALS * length))
            curves = table(p[0])
            ranks.append([curves.better(best_at(row["trace"], k * length)) for k in (5, 10, 20)])
            other = rows_of.get(("fisher", "fisher", *p))
            if other is not None:
                own.append(curves.better(best_at(other["trace"], 10 * length)) - ranks[-1][1])
        difference = np.array(own)
        wins = (difference < 0).mean() + 0.5 * (difference == 0).mean() if own else math.nan
        ranked = 100 * np.median(np.array(ranks), 0)
        counts = [
            np.median([rows_of[(*method, *p)][k] for p in mine]) for k in ("trials", "complete")
        ]
        shown.add_row(
            *method, f"{np.median(shares):.2f}", f"{np.isfinite(shares).sum()}/{len(mine)}",
            *(f"{v:.1f}" for v in ranked), *(f"{v:.0f}" for v in counts),
            f"{wins:.0%}", f"{wilcoxon_p(difference):.3f}",
        )  # fmt: skip
    console.print(shown)


def paths(folder: Path, final: bool, every: bool = False) -> list[str]:
    """Files of the tasks: of the alphabetical order, the odd ones, or the even ones if final."""
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise SystemExit(f"no .npz file in {folder}; give the folder of TaskSet's tables by --data")
    return [str(path) for path in (found if every else found[int(final) :: 2])]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of TaskSet's tables")
    parser.add_argument("--final", action="store_true", help="final tasks in place of development")
    parser.add_argument("--all", action="store_true", help="every task of the folder")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["fisher", "tpe"])
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS))
    parser.add_argument("--workers", type=int, default=1, help="of a study, on a simulated clock")
    parser.add_argument("--write", action="store_true", help="write experiments/results/curves.md")
    args = parser.parse_args(argv)
    seeds = args.seeds or (range(5) if args.final else range(100, 103))
    files = paths(args.data, args.final, args.all)
    pruners = args.pruners
    if args.quick:
        files, seeds, pruners = files[:1], seeds[:1], ["none", "median", "early5", "fisher"]
    cells = [
        Cell(path, sampler, pruner, seed, args.workers)
        for seed in seeds for pruner in pruners for path in files for sampler in args.samplers
    ]  # fmt: skip
    base = [Cell(path, "fisher", "none", seed, args.workers) for seed in seeds for path in files]
    found = rows.collect("curves", list(dict.fromkeys([*base, *cells])), run)
    console = Console(record=True, width=130)
    report(console, found)
    if args.write:
        made_by = f"Made by `{rows.command('curves', argv)}`."
        rows.write(console, "curves", "Pruners on learning curves (TaskSet)", made_by)


if __name__ == "__main__":
    main()
