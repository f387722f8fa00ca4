"""What a belief about the optimum is worth, right or wrong, on real tuning surfaces.

    python -m experiments.priors --data FOLDER --dev        tasks that the method was chosen on
    python -m experiments.priors --data FOLDER --write      other data sets: run once, eight minutes
    python -m experiments.priors --data FOLDER --quick      one task of each space, two minutes

FOLDER is that of `experiments.surfaces`. Every run is a study of 50 trials with the sampler's own
first design, on a task with one of four priors:

    none        no belief
    transfer    for each parameter the mean and standard deviation of the best configurations of the
                other tasks of development of the same space, and how often each category was best
    own         a standard deviation of a fifth of the range around a centre that is off the task's
                own best configuration by one draw of that; .7 for a category, which is the right
                one with probability .7
    misleading  the same width around the worst configuration, and .7 for its categories

Best and worst are those of 4,000 random configurations. The sampler's use of a prior is compared
with πBO's plain decay (weight 10/n), in the same sampler with the same first design. Regret is
normalised as in `experiments.surfaces`. Intervals are bootstraps over tasks, p is Wilcoxon's on the
tasks' means. "As without after" is the number of trials after which a search without a prior is as
good as with it after 50.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from rich.console import Console, Group
from rich.table import Table

from experiments import surfaces
from experiments.harness import rows, statistics
from experiments.harness.peers import sampler_version
from experiments.harness.problems import Params
from experiments.options import command_line
from fisherbo import FisherSampler
from fisherbo.acquisition.belief import BeliefOptions
from fisherbo.prior import LogNormal, Normal
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.priors import Priors
from fisherbo.sampler.search_space import from_params, to_params, to_space

Array = NDArray[np.float64]

BUDGET = 50
MARKS = (1, 10, 20, 50)
RANDOM = 4000
WIDTH = 0.2  # of the range, one standard deviation of the artificial priors
NARROWEST = 0.1  # standard deviation of the priors by transfer
SHARE = 0.7
LEAST_TASKS = 3  # in which a parameter exists in the best configuration, for a prior by transfer
PRIORS = ("transfer", "own", "misleading")
METHODS: Mapping[str, BeliefOptions] = {
    "fisherbo": BeliefOptions(),
    "piBO": BeliefOptions(power=10.0, tested=False),
}
VARIANTS: Mapping[str, BeliefOptions] = {
    **METHODS,
    "power-1": BeliefOptions(power=1.0),
    "power-10": BeliefOptions(power=10.0),
    "doubt-half": BeliefOptions(doubt=0.5),
    "doubt-20th": BeliefOptions(doubt=0.05),
    "design-all": BeliefOptions(share=1.0),
    "design-only": BeliefOptions(power=0.0),
    "piBO-design-all": BeliefOptions(power=10.0, tested=False, share=1.0),
}
SCENARIOS = tuple(name for name, tasks in surfaces.DEVELOPMENT.items() if len(tasks) > LEAST_TASKS)
DEV_TASKS, DEV_SEEDS, SEEDS = 4, (100,), (0, 1)


@dataclass(frozen=True)
class Extremes:
    """The best and the worst random configuration of a task."""

    problem: str

    def key(self) -> str:
        """Names the task and the number of configurations."""
        return f"{self.problem}/{RANDOM}"


@dataclass(frozen=True)
class Cell:
    """One study."""

    problem: str
    prior: str
    method: str
    seed: int

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"fisher@{sampler_version('fisher')}/{options_digest(self.method)}"
        return f"{who}/{self.problem}/{self.prior}/{self.seed}/{BUDGET}"


def options_digest(method: str) -> str:
    """Of a method's options, so that a change of defaults renews its rows; none without a prior."""
    return "-" if not method else hashlib.sha256(repr(VARIANTS[method]).encode()).hexdigest()[:8]


def extremes(cell: Extremes) -> rows.Row:
    """Best and worst of random configurations."""
    task = surfaces.problem(cell.problem)
    points = np.random.default_rng(1).random((RANDOM, len(task.space)))
    params = [surfaces.existing(task, task.at(point)) for point in points]
    losses = surfaces.surface(cell.problem).losses(params)
    return {"best": params[int(losses.argmin())], "worst": params[int(losses.argmax())]}


@cache
def found_extremes() -> Mapping[str, rows.Row]:
    """The configurations that are kept in runs/, by the key of their task."""
    return rows.load(rows.RUNS / "priors_extremes.jsonl")


def extreme(problem: str, which: str) -> Params:
    params: Params = found_extremes()[Extremes(problem).key()][which]
    return params


def coordinates(distribution: BaseDistribution, values: Sequence[Any]) -> Array:
    """Where values lie in the range that is searched, in [0, 1]."""
    space = {"": distribution}
    return from_params(to_space(space), space, [{"": value} for value in values])[:, 0]


def around(distribution: BaseDistribution, centre: float, width: float) -> Normal | LogNormal:
    """A prior of so many ranges' width around a coordinate."""
    space = to_space({"": distribution})
    low, high = float(space.low[0]), float(space.high[0])
    value = float(to_params(space, {"": distribution}, np.array([centre]))[""])
    if space.log[0]:
        return LogNormal(value, math.exp(width * math.log(high / low)))
    return Normal(value, width * (high - low))


def weights(distribution: CategoricalDistribution, chosen: Any) -> dict[Any, float]:
    """Most of the weight for one choice."""
    others = [c for c in distribution.choices if c != chosen]
    return {chosen: SHARE, **dict.fromkeys(others, (1 - SHARE) / len(others))}


def by_transfer(problem: str) -> Priors:
    """Priors from the best configurations of other tasks of the same space."""
    scenario, _, own = problem.partition("/")
    tasks = [task for task in surfaces.DEVELOPMENT[scenario] if task != own]
    best = [extreme(f"{scenario}/{task}", "best") for task in tasks]
    priors: dict[str, Any] = {}
    for name, distribution in surfaces.problem(problem).space.items():
        values = [params[name] for params in best if name in params]
        if len(values) < LEAST_TASKS:
            continue
        if isinstance(distribution, CategoricalDistribution):
            priors[name] = {c: 1 + values.count(c) for c in distribution.choices}
        else:
            x = coordinates(distribution, values)
            priors[name] = around(distribution, x.mean(), max(x.std(ddof=1), NARROWEST))
    return priors


def centred(problem: str, which: str, seed: int) -> Priors:
    """Priors around the best configuration, off it as far as they say, or around the worst one."""
    digest = hashlib.sha256(f"{problem}/{seed}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    params, priors = extreme(problem, which), dict[str, Any]()
    for name, distribution in surfaces.problem(problem).space.items():
        if name not in params:
            continue
        off = which == "best"
        if isinstance(distribution, CategoricalDistribution):
            others = [c for c in distribution.choices if c != params[name]]
            wrong = off and rng.random() > SHARE
            chosen = others[int(rng.integers(len(others)))] if wrong else params[name]
            priors[name] = weights(distribution, chosen)
        else:
            centre = coordinates(distribution, [params[name]])[0]
            moved = centre + (WIDTH * rng.standard_normal() if off else 0.0)
            priors[name] = around(distribution, float(np.clip(moved, 0, 1)), WIDTH)
    return priors


def priors_of(cell: Cell) -> Priors | None:
    match cell.prior:
        case "none":
            return None
        case "transfer":
            return by_transfer(cell.problem)
    return centred(cell.problem, "best" if cell.prior == "own" else "worst", cell.seed)


def work(cell: Cell) -> rows.Row:
    """Values of one study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = surfaces.problem(cell.problem)
    options = AlgorithmOptions()
    if cell.method:
        options = replace(options, belief=VARIANTS[cell.method])
    sampler = FisherSampler(seed=cell.seed, priors=priors_of(cell), _options=options)
    study = optuna.create_study(sampler=sampler)
    for _ in range(BUDGET):
        trial = study.ask()
        study.tell(trial, task.loss(task.suggest(trial)))
    return {"values": [round(t.values[0], 7) for t in study.get_trials(deepcopy=False)]}


Curves = dict[tuple[str, str], dict[str, Array]]
"""Mean regret after each trial by task, of each prior and method."""


def curves(found: Mapping[Cell, rows.Row]) -> Curves:
    scale = surfaces.regret()
    runs: dict[tuple[str, str], dict[str, list[Array]]] = {}
    for cell, row in found.items():
        regret = np.maximum(scale(cell.problem, np.minimum.accumulate(row["values"])), 0.0)
        runs.setdefault((cell.prior, cell.method), {}).setdefault(cell.problem, []).append(regret)
    return {
        arm: {problem: np.mean(of, axis=0) for problem, of in tasks.items()}
        for arm, tasks in runs.items()
    }


def ratio_of_means(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Ratio of mean regrets, mine by theirs, with its 95 % bootstrap interval over tasks."""
    drawn = np.random.default_rng(0).integers(len(mine), size=(4000, len(mine)))
    ratios = mine[drawn].mean(1) / np.maximum(theirs[drawn].mean(1), 1e-12)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(mine.mean() / max(theirs.mean(), 1e-12)), float(low), float(high)


def difference(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Mean difference of regrets, with its 95 % bootstrap interval over tasks."""
    return statistics.mean_interval(mine - theirs)


def equal_trials(mine: float, theirs: Array) -> str:
    """After how many trials a curve is as low as this; more than all of them if it never is."""
    reached = np.flatnonzero(theirs <= mine)
    return str(reached[0] + 1) if len(reached) else f"> {len(theirs)}"


def report(title: str, by_arm: Curves) -> Group:
    """The regrets of each prior and method, and what they are against no prior, paired by task."""
    base = by_arm["none", ""]
    marks = [f"after {m}" for m in MARKS]
    regrets = _table(f"{title}: mean normalised regret, {len(base)} tasks", *marks)
    columns = ("better/worse at 20", "p at 20", "difference at 50 [95 %]", "ratio at 50 [95 %]")
    paired = _table("Against no prior", *columns, "p at 50", "as without after")
    for (prior, method), tasks in by_arm.items():
        names = [name for name in base if name in tasks]
        mine, theirs = (np.array([of[name] for name in names]) for of in (tasks, base))
        regrets.add_row(prior, method, *(f"{mine[:, m - 1].mean():.3f}" for m in MARKS))
        if method:
            early, late = (mine[:, m - 1] - theirs[:, m - 1] for m in (20, BUDGET))
            absolute = difference(mine[:, -1], theirs[:, -1])
            relative = ratio_of_means(mine[:, -1], theirs[:, -1])
            paired.add_row(
                *(prior, method, f"{np.mean(early < 0):.0%}/{np.mean(early > 0):.0%}"),
                f"{statistics.wilcoxon_p(early):.2g}",
                "{:+.3f} [{:+.3f}, {:+.3f}]".format(*absolute),
                "{:.2f} [{:.2f}, {:.2f}]".format(*relative),
                f"{statistics.wilcoxon_p(late):.2g}",
                equal_trials(mine[:, -1].mean(), theirs.mean(0)),
            )
    return Group(regrets, paired, *_tests(by_arm))


def _tests(by_arm: Curves) -> Iterator[str]:
    """A line for each prior: the sampler against πBO, paired by task, after 50 trials."""
    for prior in PRIORS:
        ours, theirs = by_arm.get((prior, "fisherbo")), by_arm.get((prior, "piBO"))
        if ours and theirs:
            names = [name for name in ours if name in theirs]
            mine, other = (np.array([of[name][-1] for name in names]) for of in (ours, theirs))
            found = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(mine, other))
            p = statistics.wilcoxon_p(mine - other)
            yield f"{prior}: fisherbo − piBO after {BUDGET} trials {found}, p = {p:.2g}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for name in ("prior", "method", *columns):
        table.add_column(name, justify="left" if name in ("prior", "method") else "right")
    return table


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Task by task, a space after the other, so that a part of them is a fair comparison too."""
    dev = args.dev or args.quick
    tasks = surfaces.DEVELOPMENT if dev else surfaces.FINAL
    most = 1 if args.quick else DEV_TASKS if dev else None
    of_spaces = [[f"{space}/{task}" for task in tasks[space][:most]] for space in SCENARIOS]
    names = [name for turn in zip_longest(*of_spaces) for name in turn if name]
    arms = [(prior, method) for prior in PRIORS for method in args.methods]
    return [
        Cell(name, prior, method, seed)
        for seed in args.seeds or (DEV_SEEDS if dev else SEEDS)
        for name in names
        for prior, method in [("none", ""), *arms]
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(
        "priors", __doc__, "data dev seeds workers write", quick="one task of each space"
    )
    parser.set_defaults(workers=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=VARIANTS)
    args = parser.parse_args(argv)
    surfaces.require_data(parser, args.data)
    cells = cells_of(args)
    sources = [f"{space}/{task}" for space in SCENARIOS for task in surfaces.DEVELOPMENT[space]]
    ends = [Extremes(name) for name in dict.fromkeys([*sources, *(c.problem for c in cells)])]
    rows.collect("priors_extremes", ends, extremes, workers=args.workers)
    found_extremes.cache_clear()
    found = rows.collect("priors", cells, work, workers=args.workers)
    console = Console(width=140, record=True)
    title = "development" if args.dev or args.quick else "other data sets"
    console.print(report(title, curves(found)))
    if args.write:
        made_by = "Made by `python -m experiments.priors --data FOLDER --write`"
        rows.write(console, "priors", "What a belief about the optimum is worth", made_by)


if __name__ == "__main__":
    main()
