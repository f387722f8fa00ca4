"""K-FAC against AdamW, SGD, SOAP, Shampoo and Muon in minibatch loops, tuned alike and untuned.

    python -m experiments.minibatch --write     some 40 minutes on two cores
    python -m experiments.minibatch --defaults  only the table of untuned optimizers

Four networks that no default was chosen on: a perceptron and a ResNet with BatchNorm on digits, a
GPT on source code of Python's library, a perceptron on a table of 20,000 rows. Every optimizer is
tuned by FisherSampler with the same number of trials, for the loss after the same CPU seconds (or
the same steps, if they end before), on one seed; the best settings then train five other seeds. A
loss is the mean of ten batches. The target is the loss that tuned AdamW ends at, in the median.
Untuned, every optimizer has its own defaults; those without a default learning rate have the one
that their authors use (AdamW 1e-3, SGD .01 with momentum .9, Muon .02 and AdamW 3e-3 beside it).

Steps and seconds are medians over the seeds, with the ratio to K-FAC's best variant and its 95 %
interval, bootstrapped over the seeds; a run that misses the target counts as infinitely long.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
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
from experiments import rows
from experiments.kfac import columns, number, quiet, ratio_interval
from experiments.peers import source_digest
from experiments.workloads import REPORTED, Workload, smoothed, train
from fisherbo.training import KFAC

TUNING_SEED = 100
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


OPTIMIZERS: dict[str, tuple[Space, Build]] = {
    "K-FAC": (
        logarithmic(lr=(3e-3, 0.3), kl_clip=(1e-3, 0.3), one_minus_momentum=(0.02, 0.5)),
        kfac,
    ),
    "K-FAC, damped": (
        logarithmic(lr=(1e-2, 1.0), damping=(1e-4, 1.0), kl_clip=(1e-4, 0.1)),
        damped,
    ),
    "AdamW": (logarithmic(lr=(1e-4, 1e-1), one_minus_beta1=(0.02, 0.5)), adamw),
    "SGD": (logarithmic(lr=(1e-4, 1.0), one_minus_momentum=(0.01, 0.5)), sgd),
    "SOAP": (logarithmic(lr=(3e-4, 1e-1), one_minus_beta1=(0.02, 0.5)), soap),
    "Shampoo": (logarithmic(lr=(1e-4, 1e-1), one_minus_beta1=(0.02, 0.5)), shampoo),
    "Muon": (
        logarithmic(lr=(1e-3, 0.3), other_lr=(1e-4, 1e-1), one_minus_momentum=(0.02, 0.5)),
        muon,
    ),
}


@cache
def version_of(name: str) -> str:
    if name.startswith("K-FAC"):
        return source_digest("training")
    package = "pytorch-optimizer" if name in ("SOAP", "Shampoo") else "torch"
    return f"{package}-{version(package)}"


@dataclass(frozen=True)
class Tuning:
    """One study."""

    problem: str
    optimizer: str
    trials: int
    seconds: float

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"{self.optimizer}@{version_of(self.optimizer)}"
        return f"minibatch/tuning/{who}/{self.problem}/{self.trials}/{self.seconds:g}"


@dataclass(frozen=True)
class Run:
    """One training with given settings."""

    problem: str
    optimizer: str
    seed: int
    seconds: float
    params: tuple[tuple[str, float], ...] = ()

    def key(self) -> str:
        """Names the version and all settings."""
        who = f"{self.optimizer}@{version_of(self.optimizer)}"
        settings = ",".join(f"{k}={v:.6g}" for k, v in self.params)
        return f"minibatch/run/{who}/{self.problem}/{self.seed}/{self.seconds:g}/{settings}"


def run(cell: Run) -> rows.Row:
    quiet()
    workload = REPORTED[cell.problem]()
    build = OPTIMIZERS[cell.optimizer][1]
    try:
        losses, seconds = train(
            workload, lambda m: build(m, workload, dict(cell.params)), cell.seed, cell.seconds
        )
    except (RuntimeError, ValueError) as error:  # a peer's factorisation of what is not finite
        return {"losses": [math.inf], "seconds": [0.0], "failed": str(error)}
    return {
        "losses": [round(x, 6) for x in losses],
        "seconds": [round(x, 4) for x in seconds],
    }


def tune(cell: Tuning) -> rows.Row:
    """The settings with the lowest loss at the end."""
    quiet()

    def objective(trial: optuna.Trial) -> float:
        space = OPTIMIZERS[cell.optimizer][0]
        params = {
            name: trial.suggest_float(name, kind.low, kind.high, log=True)
            for name, kind in space.items()
        }
        ran = Run(
            cell.problem, cell.optimizer, TUNING_SEED, cell.seconds, tuple(sorted(params.items()))
        )
        return min(float(smoothed(run(ran)["losses"])[-1]), 1e6)

    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=TUNING_SEED))
    study.optimize(objective, n_trials=cell.trials)
    return {"params": study.best_params, "value": study.best_value}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.minibatch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--problems", nargs="+", default=list(REPORTED), choices=REPORTED)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--trials", type=int, default=8, help="of each study")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="CPU seconds of a run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--defaults", action="store_true", help="only the untuned optimizers")
    parser.add_argument("--write", action="store_true", help="also to experiments/results")
    args = parser.parse_args(argv)
    console = Console(width=150, record=True)
    pairs = [(p, o) for p in args.problems for o in args.optimizers]
    tuned: dict[Tuning, rows.Row] = {}
    if not args.defaults:
        studies = [Tuning(p, o, args.trials, args.seconds) for p, o in pairs]
        tuned = rows.collect("minibatch", studies, tune, workers=args.workers)
        settings = {
            (c.problem, c.optimizer): tuple(sorted(row["params"].items()))
            for c, row in tuned.items()
        }
        report(console, "tuned", args, settings)
    report(console, "untuned", args, dict.fromkeys(pairs, ()))
    if tuned:
        console.print(settings_table(tuned))
    if args.write:
        command = "python -m experiments.minibatch --write"
        rows.write(console, "minibatch", "K-FAC in minibatch loops", f"Made by `{command}`")


def report(
    console: Console,
    title: str,
    args: argparse.Namespace,
    settings: Mapping[tuple[str, str], tuple[tuple[str, float], ...]],
) -> None:
    cells = [
        Run(p, o, seed, args.seconds, params)
        for (p, o), params in settings.items()
        for seed in range(args.seeds)
    ]
    found = rows.collect("minibatch", cells, run, workers=args.workers)
    for problem in args.problems:
        runs = {
            o: [row for c, row in found.items() if (c.problem, c.optimizer) == (problem, o)]
            for o in args.optimizers
        }
        console.print(problem_table(f"{problem}, {title}", runs, args.seconds))


def problem_table(title: str, runs: Mapping[str, list[rows.Row]], seconds: float) -> Table:
    goal = float(np.median([smoothed(row["losses"])[-1] for row in runs["AdamW"]]))
    marks = [seconds * share for share in (0.25, 0.5, 1.0)]
    table = columns(
        f"{title}: target {goal:.3g}, the loss of AdamW at the end",
        *("reached", "steps", "× K-FAC's (95 %)", "CPU s", "× K-FAC's (95 %)"),
        *(f"loss at {mark:g} s" for mark in marks),
        "ms a step",
    )
    reach = {o: np.array([reached(row, goal) for row in found]).T for o, found in runs.items()}
    ours = [o for o in reach if o.startswith("K-FAC")]
    best = [min((float(np.median(reach[o][i])), o) for o in ours)[1] for i in range(2)]
    for optimizer, (steps, spent) in reach.items():
        losses = [[loss_at(row, mark) for mark in marks] for row in runs[optimizer]]
        step = [1e3 * row["seconds"][-1] / len(row["seconds"]) for row in runs[optimizer]]
        table.add_row(
            optimizer,
            f"{int(np.isfinite(steps).sum())} of {len(steps)}",
            number(float(np.median(steps)), 0),
            compared(reach[best[0]][0], steps, optimizer == best[0]),
            number(float(np.median(spent)), 2),
            compared(reach[best[1]][1], spent, optimizer == best[1]),
            *(f"{value:.3g}" for value in np.median(losses, axis=0)),
            f"{np.median(step):.1f}",
        )
    return table


def compared(ours: Any, theirs: Any, same: bool) -> str:
    if same:
        return "1"
    middle, low, high = (f"{value:.3g}" for value in ratio_interval(ours, theirs))
    return f"{middle} [{low}, {high}]"


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
