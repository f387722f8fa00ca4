"""Our `optimize_acqf` against BoTorch's: value reached, evaluations and CPU seconds.

    python -m experiments.botorch --quick        8 problems, 1 seed
    python -m experiments.botorch --write        38 problems, 5 seeds
    python -m experiments.botorch --control --seeds 2 --write

Every problem is a test function of BoTorch in some dimension, a `SingleTaskGP` fitted to a
scrambled Sobol design of its values, and an acquisition of it. Both optimizers are called with the
same model and acquisition, bounds, 20 restarts, 512 raw samples and torch seed, so that they draw
the same initial conditions; all other options are their defaults. In turn, twice each: values
are those of the first call, seconds the least CPU time of the whole call, initial conditions
included. One evaluation is a set of q points; a call of the acquisition takes many of them.

A difference of values up to 1e-6 max(1, |value|) is a tie. Problems are compared by their medians
over the seeds; p by Wilcoxon over the problems; intervals by bootstrap over the problems. Rows are
kept in runs/botorch.jsonl; --again makes them anew.

With --control the rival is not BoTorch but ours without the posterior: the same ascent in the
Euclidean metric of the box scaled to the unit cube.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import LogExpectedImprovement, UpperConfidenceBound
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.monte_carlo import qUpperConfidenceBound
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.optim.optimize import optimize_acqf as theirs
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.test_functions import synthetic
from gpytorch.mlls import ExactMarginalLogLikelihood
from rich.console import Console
from rich.table import Table
from torch import Tensor

from experiments.harness import rows, statistics
from experiments.harness.provenance import source_digest
from experiments.options import command_line
from fisherbo.botorch import gen_candidates_natural
from fisherbo.botorch import optimize_acqf as ours
from fisherbo.space import Array

RESTARTS, RAW_SAMPLES, REPEATS, SEEDS = 20, 512, 2, 5
TIE = 1e-6
DRAWS = 10_000  # of the bootstrap

FUNCTIONS = (
    ("Branin", 2),
    ("Hartmann", 3),
    ("Ackley", 5),
    ("Michalewicz", 5),
    ("Hartmann", 6),
    ("StyblinskiTang", 6),
    ("Rosenbrock", 8),
    ("Levy", 10),
    ("Ackley", 12),
)
ACQUISITIONS = (("LogEI", 1), ("UCB", 1), ("qLogEI", 2), ("qLogEI", 4))
EXTRA = (("Hartmann", 6, "qLogEI", 3), ("Ackley", 5, "qUCB", 2))
QUICK = (
    ("Hartmann", 3, "LogEI", 1),
    ("Hartmann", 6, "UCB", 1),
    ("Ackley", 5, "LogEI", 1),
    ("Levy", 10, "UCB", 1),
    ("Branin", 2, "qLogEI", 2),
    ("Rosenbrock", 8, "qLogEI", 2),
    ("Hartmann", 6, "qLogEI", 4),
    ("Michalewicz", 5, "qLogEI", 4),
)


@dataclass(frozen=True)
class Cell:
    function: str
    dimension: int
    acquisition: str
    q: int
    seed: int
    control: bool = False

    @property
    def problem(self) -> str:
        """Of all seeds."""
        return f"{self.function}{self.dimension} {self.acquisition} q={self.q}"

    def key(self) -> str:
        """Names the versions and all settings."""
        who = f"{source_digest('botorch')}/botorch-{version('botorch')}"
        rival = "/control" if self.control else ""
        return f"{who}/{RESTARTS},{RAW_SAMPLES},{REPEATS}/{self.problem}/{self.seed}{rival}"


def every_cell(quick: bool, seeds: int, first: int, control: bool = False) -> list[Cell]:
    full = [(f, d, a, q) for f, d in FUNCTIONS for a, q in ACQUISITIONS] + list(EXTRA)
    chosen = QUICK if quick else full
    return [Cell(*problem, first + seed, control) for seed in range(seeds) for problem in chosen]


def make_model(cell: Cell) -> tuple[SingleTaskGP, Tensor, Tensor]:
    """A fitted model, the bounds of its inputs and the best value seen."""
    cls = getattr(synthetic, cell.function)
    of = {} if cell.function == "Branin" else {"dim": cell.dimension}
    f = cls(**of, negate=True).to(torch.double)
    bounds = f.bounds
    sobol = torch.quasirandom.SobolEngine(cell.dimension, scramble=True, seed=cell.seed)
    x = bounds[0] + (bounds[1] - bounds[0]) * sobol.draw(8 * cell.dimension, dtype=torch.double)
    y = f(x)[:, None]
    units = Normalize(cell.dimension, bounds=bounds)
    model = SingleTaskGP(x, y, outcome_transform=Standardize(1), input_transform=units)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model.eval(), bounds, y.max()


def make_acquisition(cell: Cell, model: SingleTaskGP, best: Tensor) -> AcquisitionFunction:
    sampler = SobolQMCNormalSampler(torch.Size([128]), seed=cell.seed)
    makers: dict[str, Callable[[], AcquisitionFunction]] = {
        "LogEI": lambda: LogExpectedImprovement(model, best),
        "UCB": lambda: UpperConfidenceBound(model, beta=4.0),
        "qLogEI": lambda: qLogExpectedImprovement(model, best, sampler=sampler),
        "qUCB": lambda: qUpperConfidenceBound(model, beta=4.0, sampler=sampler),
    }
    return makers[cell.acquisition]()


@dataclass
class Counter:
    """How often an acquisition is called and with how many sets of points."""

    calls: int = 0
    sets: int = field(default=0)

    def __call__(self, module: object, inputs: tuple[Tensor, ...]) -> None:
        """Count one call: a forward pre-hook of a module."""
        self.calls += 1
        self.sets += inputs[0].shape[:-2].numel()


def work(cell: Cell) -> rows.Row:
    """Value, calls, evaluations and seconds of both optimizers."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, bounds, best = make_model(cell)
    acquisition = make_acquisition(cell, model, best)
    made: dict[str, list[tuple[float, int, int, float]]] = {"ours": [], "theirs": []}
    for _ in range(REPEATS):
        rival = in_the_box if cell.control else theirs
        for name, optimize in (("theirs", rival), ("ours", ours)):
            made[name].append(measure(optimize, acquisition, bounds, cell))
    return {name: summary(runs) for name, runs in made.items()}


def in_the_box(
    acquisition: AcquisitionFunction, bounds: Tensor, q: int, restarts: int, samples: int
) -> tuple[Tensor, Tensor | None]:
    """Ours with the metric of the box in place of the posterior's."""

    def box(model: object, points: Tensor, movable: list[int]) -> Tensor:
        return (bounds[1] - bounds[0])[movable] ** -2

    ascent = partial(gen_candidates_natural, best_only=True, metric=box)
    return theirs(acquisition, bounds, q, restarts, samples, gen_candidates=ascent)


def measure(
    optimize: Callable[..., tuple[Tensor, Tensor | None]],
    acquisition: AcquisitionFunction,
    bounds: Tensor,
    cell: Cell,
) -> tuple[float, int, int, float]:
    counter = Counter()
    hook = acquisition.register_forward_pre_hook(counter)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(cell.seed)
        began = time.process_time()
        points, _ = optimize(acquisition, bounds, cell.q, RESTARTS, RAW_SAMPLES)
        seconds = time.process_time() - began
    hook.remove()
    with torch.no_grad():
        value = float(acquisition(points))
    return value, counter.calls, counter.sets, seconds


def summary(runs: Sequence[tuple[float, int, int, float]]) -> list[float]:
    return [*runs[0][:3], min(run[3] for run in runs)]


# The report


@dataclass(frozen=True)
class Comparison:
    """One problem: an entry for every seed.

    Attributes:
        theirs: Value, calls, evaluations, seconds; shape ``(seeds, 4)``.
        ours: The same.
    """

    theirs: Array
    ours: Array

    @property
    def gain(self) -> Array:
        """Our value less theirs; 0 where they tie."""
        gain = self.ours[:, 0] - self.theirs[:, 0]
        tie = np.abs(gain) <= TIE * np.maximum(1, np.abs(self.theirs[:, 0]))
        return np.where(tie, 0.0, gain)

    @property
    def ratio(self) -> Array:
        """Median over the seeds of ours over theirs: calls, evaluations, seconds."""
        return np.median(self.ours[:, 1:] / self.theirs[:, 1:], axis=0)


def comparisons(found: dict[Cell, rows.Row]) -> dict[str, Comparison]:
    grouped: dict[str, list[rows.Row]] = {}
    for cell, row in found.items():
        grouped.setdefault(cell.problem, []).append(row)
    return {
        problem: Comparison(
            np.array([row["theirs"] for row in made]), np.array([row["ours"] for row in made])
        )
        for problem, made in grouped.items()
    }


def report(found: dict[str, Comparison], console: Console, rival: str = "BoTorch") -> None:
    table = Table(title=f"optimize_acqf, {rival}'s and ours: medians over the seeds")
    table.add_column("problem")
    for name in (
        *(f"value, {rival}", "ours", f"ours − {rival}", "won/tied/lost", f"evaluations, {rival}"),
        *("ours", f"CPU ms, {rival}", "ours", "time ratio"),
    ):
        table.add_column(name, justify="right")
    for problem, c in found.items():
        before, after = np.median(c.theirs, axis=0), np.median(c.ours, axis=0)
        table.add_row(
            *(problem, f"{before[0]:.4f}", f"{after[0]:.4f}", f"{np.median(c.gain):+.2g}"),
            *(balance(c.gain), f"{before[2]:.0f}", f"{after[2]:.0f}"),
            *(f"{1000 * before[3]:.0f}", f"{1000 * after[3]:.0f}", f"{c.ratio[2]:.2f}"),
        )
    console.print(table)
    for title, single in (("All problems", None), ("q = 1", True), ("q > 1", False)):
        chosen = [c for p, c in found.items() if single in (None, p.endswith("q=1"))]
        if chosen:
            console.print(verdict(title, chosen, rival), highlight=False, soft_wrap=True)


def verdict(title: str, found: Sequence[Comparison], rival: str) -> str:
    """Values won, tied and lost, and ratios with intervals, of some problems."""
    medians = np.array([np.median(c.gain) for c in found])
    runs = np.concatenate([c.gain for c in found])
    logs = np.log(np.array([c.ratio for c in found]))
    low, high = interval(logs)
    mean = np.exp(logs.mean(0))
    ratios = ", ".join(
        f"{name} {m:.2f} [{a:.2f}, {b:.2f}]"
        for name, m, a, b in zip(("calls", "evaluations", "CPU time"), mean, low, high, strict=True)
    )
    faster = int(np.sum(logs[:, 2] < 0))
    return (
        f"{title}: {len(found)}. Median difference of values {np.median(medians):+.2g} (problems "
        f"won/tied/lost {balance(medians)}, p = {statistics.wilcoxon_p(medians):.2g}; runs "
        f"{balance(runs)}). Ours over {rival}'s, geometric means: {ratios}; faster on {faster}."
    )


def balance(gain: Array) -> str:
    return f"{int(np.sum(gain > 0))}/{int(np.sum(gain == 0))}/{int(np.sum(gain < 0))}"


def interval(logs: Array) -> tuple[Array, Array]:
    """95 % intervals of the geometric means over problems, of logarithms ``(problems, k)``."""
    rng = np.random.default_rng(0)
    drawn = logs[rng.integers(len(logs), size=(DRAWS, len(logs)))].mean(1)
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975], axis=0))
    return low, high


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("botorch", __doc__, "again write", quick="8 problems, 1 seed: no verdict")
    parser.add_argument("--seeds", type=int, default=None, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed; 100 to develop")
    parser.add_argument("--control", action="store_true", help="against the box's metric")
    args = parser.parse_args(argv)
    seeds = args.seeds or (1 if args.quick else SEEDS)
    cells = every_cell(args.quick, seeds, args.first, args.control)
    found = rows.collect("botorch", cells, work, again=args.again)
    console = Console(width=180, record=True)
    report(comparisons(found), console, "box" if args.control else "BoTorch")
    if args.write:
        name, how = ("botorch_control", " --control") if args.control else ("botorch", "")
        command = f"Made by `python -m experiments.botorch{how} --seeds {seeds} --write`"
        rows.write(console, name, "Optimizers of BoTorch's acquisitions", command)


if __name__ == "__main__":
    main()
