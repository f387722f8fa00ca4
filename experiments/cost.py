"""Improvement per second on real tuning surfaces that tell how long an evaluation takes.

    python -m experiments.cost --data FOLDER --dev      methods are chosen on these only
    python -m experiments.cost --data FOLDER --write    other data sets: run once
    python -m experiments.cost --data FOLDER --quick    one task of each space

The surfaces are those of `experiments.surfaces`; each has the time that training takes as another
output, which a run tells its study as a user attribute. Budgets are in seconds: what 50 trials of
FisherSampler without a cost take, and a third of it. All samplers begin with the same ten points. A
run ends with the budget, or after 200 trials; a trial that ends beyond the budget does not count.

Regret is normalised as in `experiments.surfaces`: 0 is the best known, 1 the median of random
configurations. Intervals and tests are over tasks, of the means over their seeds.

Two runs are of costs that tell nothing: a constant, and a number drawn for each trial from a
log-normal distribution with a standard deviation of 1.5 nats.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from experiments import surfaces
from experiments.harness import rows
from experiments.harness.peers import make_sampler, sampler_version
from experiments.harness.statistics import mean_interval, wilcoxon_p
from experiments.options import command_line
from fisherbo import FisherSampler
from fisherbo.sampler.options import DEFAULTS

Array = NDArray[np.float64]

TRIALS, MOST_TRIALS = 50, 200
SHARES = (1 / 3, 1.0)
LEAST = 0.1  # seconds: some surfaces promise 0
SPREAD = 1.5  # nats, of costs drawn at random
DEVELOPMENT_SEEDS, FINAL_SEEDS = (500, 501), (0, 1)
DEVELOPMENT_TASKS, FINAL_TASKS = 4, 4  # of each space


def _fisher(
    *, budgeted: bool = True, cooling: bool = False, floor: float = DEFAULTS.cost_floor
) -> Callable[[int, float], optuna.samplers.BaseSampler]:
    options = replace(DEFAULTS, cost_cooling=cooling, cost_floor=floor)

    def make(seed: int, budget: float) -> optuna.samplers.BaseSampler:
        limit = budget if budgeted else None
        return FisherSampler(seed=seed, cost="seconds", budget=limit, _options=options)

    return make


PLAIN, AWARE = "no cost", "cost, budget"
ARMS: Mapping[str, Callable[[int, float], optuna.samplers.BaseSampler]] = {
    PLAIN: lambda seed, _: make_sampler("fisher", seed),
    AWARE: _fisher(),
    "the same, cooled": _fisher(cooling=True),
    "EI per second": _fisher(budgeted=False, floor=0.0),
    "TPE": lambda seed, _: make_sampler("tpe", seed),
}
VARIANTS: Mapping[str, Callable[[int, float], optuna.samplers.BaseSampler]] = {
    f"{name}, floor {floor:g}": _fisher(budgeted=budgeted, cooling=cooling, floor=floor)
    for floor in (0.0, 0.1, 0.5, 1.0, 2.0)
    for name, budgeted, cooling in (
        ("cost", False, False),
        ("budget, cooled", True, True),
        ("budget, not cooled", True, False),
    )
}
MISUSE = ("constant", "random")


@dataclass(frozen=True)
class Cell:
    """One study.

    Attributes:
        arm: Which sampler.
        problem: On which surface.
        seed: Of the sampler, and the first points.
        cost: What the study is told: "real", "constant" or "random".
        budget: Seconds after which it ends; None for so many trials.
    """

    arm: str
    problem: str
    seed: int
    cost: str = "real"
    budget: float | None = None

    def key(self) -> str:
        """Names the version and all settings."""
        limit = f"{TRIALS} trials" if self.budget is None else f"{self.budget:.6g} s"
        return (
            f"{self.arm}@{sampler_version('fisher')}/{self.problem}/{self.seed}/{self.cost}/{limit}"
        )


def work(cell: Cell) -> rows.Row:
    """Values and costs of the trials of one study, and the CPU seconds of a suggestion."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem, surface = surfaces.problem(cell.problem), surfaces.surface(cell.problem)
    budget = cell.budget or 1.0
    study = optuna.create_study(sampler={**ARMS, **VARIANTS}[cell.arm](cell.seed, budget))
    for params in problem.design(cell.seed):
        study.enqueue_trial(params)
    values: list[float] = []
    costs: list[float] = []
    cpu = 0.0
    while not ended(cell, costs):
        start = time.process_time()
        trial = study.ask()
        params = problem.suggest(trial)
        cpu += time.process_time() - start
        value, seconds = surface.loss_and_seconds(params)
        cost = told(cell, trial.number, seconds)
        trial.set_user_attr("seconds", cost)
        study.tell(trial, value)
        values.append(value)
        costs.append(cost)
    return {"values": values, "costs": costs, "milliseconds": 1e3 * cpu / len(values)}


def ended(cell: Cell, costs: Sequence[float]) -> bool:
    """Whether a run is at its end."""
    if cell.budget is None:
        return len(costs) == TRIALS
    return sum(costs) >= cell.budget or len(costs) == MOST_TRIALS


def told(cell: Cell, number: int, seconds: float) -> float:
    """The cost of a trial."""
    if cell.cost == "real":
        return max(seconds, LEAST)
    if cell.cost == "constant":
        return 1.0
    digest = hashlib.sha256(f"{cell.problem}/{cell.seed}/{number}".encode()).digest()
    drawn = np.random.default_rng(list(digest[:8])).normal()
    return float(np.exp(SPREAD * drawn))


def reached(row: rows.Row, seconds: float) -> float:
    """The best value of the trials that ended within so many seconds."""
    within = np.cumsum(row["costs"]) <= seconds * (1 + 1e-9)
    return float(np.min(np.array(row["values"])[within], initial=np.inf))


def problems(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Tasks and seeds."""
    tasks = surfaces.DEVELOPMENT if args.dev or args.quick else surfaces.FINAL
    seeds: Sequence[int] = DEVELOPMENT_SEEDS if args.dev or args.quick else FINAL_SEEDS
    count = DEVELOPMENT_TASKS if args.dev else FINAL_TASKS
    if args.quick:
        count, seeds = 1, (seeds[0],)
    return [
        (f"{space}/{task}", seed)
        for seed in seeds
        for k in range(count)
        for space, of in tasks.items()
        for task in of[k : k + 1]
    ]


@dataclass(frozen=True)
class Outcome:
    """What the arms reached with one kind of cost.

    Attributes:
        regret: Normalised, by arm, shape ``(shares, problems)``.
        trials: By arm, shape ``(problems,)``.
        milliseconds: CPU time of a suggestion, by arm, shape ``(problems,)``.
    """

    regret: dict[str, Array]
    trials: dict[str, Array]
    milliseconds: dict[str, Array]


def measure(chosen: Sequence[tuple[str, int]], arms: Sequence[str], cost: str, n: int) -> Outcome:
    """Runs of the arms, to the budget that 50 trials without a cost set."""
    first = rows.collect("cost", [Cell(PLAIN, *p, cost) for p in chosen], work, workers=n)
    budgets = {(c.problem, c.seed): float(np.sum(row["costs"])) for c, row in first.items()}
    others = [Cell(arm, *p, cost, budgets[p]) for p in chosen if p in budgets for arm in arms[1:]]
    found = {**first, **rows.collect("cost", others, work, workers=n)}
    scale = surfaces.regret()
    regret = {arm: np.empty((len(SHARES), len(budgets))) for arm in arms}
    trials = {arm: np.empty(len(budgets)) for arm in arms}
    milliseconds = {arm: np.empty(len(budgets)) for arm in arms}
    of = {(c.arm, c.problem, c.seed): row for c, row in found.items()}
    for k, (p, budget) in enumerate(budgets.items()):
        for arm in arms:
            row = of[arm, *p]
            best = np.array([reached(row, share * budget) for share in SHARES])
            regret[arm][:, k] = scale(p[0], best)
            trials[arm][k] = np.sum(np.cumsum(row["costs"]) <= budget * (1 + 1e-9))
            milliseconds[arm][k] = row["milliseconds"]
    return Outcome(regret, trials, milliseconds)


def by_task(chosen: Sequence[tuple[str, int]], values: Array) -> Array:
    """Means over the seeds of each task."""
    names = np.array([name for name, _ in chosen])
    return np.array([values[names == name].mean() for name in dict.fromkeys(names.tolist())])


def table(title: str, chosen: Sequence[tuple[str, int]], found: Outcome) -> Table:
    """A line for each arm, compared with the first."""
    shown = Table(title=title)
    shown.add_column("sampler")
    for head in ("at 1/3", "at 1", "difference at 1/3", "difference at 1"):
        shown.add_column(f"regret {head}" if head[0] == "a" else head, justify="right")
    for head in ("p 1/3, 1", "better / worse at 1/3", "at 1", "trials", "ms"):
        shown.add_column(head, justify="right")
    for arm, regret in found.regret.items():
        cells = [f"{row.mean():.4f}" for row in regret]
        against = regret - found.regret[PLAIN]
        if arm == PLAIN:
            more = ["", "", "", "", ""]
        else:
            tasks = [by_task(chosen, row) for row in against]
            more = [difference(row) for row in tasks]
            more.append(", ".join(f"{wilcoxon_p(row):.2g}" for row in tasks))
            more += [f"{np.mean(r < 0):.0%} / {np.mean(r > 0):.0%}" for r in against]
        count, spent = np.mean(found.trials[arm]), np.mean(found.milliseconds[arm])
        shown.add_row(arm, *cells, *more, f"{count:.0f}", f"{spent:.0f}")
    return shown


def difference(values: Array) -> str:
    """Mean and its 95 % interval."""
    mean, low, high = mean_interval(values)
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def by_space(chosen: Sequence[tuple[str, int]], found: Outcome) -> Table:
    """Mean regrets at a third of the budget and at its end, by space."""
    shown = Table(title="By space: regret at a third of the budget / at its end")
    shown.add_column("space")
    for arm in found.regret:
        shown.add_column(arm, justify="right")
    spaces = np.array([name.partition("/")[0] for name, _ in chosen])
    for space in dict.fromkeys(spaces.tolist()):
        means = [regret[:, spaces == space].mean(1) for regret in found.regret.values()]
        shown.add_row(space, *(f"{a:.3f} / {b:.3f}" for a, b in means))
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("cost", __doc__, "data dev workers write", quick="one task of each space")
    parser.set_defaults(workers=1)
    parser.add_argument(
        "--arms",
        nargs="*",
        default=list(ARMS),
        choices=[*ARMS, *VARIANTS],
        metavar="ARM",
        help=f"which samplers, of {', '.join(map(repr, [*ARMS, *VARIANTS]))}",
    )
    args = parser.parse_args(argv)
    surfaces.require_data(parser, args.data)
    chosen = problems(args)
    arms = list(dict.fromkeys([PLAIN, *args.arms]))
    console = Console(width=150, record=True)
    found = measure(chosen, arms, "real", args.workers)
    runs = f"{len(dict.fromkeys(name for name, _ in chosen))} tasks, {len(chosen)} runs"
    console.print(table(f"Seconds of training: {runs}", chosen, found))
    console.print(by_space(chosen, found))
    for cost in MISUSE if not args.dev else ():
        wrong = measure(chosen, [PLAIN, AWARE], cost, args.workers)
        console.print(table(f"Costs that tell nothing: {cost}", chosen, wrong))
    if args.write:
        made_by = f"Made by `{rows.command('cost', argv)}`"
        rows.write(console, "cost", "Improvement per second", made_by)


if __name__ == "__main__":
    main()
