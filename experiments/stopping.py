"""Whether StopWhenConverged keeps its promise, and what it saves, on real tuning surfaces.

    python -m experiments.stopping --data FOLDER --write     some 15 minutes on one core
    python -m experiments.stopping --data FOLDER --quick     one task of each space, two minutes

Every run is a study of at most 100 trials on a development task of `experiments.surfaces`, with the
bound of the remaining regret after each trial from the tenth on; where the callback would have
stopped it follows for any argument. The true regret is the distance of the best value so far from
the best known: of 20,000 random configurations and of all runs on the task. A promise is kept where
a run ends with a true regret of at most what was asked for. The constants of the bound were chosen
on seed 200 and one more; seed 300 was not looked at before. The bound of a Gaussian
process as it is, and random search, run on the first four tasks of each space.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from experiments import surfaces
from experiments.harness import rows
from experiments.harness.peers import make_sampler, sampler_version
from experiments.options import command_line
from fisherbo.acquisition.regret import CALIBRATED, GAUSSIAN, Scale
from fisherbo.sampler import fit_store
from fisherbo.sampler.models import ModelFitter
from fisherbo.sampler.regret import OPTIONS, remaining_regret
from fisherbo.sampler.stopping import least_trials, settled
from fisherbo.sampler.trials import StudyReader
from fisherbo.sampler.user_settings import UserSettings

BUDGET, FIRST, PATIENCE = 100, 10, 3
PROBABILITIES = (0.5, 0.8, 0.9, 0.95)
RELATIVE = (0.2, 0.1, 0.05, 0.02)
FAR_TOO_SMALL = 1e-4
SCALES: Mapping[str, Scale] = {"calibrated": CALIBRATED, "gaussian": GAUSSIAN}
CHOSEN, FRESH = 200, 300
MARKS = (10, 20)  # trials without an improvement, of the simple rules


@dataclass(frozen=True)
class Cell:
    """One study."""

    sampler: str
    problem: str
    seed: int
    scale: str = "calibrated"

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"{self.sampler}@{sampler_version('fisher')}"
        return f"{who}/{self.problem}/{self.seed}/{BUDGET}/{self.scale}"


@dataclass(frozen=True)
class Outcome:
    """Where a rule ends one run.

    Attributes:
        count: Trials until then; the whole budget if it does not stop.
        stopped: Whether it does.
        regret: The true one in the end, as a share of what was gained by then.
    """

    count: int
    stopped: bool
    regret: float


def work(cell: Cell) -> rows.Row:
    """Values of one study, and the bounds after each trial from the tenth on."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = surfaces.problem(cell.problem)
    study = optuna.create_study(sampler=make_sampler(cell.sampler, cell.seed))
    reader, fitter = StudyReader(), ModelFitter(options=OPTIONS)
    parameters, bounds, milliseconds = 0, [], []
    for number in range(BUDGET):
        trial = study.ask()
        study.tell(trial, problem.loss(problem.suggest(trial)))
        if number + 1 < FIRST:
            continue
        start = time.process_time()
        found = remaining_regret(study, reader, fitter, UserSettings(), 0, SCALES[cell.scale])
        assert found is not None  # there are no constraints
        fit_store.write_for_regret(study, found.names, found.fits)
        milliseconds.append(1e3 * (time.process_time() - start))
        bounds.append([found.bound(p) for p in PROBABILITIES])
        parameters = len(found.names)
    values = [t.value for t in study.get_trials(deepcopy=False)]
    return {
        "values": values,
        "bounds": bounds,
        "parameters": parameters,
        "milliseconds": float(np.mean(milliseconds)),
    }


def optima(found: Mapping[Cell, rows.Row]) -> dict[str, float]:
    """The best value known of each task."""
    best = {name: low for name, (low, _) in surfaces.scales().items()}
    for cell, row in found.items():
        best[cell.problem] = min(best[cell.problem], *row["values"])
    return best


def bound_rule(row: rows.Row, relative: float, probability: float) -> int | None:
    """Trials after which `StopWhenConverged` stops a run; None if it does not."""
    column = PROBABILITIES.index(probability)
    bounds = [row_of[column] for row_of in row["bounds"]]
    gains = gained(row["values"])
    for count in range(least_trials(row["parameters"]), BUDGET + 1):
        if settled(bounds[: count - FIRST + 1], relative * gains[count - 1], PATIENCE):
            return count
    return None


def patience_rule(row: rows.Row, patience: int) -> int | None:
    """Trials after which there was no improvement for so many."""
    best = np.minimum.accumulate(row["values"])
    for count in range(least_trials(row["parameters"]), BUDGET + 1):
        if count > patience and best[count - 1] == best[count - 1 - patience]:
            return count
    return None


def gained(values: Sequence[float]) -> np.ndarray:
    """Distance of the best value after each trial from the median of the first ten."""
    return float(np.median(values[:FIRST])) - np.minimum.accumulate(values)


def outcome(cell: Cell, row: rows.Row, count: int | None, best: Mapping[str, float]) -> Outcome:
    end = BUDGET if count is None else count
    reached = float(np.min(row["values"][:end]))
    gain = float(gained(row["values"])[end - 1])
    regret = reached - best[cell.problem]
    share = regret / gain if gain > 0 else (0.0 if regret <= 0 else np.inf)
    return Outcome(end, count is not None, share)


def interval(kept: int, of: int) -> str:
    """A share with its exact 95 % interval."""
    if not of:
        return "–"
    exact = binomtest(kept, of).proportion_ci()
    return f"{kept / of:.0%} [{exact.low:.0%}, {exact.high:.0%}]"


def summary(ends: Sequence[Outcome], relative: float) -> list[str]:
    """Cells of a line: stopped runs, promises kept, trials saved."""
    stopped = [end for end in ends if end.stopped]
    kept = sum(end.regret <= relative for end in stopped)
    return [
        f"{len(stopped)} of {len(ends)}",
        interval(kept, len(stopped)),
        f"{np.median([end.count for end in stopped]):.0f}" if stopped else "–",
        f"{1 - np.mean([end.count for end in ends]) / BUDGET:.0%}",
        f"{np.median([end.regret for end in ends]):.3f}",
    ]


GROUPS: Mapping[str, tuple[str, int, str]] = {
    "FisherSampler, a seed of the choice": ("fisher", CHOSEN, "calibrated"),
    "FisherSampler, another seed": ("fisher", FRESH, "calibrated"),
    "FisherSampler, another seed, bound of the Gaussian process": ("fisher", FRESH, "gaussian"),
    "RandomSampler": ("random", FRESH, "calibrated"),
}
"""Sampler, seed and scale of the runs that belong together."""
MAIN, CONTROLS = ("fisher", "calibrated"), 4  # tasks of each space for the others


def groups(found: Mapping[Cell, rows.Row]) -> dict[str, list[Cell]]:
    """The runs that belong together, by what they are called."""
    cells = {
        name: [cell for cell in found if (cell.sampler, cell.seed, cell.scale) == group]
        for name, group in GROUPS.items()
    }
    return {name: group for name, group in cells.items() if group}


def coverage(found: Mapping[Cell, rows.Row]) -> Table:
    """How often the true regret is within the bound, over all trials from the tenth on."""
    best = optima(found)
    table = Table(title="Share of the trials after which the true regret is within the bound")
    for column in ("runs", "number", *(f"{p:.0%} bound" for p in PROBABILITIES)):
        table.add_column(column, justify="left" if column == "runs" else "right")
    for name, cells in groups(found).items():
        held = [within(found[cell], best[cell.problem]) for cell in cells]
        shares = np.concatenate(held).mean(0)
        table.add_row(name, str(len(cells)), *(f"{share:.1%}" for share in shares))
    return table


def within(row: rows.Row, best: float) -> np.ndarray:
    """Whether the true regret is within the bound, by trial and probability."""
    reached = np.minimum.accumulate(row["values"])[FIRST - 1 :]
    held: np.ndarray = (reached - best)[:, None] <= np.array(row["bounds"])
    return held


def promises(name: str, cells: Sequence[Cell], found: Mapping[Cell, rows.Row]) -> Table:
    """A line for each regret and probability, and the simple rules on the same runs."""
    best = optima(found)
    table = Table(title=f"{name}: {len(cells)} runs of at most {BUDGET} trials")
    heads = ("stopped", "promise kept [95 %]", "median trial", "trials saved", "median regret")
    for column in ("rule", "regret", *heads):
        table.add_column(column, justify="left" if column == "rule" else "right")

    def add(rule: str, relative: float, counts: Sequence[int | None]) -> None:
        pairs = zip(cells, counts, strict=True)
        ends = [outcome(cell, found[cell], count, best) for cell, count in pairs]
        table.add_row(rule, f"{relative:g}", *summary(ends, relative))

    for p in PROBABILITIES[1:]:
        for relative in (*RELATIVE, *((FAR_TOO_SMALL,) if p == 0.9 else ())):
            add(f"bound, {p:.0%}", relative, [bound_rule(found[c], relative, p) for c in cells])
        table.add_section()
    for patience in MARKS if cells[0].scale == "calibrated" else ():
        counts = [patience_rule(found[cell], patience) for cell in cells]
        for relative in RELATIVE:
            add(f"no improvement for {patience}", relative, counts)
    return table


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Task by task, a space after the other, so that a part of them is of all spaces."""
    return [
        Cell(sampler, f"{space}/{tasks[k]}", seed, scale)
        for k in range(1 if args.quick else max(map(len, surfaces.DEVELOPMENT.values())))
        for space, tasks in surfaces.DEVELOPMENT.items()
        for sampler, seed, scale in GROUPS.values()
        if k < min(len(tasks), len(tasks) if (sampler, scale) == MAIN else CONTROLS)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("stopping", __doc__, "data workers write", quick="one task of each space")
    parser.set_defaults(workers=1)
    args = parser.parse_args(argv)
    surfaces.require_data(parser, args.data)
    found = rows.collect("stopping", cells_of(args), work, workers=args.workers)
    console = Console(width=130, record=True)
    console.print(coverage(found))
    for name, cells in groups(found).items():
        console.print(promises(name, cells, found))
    spent = np.median([row["milliseconds"] for row in found.values()])
    console.print(f"A bound takes {spent:.1f} CPU ms, in the median of the runs' means.")
    if args.write:
        made_by = "Made by `python -m experiments.stopping --data FOLDER --write`"
        rows.write(console, "stopping", "When StopWhenConverged stops, and whether it may", made_by)


if __name__ == "__main__":
    main()
