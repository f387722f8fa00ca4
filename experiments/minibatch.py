"""K-FAC against AdamW, SGD, SOAP, Shampoo and Muon in minibatch loops, tuned alike and untuned.

    python -m experiments.minibatch --write     some 80 minutes on two cores
    python -m experiments.minibatch --untuned   only the table of untuned optimizers

Four networks that no default was chosen on: a perceptron and a ResNet with BatchNorm on digits, a
GPT on source code of Python's library, a perceptron on a table of 20,000 rows. Every optimizer is
tuned by FisherSampler with the same number of trials, its defaults being the first, for the mean
logarithm of the loss over a run (losses below 1e-4 count as that), so that fast runs are best, in
the mean of two seeds. The best settings then train five other seeds. A loss is the mean of ten
batches. The target is the loss that AdamW ends at, in the median. Untuned, every optimizer has its
own defaults; those without a default learning rate have the one that their authors use (AdamW 1e-3,
SGD .01 with momentum .9, Muon .02 and AdamW 3e-3 beside it).

The optimizers of one problem and seed take their steps in turn, in one process, so that their CPU
seconds compare on a machine that does other work. Steps and seconds are medians over the seeds,
with the ratio to K-FAC's best variant and its 95 % interval, bootstrapped over the seeds; a run
that misses the target counts as infinitely long. The last column is what a step costs in the second
half of the run, when K-FAC's factors are updated at long intervals. torch's Muon multiplies in
bfloat16: its seconds are several times as long on processors that have no instructions for it.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from optuna.distributions import FloatDistribution
from rich.console import Console
from rich.table import Table
from torch import nn

import fisherbo
from experiments import kfac as kfac_experiment
from experiments.harness import rows
from experiments.kfac import TUNING_SEED, columns, number, quiet, shown_ratio, version_of
from experiments.options import command_line
from experiments.workloads import REPORTED, Workload, smoothed, train, training
from fisherbo.training import KFAC

TUNING_SEEDS = (TUNING_SEED, TUNING_SEED + 1)
LEAST_LOSS = 1e-4
Space = dict[str, FloatDistribution]
Build = Callable[[nn.Module, Workload, Mapping[str, float]], Any]


class Muon:
    """`torch.optim.Muon` for hidden matrices, AdamW for all else, as its authors use it."""

    def __init__(self, model: nn.Module, lr: float, other_lr: float, momentum: float) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        outer = {p for n, p in model.named_parameters() if n.startswith(("symbol", "place", "out"))}
        for parameter in model.parameters():
            hidden = parameter.ndim == 2 and parameter not in outer
            (matrices if hidden else others).append(parameter)
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=other_lr)]
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=lr, momentum=momentum, weight_decay=0))

    def zero_grad(self) -> None:
        """Of all parameters."""
        for part in self._parts:
            part.zero_grad()

    def step(self) -> None:
        """Of both."""
        for part in self._parts:
            part.step()


def adamw(model: nn.Module, _: Workload, p: Mapping[str, float]) -> Any:
    betas = (1 - p.get("one_minus_beta1", 0.1), 0.999)
    return torch.optim.AdamW(model.parameters(), lr=p.get("lr", 1e-3), betas=betas)


def sgd(model: nn.Module, _: Workload, p: Mapping[str, float]) -> Any:
    momentum = 1 - p.get("one_minus_momentum", 0.1)
    return torch.optim.SGD(
        model.parameters(), lr=p.get("lr", 0.01), momentum=momentum, nesterov=True
    )


def soap(model: nn.Module, _: Workload, p: Mapping[str, float]) -> Any:
    from pytorch_optimizer import SOAP

    betas = (1 - p.get("one_minus_beta1", 0.05), 0.95)
    return SOAP(model.parameters(), lr=p.get("lr", 3e-3), betas=betas, weight_decay=0.0)


def shampoo(model: nn.Module, _: Workload, p: Mapping[str, float]) -> Any:
    from pytorch_optimizer import ScalableShampoo

    return ScalableShampoo(
        model.parameters(),
        lr=p.get("lr", 1e-3),
        betas=(1 - p.get("one_minus_beta1", 0.1), 0.999),
        start_preconditioning_step=10,
        preconditioning_compute_steps=10,
        graft_type=3,
    )


def muon(model: nn.Module, _: Workload, p: Mapping[str, float]) -> Any:
    momentum = 1 - p.get("one_minus_momentum", 0.05)
    return Muon(model, p.get("lr", 0.02), p.get("other_lr", 3e-3), momentum)


def kfac(model: nn.Module, workload: Workload, p: Mapping[str, float]) -> Any:
    options: dict[str, Any] = {k: v for k, v in p.items() if k != "one_minus_momentum"}
    if "one_minus_momentum" in p:
        options["momentum"] = 1 - p["one_minus_momentum"]
    return KFAC(model, likelihood=workload.likelihood, **options)


def damped(model: nn.Module, workload: Workload, p: Mapping[str, float]) -> Any:
    options: dict[str, Any] = dict(p)
    return KFAC(model, likelihood=workload.likelihood, second_moment="fisher", **options)


def logarithmic(**bounds: tuple[float, float]) -> Space:
    return {name: FloatDistribution(*ends, log=True) for name, ends in bounds.items()}


@dataclass(frozen=True)
class Optimizer:
    """What is tuned, from where, and how it is built."""

    space: Space
    defaults: Mapping[str, float]
    build: Build


OPTIMIZERS: dict[str, Optimizer] = {
    "K-FAC": Optimizer(
        logarithmic(lr=(3e-3, 0.3), kl_clip=(1e-3, 0.3), one_minus_momentum=(0.02, 0.5)),
        {"lr": 0.02, "kl_clip": 0.02, "one_minus_momentum": 0.1},
        kfac,
    ),
    "K-FAC, damped": Optimizer(
        logarithmic(lr=(1e-2, 1.0), damping=(1e-4, 1.0), kl_clip=(1e-4, 0.1)),
        {"lr": 0.1, "damping": 0.01, "kl_clip": 1e-3},
        damped,
    ),
    "AdamW": Optimizer(
        logarithmic(lr=(1e-4, 1e-1), one_minus_beta1=(0.02, 0.5)),
        {"lr": 1e-3, "one_minus_beta1": 0.1},
        adamw,
    ),
    "SGD": Optimizer(
        logarithmic(lr=(1e-4, 1.0), one_minus_momentum=(0.01, 0.5)),
        {"lr": 1e-2, "one_minus_momentum": 0.1},
        sgd,
    ),
    "SOAP": Optimizer(
        logarithmic(lr=(3e-4, 1e-1), one_minus_beta1=(0.02, 0.5)),
        {"lr": 3e-3, "one_minus_beta1": 0.05},
        soap,
    ),
    "Shampoo": Optimizer(
        logarithmic(lr=(1e-4, 1e-1), one_minus_beta1=(0.02, 0.5)),
        {"lr": 1e-3, "one_minus_beta1": 0.1},
        shampoo,
    ),
    "Muon": Optimizer(
        logarithmic(lr=(1e-3, 0.3), other_lr=(1e-4, 1e-1), one_minus_momentum=(0.02, 0.5)),
        {"lr": 0.02, "other_lr": 3e-3, "one_minus_momentum": 0.05},
        muon,
    ),
}


Settings = tuple[tuple[str, float], ...]


class Tuning(kfac_experiment.Tuning):
    """One study in minibatches."""

    def key(self) -> str:
        """Names the version and all settings."""
        return f"minibatch/{super().key()}/{len(TUNING_SEEDS)} seeds"


@dataclass(frozen=True)
class Race:
    """Optimizers, with settings or without, that train from the same weights in turn."""

    problem: str
    seed: int
    entrants: tuple[tuple[str, Settings], ...]

    def key(self) -> str:
        """Names the versions and all settings."""
        names = [
            f"{name}@{version_of(name)}({','.join(f'{k}={v:.6g}' for k, v in settings)})"
            for name, settings in self.entrants
        ]
        return f"minibatch/race/{self.problem}/{self.seed}/{'+'.join(names)}"


def race(cell: Race) -> rows.Row:
    """Losses and CPU seconds of each optimizer."""
    quiet()
    workload = REPORTED[cell.problem]()
    runs = {
        name: training(workload, partial(built, name, workload, dict(settings)), cell.seed)
        for name, settings in cell.entrants
    }
    found: rows.Row = {name: {"losses": [], "seconds": []} for name in runs}
    while runs:
        for name, run in list(runs.items()):
            taken = next(run, None)
            if taken is None:
                del runs[name]
                continue
            found[name]["losses"].append(round(taken[0], 6))
            found[name]["seconds"].append(round(taken[1], 4))
    return found


def built(name: str, workload: Workload, params: Mapping[str, float], model: nn.Module) -> Any:
    return OPTIMIZERS[name].build(model, workload, params)


def tune(cell: Tuning) -> rows.Row:
    """The settings with the fastest runs."""
    quiet()
    workload, kind = REPORTED[cell.problem](), OPTIMIZERS[cell.optimizer]

    def objective(trial: optuna.Trial) -> float:
        params = {
            name: trial.suggest_float(name, ends.low, ends.high, log=True)
            for name, ends in kind.space.items()
        }
        build = partial(built, cell.optimizer, workload, params)
        runs = [train(workload, build, seed)[0] for seed in TUNING_SEEDS]
        return float(np.mean([mean_log(losses, workload.steps) for losses in runs]))

    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=TUNING_SEED))
    study.enqueue_trial(dict(kind.defaults))
    study.optimize(objective, n_trials=cell.trials)
    return {"params": study.best_params, "value": study.best_value}


def mean_log(losses: Sequence[float], steps: int) -> float:
    """Mean logarithm of the smoothed loss; a run that ended before has its largest loss since."""
    curve = np.clip(smoothed(losses), LEAST_LOSS, 1e6)
    missing = max(0, steps - len(losses))
    return float(np.log(np.append(curve, np.full(missing, curve.max()))).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("minibatch", __doc__, "workers write")
    parser.add_argument("--problems", nargs="+", default=list(REPORTED), choices=REPORTED)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--trials", type=int, default=12, help="of each study")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--untuned", action="store_true", help="only the untuned optimizers")
    args = parser.parse_args(argv)
    if not {"AdamW", "K-FAC"} <= set(args.optimizers):
        parser.error("--optimizers must have K-FAC and AdamW, which the others are compared to")
    console = Console(width=160, record=True)
    pairs = [(p, o) for p in args.problems for o in args.optimizers]
    report(console, "untuned", args, dict.fromkeys(pairs, ()))
    if not args.untuned:
        studies = [Tuning(p, o, args.trials) for p, o in pairs]
        tuned = rows.collect("minibatch", studies, tune, workers=args.workers)
        settings = {
            (c.problem, c.optimizer): tuple(sorted(row["params"].items()))
            for c, row in tuned.items()
        }
        report(console, "tuned", args, settings)
        console.print(settings_table(tuned))
    if args.write:
        made_by = f"Made by `{rows.command('minibatch', argv)}`"
        rows.write(console, "minibatch", "K-FAC in minibatch loops", made_by)


def report(
    console: Console,
    title: str,
    args: argparse.Namespace,
    settings: Mapping[tuple[str, str], Settings],
) -> None:
    cells = [
        Race(problem, seed, tuple((o, settings[problem, o]) for o in args.optimizers))
        for problem in args.problems
        for seed in range(args.seeds)
    ]
    found = rows.collect("minibatch", cells, race, workers=args.workers)
    for problem in args.problems:
        races = [row for c, row in found.items() if c.problem == problem]
        runs = {o: [row[o] for row in races] for o in args.optimizers}
        console.print(problem_table(f"{problem}, {title}", runs))


def problem_table(title: str, runs: Mapping[str, list[rows.Row]]) -> Table:
    goal = float(np.median([smoothed(row["losses"])[-1] for row in runs["AdamW"]]))
    ends = np.array([row["seconds"][-1] for row in runs["AdamW"]])
    marks = {"¼": 0.25 * ends, "½": 0.5 * ends, "all": ends}
    table = columns(
        f"{title}: target {goal:.3g}, the loss of AdamW at the end",
        *("reached", "steps", "× K-FAC's (95 %)", "CPU s", "× K-FAC's (95 %)"),
        *(f"loss in {mark} of AdamW's s" for mark in marks),
        "step / AdamW's",
    )
    reach = {o: np.array([reached(row, goal) for row in found]).T for o, found in runs.items()}
    ours = [o for o in reach if o.startswith("K-FAC")]
    best = [min((float(np.median(reach[o][i])), o) for o in ours)[1] for i in range(2)]
    base = np.array([late_step(row) for row in runs["AdamW"]])
    for optimizer, (steps, spent) in reach.items():
        losses = [
            [loss_at(row, mark[k]) for mark in marks.values()]
            for k, row in enumerate(runs[optimizer])
        ]
        costs = np.array([late_step(row) for row in runs[optimizer]]) / base
        table.add_row(
            optimizer,
            f"{int(np.isfinite(steps).sum())} of {len(steps)}",
            number(float(np.median(steps)), 0),
            shown_ratio(reach[best[0]][0], steps, optimizer == best[0]),
            number(float(np.median(spent)), 2),
            shown_ratio(reach[best[1]][1], spent, optimizer == best[1]),
            *(f"{value:.3g}" for value in np.median(losses, axis=0)),
            f"{np.median(costs):.2f}",
        )
    return table


def late_step(row: rows.Row) -> float:
    """Mean CPU seconds of a step in the second half of the run."""
    seconds = row["seconds"]
    half = len(seconds) // 2
    return float(seconds[-1] - seconds[half]) / max(1, len(seconds) - 1 - half)


def reached(row: rows.Row, goal: float) -> tuple[float, float]:
    """Steps and seconds until the smoothed loss is at most the goal; infinite if it never is."""
    curve = smoothed(row["losses"])
    hits = np.flatnonzero(curve <= goal)
    if not len(hits):
        return math.inf, math.inf
    step = int(hits[0]) + len(row["losses"]) - len(curve)
    return float(step), float(row["seconds"][step])


def loss_at(row: rows.Row, seconds: float) -> float:
    """The smoothed loss after so many CPU seconds, or at the end if that was before."""
    curve = smoothed(row["losses"])
    lag = len(row["losses"]) - len(curve)
    step = int(np.searchsorted(row["seconds"], seconds, side="right")) - 1
    return float(curve[min(max(step - lag, 0), len(curve) - 1)])


def settings_table(tuned: Mapping[Tuning, rows.Row]) -> Table:
    table = columns("tuned settings", "problem", "settings")
    for cell, row in tuned.items():
        settings = ", ".join(f"{k} {v:.3g}" for k, v in row["params"].items())
        table.add_row(cell.optimizer, cell.problem, settings)
    return table


if __name__ == "__main__":
    main()
