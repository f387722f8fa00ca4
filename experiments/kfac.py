"""K-FAC and EKFAC against Adam, AdamW, SGD, SOAP and Shampoo, tuned alike, on four networks.

    python -m experiments.kfac --quick          the autoencoder, K-FAC, Adam and SGD, 3 seeds
    python -m experiments.kfac --write          all of it: 16 trials and 5 seeds, some two hours
    python -m experiments.kfac --overhead       a step of K-FAC against a step of Adam only

Every optimizer is tuned by FisherSampler with the same number of trials, each of at most the same
CPU seconds, with the same pruner, on weights of one seed. The best settings then train networks of
other seeds, with the same limit. (K-FAC's search spaces allow 300 steps a run on the autoencoder,
those of the others 6000.)

    autoencoder   digits, 64-128-64-32-8 mirrored; target: 3 nats above the entropy of the data
    curves        synthetic curves, 196-100-50-25-6 mirrored; the lowest loss in 15 seconds
    convnet       digits, two convolutions; target: cross-entropy .01
    transformer   running sums modulo 5, one block of attention; target: cross-entropy .05

All rows are one batch. Steps and CPU seconds are medians over the seeds; a run that misses the
target counts as infinitely long. Ratios are of medians, their 95 % intervals bootstrapped over the
seeds, which are paired. Rows are kept in runs/kfac.jsonl, figures go to runs/kfac.html.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table
from torch import nn

import fisherbo
from experiments.harness import rows
from experiments.harness.provenance import source_digest
from experiments.networks import PROBLEMS, Problem
from experiments.options import command_line
from fisherbo.errors import NumericalError
from fisherbo.training import KFAC, fit
from fisherbo.tuning import search_spaces
from fisherbo.tuning.search_spaces import Setting, TunableOptimizer
from fisherbo.tuning.study import WEIGHT_DECAY

OURS = {"K-FAC": "kfac_full", "EKFAC": "ekfac"}
NAMES = (*OURS, "Adam", "AdamW", "SGD", "SOAP", "Shampoo")
TUNING_SEED = 100
COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#000000", "#009E73", "#CC79A7")

Build = Callable[[nn.Module, Mapping[str, Any], Setting], torch.optim.Optimizer]


def adamw(model: nn.Module, p: Mapping[str, Any], _: Setting) -> torch.optim.Optimizer:
    betas = (1 - p["one_minus_beta1"], 0.999)
    return torch.optim.AdamW(
        model.parameters(), lr=p["lr"], betas=betas, weight_decay=p["weight_decay"]
    )


def soap(model: nn.Module, p: Mapping[str, Any], setting: Setting) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    betas = (1 - p["one_minus_beta1"], 1 - p["one_minus_beta2"])
    return SOAP(model.parameters(), lr=p["lr"], betas=betas, weight_decay=setting.weight_decay)


def shampoo(model: nn.Module, p: Mapping[str, Any], setting: Setting) -> torch.optim.Optimizer:
    """Anil et al. (2020): the step length of RMSProp, inverse roots every 10 steps."""
    from pytorch_optimizer import ScalableShampoo

    return ScalableShampoo(
        model.parameters(),
        lr=p["lr"],
        betas=(1 - p["one_minus_beta1"], 1 - p["one_minus_beta2"]),
        weight_decay=setting.weight_decay,
        start_preconditioning_step=10,
        preconditioning_compute_steps=10,
        graft_type=3,
    )


def _space(**bounds: tuple[float, float]) -> dict[str, FloatDistribution]:
    return {name: FloatDistribution(*ends, log=True) for name, ends in bounds.items()}


PEERS = {
    "Adam": search_spaces.ADAM_SPACE,
    "SGD": search_spaces.SGD_SPACE,
    "AdamW": TunableOptimizer(
        "adamw",
        _space(lr=(1e-4, 1e-1), one_minus_beta1=(1e-2, 0.5), weight_decay=(1e-6, 1e-1)),
        adamw,
        max_steps=6000,
    ),
    "SOAP": TunableOptimizer(
        "soap",
        _space(lr=(1e-4, 1e-1), one_minus_beta1=(1e-2, 0.5), one_minus_beta2=(1e-3, 0.5)),
        soap,
        max_steps=6000,
    ),
    "Shampoo": TunableOptimizer(
        "shampoo",
        _space(lr=(1e-4, 1e-1), one_minus_beta1=(1e-2, 0.5), one_minus_beta2=(1e-3, 0.5)),
        shampoo,
        max_steps=6000,
    ),
}


def optimizer_of(name: str) -> TunableOptimizer:
    return search_spaces.as_optimizer(OURS[name]) if name in OURS else PEERS[name]


@cache
def version_of(name: str) -> str:
    """Version of a peer's package, or a digest of fisherbo's training source, as the run began."""
    if name.startswith(("K-FAC", "EKFAC")):
        return source_digest("training")
    package = "pytorch-optimizer" if name in ("SOAP", "Shampoo") else "torch"
    return f"{package}-{version(package)}"


@dataclass(frozen=True)
class Tuning:
    """One study: an optimizer on a problem."""

    problem: str
    optimizer: str
    trials: int

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"{self.optimizer}@{version_of(self.optimizer)}"
        return f"tuning/{who}/{self.problem}/{self.trials}"


@dataclass(frozen=True)
class Training:
    """One run with the settings that a study found."""

    problem: str
    optimizer: str
    seed: int
    params: tuple[tuple[str, float], ...]

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"{self.optimizer}@{version_of(self.optimizer)}"
        settings = ",".join(f"{k}={v:.6g}" for k, v in self.params)
        return f"training/{who}/{self.problem}/{self.seed}/{settings}"


def tune(cell: Tuning) -> rows.Row:
    """The best settings of one study."""
    quiet()
    problem, optimizer = PROBLEMS[cell.problem](), optimizer_of(cell.optimizer)
    steps = problem.max_steps or optimizer.max_steps
    start = time.process_time()
    result = fisherbo.tune_training(
        lambda: problem.build(TUNING_SEED),
        problem.data,
        loss=problem.loss.function,
        likelihood=problem.loss.likelihood,
        optimizer=optimizer,
        n_trials=cell.trials,
        target=problem.target,
        offset=problem.offset,
        max_steps=steps,
        max_seconds=problem.seconds,
        pruner=optuna.pruners.MedianPruner(4, steps // 6),
        seed=TUNING_SEED,
    )
    return {
        "params": result.best_trial.params if result.best_trial else {},
        "value": result.best_value,
        "cpu_seconds": time.process_time() - start,
        **asdict(result.counts),
    }


def train(cell: Training) -> rows.Row:
    """Trace of one run: steps, CPU seconds and the loss above its least possible value."""
    quiet()
    problem, optimizer = PROBLEMS[cell.problem](), optimizer_of(cell.optimizer)
    model = problem.build(cell.seed)
    setting = Setting(problem.loss.likelihood, WEIGHT_DECAY, cell.seed)
    steps = problem.max_steps or optimizer.max_steps
    try:
        result = fit(
            model,
            optimizer.build(model, dict(cell.params), setting),
            problem.loss.function,
            [problem.data],
            max_steps=steps,
            max_seconds=problem.seconds,
            target=None if problem.target is None else problem.target + problem.offset,
            report_every=5,
        )
    except NumericalError as error:
        return {"failed": str(error), "step": [], "seconds": [], "loss": [], "reached": False}
    return {
        "step": [point.step for point in result.trace],
        "seconds": [round(point.cpu_seconds, 4) for point in result.trace],
        "loss": [round(point.loss - problem.offset, 6) for point in result.trace],
        "reached": result.stopped == "target",
    }


def quiet() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")


# Statistics

Array = NDArray[np.float64]


def steps_and_seconds(found: rows.Row, target: float) -> tuple[float, float]:
    """When the loss was first at most the target; infinite if it never was."""
    for step, seconds, loss in zip(found["step"], found["seconds"], found["loss"], strict=True):
        if loss <= target:
            return float(step), float(seconds)
    return math.inf, math.inf


def loss_at(found: rows.Row, seconds: float) -> float:
    """The lowest loss within so many CPU seconds; infinite if the run failed."""
    seen = zip(found["seconds"], found["loss"], strict=True)
    return min((loss for at, loss in seen if at <= seconds), default=math.inf)


Found = Mapping[Training, rows.Row]


def of(found: Found, problem: str, optimizer: str) -> list[rows.Row]:
    """Rows of one optimizer on one problem in order of seeds."""
    cells = [c for c in found if (c.problem, c.optimizer) == (problem, optimizer)]
    return [found[c] for c in sorted(cells, key=lambda c: c.seed)]


def target_table(name: str, problem: Problem, found: Found, tuned: Mapping[str, rows.Row]) -> Table:
    """Steps and seconds to the target, each against K-FAC's."""
    assert problem.target is not None
    title = (
        f"{name}: loss {problem.target:g} above its least value, {problem.seconds:g} CPU s a run"
    )
    table = columns(
        title,
        *("reached", "steps", "× K-FAC's (95 %)", "CPU s", "× K-FAC's (95 %)"),
        *("tuning: reached", "CPU s"),
    )
    reference: Array | None = None
    for optimizer in NAMES:
        runs = of(found, name, optimizer)
        if not runs:
            continue
        reach = np.array([steps_and_seconds(run, problem.target) for run in runs]).T
        reference = reach if reference is None else reference
        study = tuned[optimizer]
        table.add_row(
            optimizer,
            f"{sum(run['reached'] for run in runs)} of {len(runs)}",
            number(float(np.median(reach[0])), 0),
            shown_ratio(reference[0], reach[0], reach is reference),
            number(float(np.median(reach[1])), 1),
            shown_ratio(reference[1], reach[1], reach is reference),
            f"{study['reached']} of {study['complete'] + study['pruned'] + study['failed']}",
            f"{study['cpu_seconds']:.0f}",
        )
    return table


def loss_table(name: str, problem: Problem, found: Found, tuned: Mapping[str, rows.Row]) -> Table:
    """The lowest loss at three shares of the CPU seconds."""
    marks = [problem.seconds * share for share in (0.25, 0.5, 1.0)]
    table = columns(
        f"{name}: median of the lowest loss in so many CPU seconds",
        *(f"{mark:g} s" for mark in marks),
        *("× K-FAC's at the end (95 %)", "seeds on which K-FAC is lower", "tuning: CPU s"),
    )
    reference: Array | None = None
    for optimizer in NAMES:
        runs = of(found, name, optimizer)
        if not runs:
            continue
        losses = np.array([[loss_at(run, mark) for mark in marks] for run in runs])
        reference = losses if reference is None else reference
        table.add_row(
            optimizer,
            *(number(float(median), 2) for median in np.median(losses, axis=0)),
            shown_ratio(reference[:, -1], losses[:, -1], losses is reference),
            f"{int((reference[:, -1] < losses[:, -1]).sum())} of {len(runs)}",
            f"{tuned[optimizer]['cpu_seconds']:.0f}",
        )
    return table


def columns(title: str, *names: str) -> Table:
    table = Table(title=title)
    table.add_column("optimizer")
    for name in names:
        table.add_column(name, justify="right")
    return table


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "not reached"


def shown_ratio(mine: Array, theirs: Array, same: bool) -> str:
    if same:
        return "1"
    middle, low, high = (f"{r:.3g}" for r in ratio_interval(mine, theirs))
    return f"{middle} [{low}, {high}]"


# What a step costs


@dataclass(frozen=True)
class Cost:
    """Median CPU milliseconds of one step, amortised over the intervals of K-FAC."""

    name: str
    milliseconds: float


def overhead(problem: Problem, *, rounds: int, steps: int = 20) -> list[Cost]:
    """Steps of each kind, timed in turn, so that all see the same machine.

    The parts of K-FAC are differences: with all updates put off, with factors but no inverses.
    """
    never = 10**9

    def kfac(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
        assert problem.loss.likelihood is not None
        return KFAC(model, likelihood=problem.loss.likelihood, lr=1e-3, damping=1.0, **options)

    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer | None]] = {
        "forward and backward": lambda model: None,
        "Adam": lambda model: torch.optim.Adam(model.parameters()),
        "K-FAC, no updates": lambda model: kfac(model, factor_interval=never),
        "K-FAC, no inverses": lambda model: kfac(model, inverse_interval=never),
        "K-FAC": kfac,
        "EKFAC": lambda model: kfac(model, eigen_correction=True),
    }

    loops: dict[str, Callable[[], None]] = {}
    for name, make in makers.items():
        loops[name] = stepper(problem, make)
        for _ in range(12):  # K-FAC updates its factors at each of the first 10
            loops[name]()
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.process_time()
            for _ in range(steps):
                loop()
            seconds[name].append((time.process_time() - start) / steps)
    return [Cost(name, 1e3 * float(np.median(taken))) for name, taken in seconds.items()]


def stepper(
    problem: Problem, make: Callable[[nn.Module], torch.optim.Optimizer | None]
) -> Callable[[], None]:
    model = problem.build(0)
    optimizer = make(model)
    x, y = problem.data

    def step() -> None:
        model.zero_grad()
        problem.loss.function(model(x), y).backward()
        if optimizer is not None:
            optimizer.step()

    return step


def overhead_table(costs: Mapping[str, list[Cost]]) -> Table:
    table = Table(title="CPU ms of a step on all rows (factors and inverses every 5 steps)")
    table.add_column("problem")
    names = ("forward, backward", "Adam", "K-FAC", "K-FAC / Adam", "EKFAC", "EKFAC / Adam")
    parts = ("K-FAC: hooks and direction", "factors", "inverses")
    for name in (*names, *parts):
        table.add_column(name, justify="right")
    for problem, found in costs.items():
        plain, adam, still, factors, kfac, ekfac = (cost.milliseconds for cost in found)
        table.add_row(
            problem,
            *(f"{plain:.1f}", f"{adam:.1f}", f"{kfac:.1f}", f"{kfac / adam:.2f}"),
            *(f"{ekfac:.1f}", f"{ekfac / adam:.2f}"),
            *(f"{still - plain:.1f}", f"{factors - still:.1f}", f"{kfac - factors:.1f}"),
        )
    return table


# Report


def figure_of(found: Found, problems: Sequence[str]) -> go.Figure:
    """Median loss over seeds against steps and against CPU seconds, a row a problem."""
    axes = ("step", "seconds")
    titles = [f"{problem}: loss against {axis}" for problem in problems for axis in axes]
    figure = make_subplots(rows=len(problems), cols=2, subplot_titles=titles)
    for row, problem in enumerate(problems, 1):
        for optimizer, colour in zip(NAMES, COLOURS, strict=True):
            runs = [run for run in of(found, problem, optimizer) if run["step"]]
            for column, axis in enumerate(axes, 1):
                for index, run in enumerate(runs):
                    figure.add_scatter(
                        x=run[axis],
                        y=np.minimum.accumulate(run["loss"]),
                        name=optimizer,
                        legendgroup=optimizer,
                        showlegend=(row, column, index) == (1, 1, 0),
                        line={"color": colour, "width": 1.5},
                        row=row,
                        col=column,
                    )
                label = "steps" if axis == "step" else "CPU seconds"
                figure.update_xaxes(title=label, type="log", row=row, col=column)
                figure.update_yaxes(title="loss", type="log", row=row, col=column)
    figure.update_layout(height=420 * len(problems), title="Tuned optimizers; a line a seed")
    return figure


def report(
    console: Console, found: Found, tuned: Mapping[Tuning, rows.Row], problems: Sequence[str]
) -> None:
    for name in problems:
        problem = PROBLEMS[name]()
        studies = {c.optimizer: row for c, row in tuned.items() if c.problem == name}
        make = loss_table if problem.target is None else target_table
        console.print(make(name, problem, found, studies))


def settings_table(tuned: Mapping[Tuning, rows.Row]) -> Table:
    table = Table(title="Tuned settings")
    table.add_column("problem")
    table.add_column("optimizer")
    table.add_column("settings")
    for cell, row in tuned.items():
        settings = ", ".join(f"{k} {v:.3g}" for k, v in row["params"].items())
        table.add_row(cell.problem, cell.optimizer, settings)
    return table


def ratio_interval(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Ratio theirs / mine of medians, with its 95 % bootstrap interval over paired seeds."""
    draws = np.random.default_rng(0).integers(len(mine), size=(4000, len(mine)))
    ratios = np.sort([ratio(mine[drawn], theirs[drawn]) for drawn in draws])
    low, high = ratios[99], ratios[3899]
    return ratio(mine, theirs), float(low), float(high)


def ratio(mine: Array, theirs: Array) -> float:
    """Of medians; NaN where both are infinite."""
    a, b = np.median(mine), np.median(theirs)
    return float("nan") if np.isinf(a) and np.isinf(b) else float(b / a)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("kfac", __doc__, "workers write", quick="some 15 minutes")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--optimizers", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--trials", type=int, default=16, help="of each study")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--overhead", action="store_true", help="only what a step costs")
    parser.add_argument("--rounds", type=int, default=15, help="of the timing of steps")
    parser.add_argument("--again", action="store_true", help="train anew with the tuned settings")
    args = parser.parse_args(argv)
    if args.quick:
        args.problems, args.optimizers, args.seeds = ["autoencoder"], ["K-FAC", "Adam", "SGD"], 3
    optimizers = [n for n in NAMES if n in args.optimizers]
    console = Console(width=150, record=True)
    if find_spec("pytorch_optimizer") is None and {"SOAP", "Shampoo"} & set(optimizers):
        console.print("SOAP, Shampoo: pip install -c constraints.txt pytorch-optimizer")
        optimizers = [n for n in optimizers if n not in ("SOAP", "Shampoo")]
    quiet()
    if not args.overhead:
        studies = [Tuning(p, name, args.trials) for p in args.problems for name in optimizers]
        tuned = rows.collect("kfac", studies, tune, workers=args.workers)
        cells = [
            Training(c.problem, c.optimizer, seed, tuple(sorted(row["params"].items())))
            for c, row in tuned.items()
            for seed in range(args.seeds)
        ]
        found = rows.collect("kfac", cells, train, workers=args.workers, again=args.again)
        report(console, found, tuned, args.problems)
        console.print(settings_table(tuned))
        figure_of(found, args.problems).write_html(rows.RUNS / "kfac.html")
    costs = {p: overhead(PROBLEMS[p](), rounds=args.rounds) for p in args.problems}
    console.print(overhead_table(costs))
    if args.write:
        rows.write(console, "kfac", "K-FAC against the others", "Made by `" + made_by(args) + "`")


def made_by(args: argparse.Namespace) -> str:
    return "python -m experiments.kfac" + " --quick" * args.quick + " --write"


if __name__ == "__main__":
    main()
