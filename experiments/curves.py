"""Pruners on learning curves: pruners and samplers at equal numbers of training steps, or seconds.

    python -m experiments.curves --taskset DIR --yahpo DIR --quick    one task each, few pruners
    python -m experiments.curves --taskset DIR --yahpo DIR            development tasks
    python -m experiments.curves --taskset DIR --yahpo DIR --final --write    final tasks; once

The tasks are those of `experiments.curve_tasks`, of the folders that are given; those that cross
need none. On TaskSet a suggestion moves to the nearest configuration of the table in the unit cube
that was not tried yet, and the sampler is told of that.

The yardstick of a task and seed is FisherSampler without a pruner: the best of its 50 trials, and
what they cost. A study with another sampler or pruner gets two fifths of that, and up to a tenth
more than all of it while it has no complete trial that is as good (up to a hundredth of what the
median configuration is worse by). It is scored by the share of the yardstick's steps that it needs
for that, and by its best complete trial at equal steps, for which the share of random
configurations that end better is told too.

With `--cost seconds` all of this is in seconds, which a trial keeps in its user attribute
"seconds". With several workers a simulated clock runs, on which every step takes its seconds, or a
unit of time. Both are written to files of their own, as are some methods alone (`--methods`). The
sampler "ranks" is FisherSampler without predicted ends of pruned and running trials. Rows are kept
in runs/curves.jsonl.
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
from optuna.distributions import BaseDistribution
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

from experiments import curve_tasks, surfaces
from experiments.curve_tasks import Curve, CurveTable
from experiments.harness import rows
from experiments.harness.statistics import wilcoxon_p
from fisherbo import FisherPruner, FisherSampler
from fisherbo.sampler.options import AlgorithmOptions

Array = NDArray[np.float64]

WHOLE_TRIALS = 50  # of the yardstick
LEAST, MOST = 0.4, 1.1  # of its cost, for other studies
MARKS = (0.1, 0.2, 0.4)  # of its cost, at which studies are compared


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


PRUNERS: Mapping[str, Callable[[str], BasePruner]] = {
    "none": lambda _: NopPruner(),
    "median": lambda _: MedianPruner(),
    "percentile75": lambda _: PercentilePruner(75.0),
    "halving": lambda _: SuccessiveHalvingPruner(),
    "hyperband": lambda _: HyperbandPruner(min_resource=1),
    "patient": lambda _: PatientPruner(MedianPruner(), patience=3),
    "early1": lambda _: EarlyDiscarding(1),
    "early5": lambda _: EarlyDiscarding(5),
    "fisher": lambda cost: FisherPruner(cost=cost),
}
SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "fisher": lambda seed: FisherSampler(seed=seed),
    "ranks": lambda seed: FisherSampler(seed=seed, _options=AlgorithmOptions(curve_ends=False)),
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


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
class StudyCell:
    """One study, told from every other by all that it is made of."""

    def key(self) -> str:
        """Text that tells this cell from every other."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


@dataclass(frozen=True)
class Cell(StudyCell):
    """One study on learning curves."""

    task: str
    sampler: str
    pruner: str
    seed: int
    workers: int = 1
    cost: str = "steps"

    @property
    def problem(self) -> tuple[str, int]:
        """What it is compared on."""
        return self.task, self.seed

    @property
    def method(self) -> tuple[str, str]:
        """What is compared."""
        return self.sampler, self.pruner


YARDSTICK = ("fisher", "none")


@cache
def yardstick(task: str, seed: int, cost: str) -> tuple[float, float]:
    """A loss as good as the best of FisherSampler's whole trials, and what they cost."""
    row = simulated(Cell(task, *YARDSTICK, seed, 1, cost), lambda _, __, ended: ended)
    return curve_tasks.nearly(task, row["trace"][-1][1]), row["used"]


def run(cell: Cell) -> rows.Row:
    """What a study's best complete loss fell to, and at which share of the yardstick's cost."""
    target, whole = yardstick(cell.task, cell.seed, cell.cost)

    def ends(used: float, best: float, ended: bool) -> bool:
        if cell.method == YARDSTICK:
            return ended
        return used >= LEAST * whole and (best <= target or used >= MOST * whole)

    row = simulated(cell, ends)
    row["trace"] = [(used / whole, loss) for used, loss in row["trace"]]
    return row


def simulated(cell: Cell, ends: Callable[[float, float, bool], bool]) -> rows.Row:
    """A study until it ends, by what it used, its best loss and whether it has 50 trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = curve_tasks.task(cell.task)
    sampler = SAMPLERS[cell.sampler](cell.seed)
    study = optuna.create_study(
        sampler=FromTable(sampler, task) if isinstance(task, CurveTable) else sampler,
        pruner=PRUNERS[cell.pruner](cell.cost),
        study_name="curves",  # Hyperband draws a trial's bracket from it
    )
    began, used, best, asked, complete = time.process_time(), 0.0, math.inf, 0, 0
    trace: list[tuple[float, float]] = []
    running: list[tuple[float, int, int, Trial, Curve]] = []  # when a step ends, number, step …

    def step_cost(curve: Curve, step: int) -> float:
        return float(curve.seconds[step] - (curve.seconds[step - 1] if step else 0.0))

    def start(now: float) -> None:
        nonlocal asked
        trial = study.ask()
        curve = task.curve(task.suggest(trial))
        if cell.cost == "steps":
            curve = Curve(curve.loss, np.arange(1.0, len(curve.loss) + 1))
        heapq.heappush(running, (now + step_cost(curve, 0), asked, 0, trial, curve))
        asked += 1

    for _ in range(cell.workers):
        start(0.0)
    while not ends(used, best, complete >= WHOLE_TRIALS):
        now, number, step, trial, curve = heapq.heappop(running)
        used += step_cost(curve, step)
        trial.set_user_attr("seconds", float(curve.seconds[step]))
        trial.report(float(curve.loss[step]), step)
        if step + 1 == len(curve.loss):
            end = float(curve.loss[-1])
            failed = not math.isfinite(end)
            study.tell(trial, None if failed else end, TrialState.FAIL if failed else None)
            complete += 1
            if end < best:
                best = end
                trace.append((used, best))
            start(now)
        elif trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            start(now)
        else:
            heapq.heappush(
                running, (now + step_cost(curve, step + 1), number, step + 1, trial, curve)
            )
    seconds = time.process_time() - began
    return {"trace": trace, "used": used, "trials": asked, "complete": complete, "seconds": seconds}


def best_at(row: rows.Row, share: float) -> float:
    """The best loss at a share of the yardstick's cost."""
    return min((loss for used, loss in row["trace"] if used <= share), default=math.inf)


def share_until(row: rows.Row, loss: float) -> float:
    """The share of the yardstick's cost until a loss is reached; infinite if it never is."""
    return next((used for used, found in row["trace"] if found <= loss), math.inf)


def median_interval(values: Array) -> tuple[float, float, float]:
    """Median with its 95 % bootstrap interval; infinite values are larger than any other."""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(4000, len(values)))]
    medians = np.sort(np.median(np.minimum(drawn, 1e9), 1))
    low, high = medians[[100, 3899]]
    return float(np.median(np.minimum(values, 1e9))), float(low), float(high)


def shown(value: float) -> str:
    """A share of the yardstick's cost."""
    return f"{value:.2f}" if value <= MOST else f">{MOST}"


def by_task(problems: Sequence[tuple[str, int]], values: Sequence[float]) -> Array:
    """Means over seeds, by task."""
    return np.array(
        [
            np.mean([v for (t, _), v in zip(problems, values, strict=True) if t == task])
            for task in sorted({task for task, _ in problems})
        ]
    )


def report(console: Console, title: str, found: Mapping[Cell, rows.Row]) -> None:
    """A table of all methods over the tasks and seeds of one suite."""
    own = {c.problem: r for c, r in found.items() if c.method == ("fisher", "fisher")}
    base = {c.problem: r for c, r in found.items() if c.method == YARDSTICK}
    problems = sorted(base)
    tasks = len({task for task, _ in problems})
    table = Table(title=f"{title}: {tasks} tasks, {len(problems)} runs")
    marks = [f"better % @{mark}" for mark in MARKS]
    for name in ("sampler", "pruner", "share [95 %]", "reached", "worst task", *marks,
                 "complete", "wins @0.2", "p"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("sampler", "pruner") else "right")
    for method in sorted({c.method for c in found}):
        mine = {c.problem: r for c, r in found.items() if c.method == method and c.problem in base}
        targets = {p: curve_tasks.nearly(p[0], best_at(base[p], math.inf)) for p in mine}
        shares = np.array([share_until(mine[p], targets[p]) for p in mine])
        if method == YARDSTICK:
            shares = np.ones(len(mine))
        worst = max(
            float(np.median([min(s, 9.0) for p, s in zip(mine, shares, strict=True) if p[0] == t]))
            for t in {task for task, _ in mine}
        )
        ranks = 100 * np.array(
            [[curve_tasks.better(p[0], best_at(r, k)) for k in MARKS] for p, r in mine.items()]
        )
        paired = [p for p in mine if p in own]
        losses = [(best_at(own[p], MARKS[1]), best_at(mine[p], MARKS[1])) for p in paired]
        wins = by_task(paired, [float(np.sign(b - a)) if a != b else 0.0 for a, b in losses])
        median, low, high = median_interval(shares)
        table.add_row(
            method[0],
            "FisherPruner" if method[1] == "fisher" else method[1],
            f"{shown(median)} [{shown(low)}, {shown(high)}]",
            f"{(shares <= MOST).sum()}/{len(mine)}",
            shown(worst),
            *(f"{v:.1f}" for v in np.median(ranks, 0)),
            f"{np.median([r['complete'] for r in mine.values()]):.0f} of "
            f"{np.median([r['trials'] for r in mine.values()]):.0f}",
            "" if method == ("fisher", "fisher") else f"{(1 + wins.mean()) / 2:.0%}",
            "" if method == ("fisher", "fisher") else f"{wilcoxon_p(wins):.3f}",
        )
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--taskset", type=Path, help="folder of TaskSet's files")
    parser.add_argument("--yahpo", type=Path, help="folder of YAHPO's scenarios")
    parser.add_argument("--final", action="store_true", help="final tasks in place of development")
    parser.add_argument("--quick", action="store_true", help="a task of each suite, one seed")
    parser.add_argument("--suites", nargs="+", help="some of them; all that there are by default")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["fisher", "tpe"])
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=list(PRUNERS))
    parser.add_argument(
        "--methods", nargs="+", help="as tpe:median, in place of all pairs of these"
    )
    parser.add_argument("--workers", type=int, default=1, help="of a study, on a simulated clock")
    parser.add_argument("--cost", choices=("steps", "seconds"), default="steps")
    parser.add_argument("--write", action="store_true", help="write a file in experiments/results")
    args = parser.parse_args(argv)
    for folder, variable, pattern in (
        (args.taskset, curve_tasks.TASKSET, "*.npz"),
        (args.yahpo, surfaces.DATA, "lcbench/model.onnx"),
    ):
        if folder is not None:
            if not any(folder.glob(pattern)):
                parser.error(f"there is no {pattern} in {folder}")
            os.environ[variable] = str(folder.resolve())
    suites = curve_tasks.names(args.final)
    if unknown := set(args.suites or ()) - set(suites):
        parser.error(f"no suites {sorted(unknown)} with these folders; there are {list(suites)}")
    seeds = args.seeds or ((0, 1) if args.final else (100, 101))
    pruners, count = args.pruners, None
    if args.quick:
        seeds, pruners, count = seeds[:1], ["none", "median", "early5", "fisher"], 1
    pairs = [tuple(m.split(":")) for m in args.methods or ()]
    if wrong := [p for p in pairs if len(p) != 2 or p[0] not in SAMPLERS or p[1] not in PRUNERS]:
        parser.error(f"--methods are SAMPLER:PRUNER of {list(SAMPLERS)}, {list(PRUNERS)}: {wrong}")
    methods = pairs or [(sampler, p) for p in pruners for sampler in args.samplers]
    console = Console(record=True, width=150)
    every: dict[Cell, rows.Row] = {}
    for suite in args.suites or suites:
        cells = [
            Cell(task, sampler, pruner, seed, args.workers, args.cost)
            for seed in seeds
            for task in suites[suite][:count]
            for sampler, pruner in dict.fromkeys([YARDSTICK, *methods])
        ]
        found = rows.collect("curves", cells, run)
        report(console, suite, found)
        every |= found
    if len(args.suites or suites) > 1:
        report(console, "all of them", every)
    if args.write:
        made_by = f"Made by `{rows.command('curves', argv)}`."
        parts = {"_part": pairs, "_workers": args.workers > 1, "_seconds": args.cost == "seconds"}
        name = "curves" + "".join(part for part, wanted in parts.items() if wanted)
        rows.write(console, name, "Pruners on learning curves", made_by)


if __name__ == "__main__":
    main()
