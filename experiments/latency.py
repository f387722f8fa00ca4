"""CPU time of one suggestion: FisherSampler against its peers and against a floor, one thread each.

    python -m experiments.latency --quick       d = 5, n = 50 and 200
    python -m experiments.latency --write       d = 5, 20; n = 50, 200, 1000; mixed d = 10, n = 100
    python -m experiments.latency --dimensions 10 --trials 500
    python -m experiments.latency --samplers fisher fisher-score --trials 50 200 --seeds 8

Every sampler is given the same n finished trials, then asks and tells in turn with the others, so
that the machine's noise is shared. The first suggestion, in which a model without memory is fitted,
is reported apart; the median is over those that follow. GPSampler takes seconds where n = 1000 or
the space is mixed: there it is asked 3 and 5 times only.

The floor of a suggestion is what its arithmetic costs: one kernel matrix, one Cholesky, one n×n
inverse and 10 evaluations of the posterior at 16 points with gradients, by fisherbo's functions.

fisher-score is FisherSampler that climbs the acquisition in the metric of its score, with steps of
steepest ascent in units of the lengthscales, in place of the posterior's Fisher metric.

Targets: at least 10 times faster than GPSampler where all parameters are continuous, 30 times in
mixed spaces, and at most 4 times the floor. Times are kept in runs/latency.jsonl; --again takes
them anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.console import Console
from rich.table import Table

from experiments.harness import rows
from experiments.harness.peers import make_sampler, sampler_version
from experiments.harness.problems import Params, Problem
from experiments.options import command_line
from fisherbo import FisherSampler
from fisherbo.geometry import lapack
from fisherbo.gp.fisher import score_metric
from fisherbo.gp.hyper import prior_mode
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.posterior import condition
from fisherbo.gp.warp import warp
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.trials import read

SAMPLERS = ("fisher", "gp", "tpe")
CONTROLS = {"fisher-score": AlgorithmOptions(metric=score_metric)}
CONTINUOUS_TARGET, MIXED_TARGET, FLOOR_TARGET = 10.0, 30.0, 4.0
MIXED_TRIALS = 100
EVALUATIONS, POINTS = 10, 16


def bowl(dimension: int) -> Problem:
    """A rotated, ill-conditioned bowl with a ripple: neither flat nor solved early."""
    space: dict[str, BaseDistribution] = {
        f"x{j:02d}": FloatDistribution(-5, 5) for j in range(dimension)
    }

    def loss(params: Params) -> float:
        x = np.array([params[name] for name in space])
        mixed = x + 0.3 * np.roll(x, 1)
        return float(np.sum(10 ** np.linspace(0, 2, len(x)) * mixed**2) + np.sum(1 - np.cos(6 * x)))

    return Problem(f"bowl{dimension}", space, loss)


def mixed() -> Problem:
    """Ten parameters as a tuning study has them: floats, logs, integers, steps, categories."""
    space: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(1e-5, 1.0, log=True),
        "x0": FloatDistribution(-5, 5),
        "x1": FloatDistribution(-5, 5),
        "x2": FloatDistribution(-5, 5),
        "layers": IntDistribution(1, 8),
        "units": IntDistribution(4, 256),
        "batch": IntDistribution(1, 1024, log=True),
        "dropout": FloatDistribution(0.0, 0.5, step=0.05),
        "activation": CategoricalDistribution(("relu", "tanh", "gelu", "silu")),
        "optimizer": CategoricalDistribution(("sgd", "adam", "rmsprop")),
    }

    def loss(p: Params) -> float:
        gain = ("relu", "tanh", "gelu", "silu").index(p["activation"])
        best_rate = {"sgd": -1.0, "adam": -3.0, "rmsprop": -3.5}[p["optimizer"]]
        x = np.array([p["x0"], p["x1"], p["x2"]]) / 5
        return float(
            (np.log10(p["rate"]) - best_rate) ** 2
            + 3 * np.sum((x - 0.1 * gain) ** 2)
            + (np.log2(p["batch"]) - 5) ** 2 / 10
            + (p["layers"] - 3) ** 2 / 8
            + (p["units"] / 256 - 0.6) ** 2
            + 4 * (p["dropout"] - 0.2) ** 2
            + 0.2 * gain
        )

    return Problem("mixed10", space, loss)


def problem_of(name: str) -> Problem:
    return mixed() if name == "mixed10" else bowl(int(name.removeprefix("bowl")))


def history(problem: Problem, count: int) -> list[optuna.trial.FrozenTrial]:
    """Finished trials as a study in progress has them: half random, half nearer to the middle."""
    dimension = len(problem.space)
    rng = np.random.default_rng(dimension * 10_000 + count)
    trials = []
    for i in range(count):
        width = 0.5 if i % 2 else 0.15
        params = problem.at(0.5 + rng.uniform(-width, width, dimension))
        trials.append(
            optuna.trial.create_trial(
                params=params, distributions=dict(problem.space), value=problem.loss(params)
            )
        )
    return trials


@dataclass(frozen=True)
class Cell:
    problem: str
    count: int
    samplers: tuple[str, ...]
    repeats: int
    seeds: int = 1

    def key(self) -> str:
        """Names the versions and all settings."""
        names = ((s, "fisher" if s in CONTROLS else s) for s in self.samplers)
        versions = ",".join(f"{s}@{sampler_version(name)}" for s, name in names)
        return f"{versions}/{self.problem}/{self.count}/{self.repeats}/{self.seeds}"


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name in CONTROLS:
        return FisherSampler(seed=seed, _options=CONTROLS[name])
    return make_sampler(name, seed)


def asker(sampler: str, problem: Problem, count: int, seed: int = 0) -> Callable[[], float]:
    """A study with ``count`` trials; every call makes one more, in CPU milliseconds."""
    study = optuna.create_study(sampler=sampler_of(sampler, seed))
    study.add_trials(history(problem, count))

    def ask() -> float:
        start = time.process_time()
        trial = study.ask()
        params = problem.suggest(trial)
        elapsed = time.process_time() - start
        value = problem.loss(params)
        start = time.process_time()
        study.tell(trial, value)
        return 1000 * (elapsed + time.process_time() - start)

    return ask


def floor(problem: Problem, count: int) -> Callable[[], float]:
    """The arithmetic that no suggestion at ``count`` trials can do without, in CPU milliseconds."""
    search_space = dict(problem.space)
    space = to_space(search_space)
    trials = history(problem, count)
    table = read(space, search_space, trials)
    hyper = prior_mode(space.dimension)
    posterior = condition(table.x, warp(-table.value[:, 0]), space.choices, hyper)
    points = space.spread(np.random.default_rng(0).random((POINTS, space.dimension)))
    posterior.predict_with_gradient(points)

    def compute() -> float:
        start = time.process_time()
        embedded = Embedding.of(hyper.lengthscale, space.choices)(table.x)
        gram, _ = matern(distance(embedded, embedded))
        gram.flat[:: count + 1] = 1 + hyper.noise / hyper.signal
        lapack.inverse(lapack.cholesky(gram))
        for _ in range(EVALUATIONS):
            posterior.predict_with_gradient(points)
        return 1000 * (time.process_time() - start)

    return compute


def asked(sampler: str, cell: Cell) -> int:
    """How often a sampler is asked: a slow one less often."""
    if sampler != "gp":
        return cell.repeats
    few = 3 if cell.count >= 500 else 5 if cell.problem == "mixed10" else cell.repeats
    return min(few, cell.repeats)


def work(cell: Cell) -> rows.Row:
    """Milliseconds of every sampler and of the floor, taken in turn."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = problem_of(cell.problem)
    for sampler in cell.samplers:  # imports and caches
        asker(sampler, problem, 11)()
    compute = floor(problem, cell.count)
    compute()
    first: dict[str, float] = {}
    times: dict[str, list[float]] = {s: [] for s in ("floor", *cell.samplers)}
    for seed in range(cell.seeds):
        askers = {s: asker(s, problem, cell.count, seed) for s in cell.samplers}
        first = {s: ask() for s, ask in askers.items()}
        for repeat in range(cell.repeats):
            times["floor"].append(compute())
            for s, ask in askers.items():
                if repeat < asked(s, cell):
                    times[s].append(ask())
    return {"first": first, "times": times}


def report(found: dict[Cell, rows.Row]) -> Table:
    table = Table(title="CPU milliseconds a suggestion, one thread, samplers in turn")
    columns = ("d", "n", "repeats", "first", "median", "mean", "GPSampler / it", "target", "")
    for name in ("space", "sampler"):
        table.add_column(name)
    for name in (*columns, "it / floor", "target", ""):
        table.add_column(name, justify="right")
    for cell, row in found.items():
        median = {s: float(np.median(t)) for s, t in row["times"].items()}
        d = len(problem_of(cell.problem).space)
        for s, t in row["times"].items():
            first = f"{row['first'][s]:.1f}" if s in row["first"] else "–"
            line = [str(d), str(cell.count), str(len(t)), first]
            line += [f"{median[s]:.2f}", f"{np.mean(t):.2f}"]
            line += verdicts(cell, s, median)
            kind = "mixed" if cell.problem == "mixed10" else "continuous"
            table.add_row(kind, s, *line, end_section=s == cell.samplers[-1])
    table.caption = (
        "GPSampler / it and it / floor: ratios of medians. first: the suggestion after the history "
        "was loaded, with a full fit."
    )
    return table


def verdicts(cell: Cell, sampler: str, median: dict[str, float]) -> list[str]:
    """Ratio to GPSampler, its target and verdict; time over floor, its target and verdict."""
    faster = f"{median['gp'] / median[sampler]:.1f}" if "gp" in median else "–"
    over = f"{median[sampler] / median['floor']:.1f}"
    if sampler != "fisher":
        return [faster, "", "", over, "", ""]
    target = MIXED_TARGET if cell.problem == "mixed10" else CONTINUOUS_TARGET
    reached = median.get("gp", 0.0) >= target * median[sampler]
    near = median[sampler] <= FLOOR_TARGET * median["floor"]
    won = passed(reached) if "gp" in median else "–"
    return [faster, f"≥ {target:g}", won, over, f"≤ {FLOOR_TARGET:g}", passed(near)]


def passed(reached: bool) -> str:
    return "pass" if reached else "fail"


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("latency", __doc__, "again write", quick="d = 5, n = 50 and 200")
    parser.add_argument("--dimensions", type=int, nargs="*", default=[5, 20])
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--mixed-trials", type=int, nargs="*", default=[MIXED_TRIALS])
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument(
        "--samplers", nargs="+", default=list(SAMPLERS), choices=(*SAMPLERS, *CONTROLS)
    )
    parser.add_argument("--seeds", type=int, default=1, help="studies of each sampler")
    args = parser.parse_args(argv)
    if args.quick:
        args.dimensions, args.trials, args.mixed_trials = [5], [50, 200], []
    pairs = [(f"bowl{d}", n) for d in args.dimensions for n in args.trials]
    pairs += [("mixed10", n) for n in args.mixed_trials]
    cells = [Cell(p, n, tuple(args.samplers), args.repeats, args.seeds) for p, n in pairs]
    found = rows.collect("latency", cells, work, again=args.again)
    console = Console(width=150, record=True)
    console.print(report(found))
    if args.write:
        made_by = f"Made by `{rows.command('latency', argv)}`"
        rows.write(console, "latency", "Time of a suggestion", made_by)


if __name__ == "__main__":
    main()
