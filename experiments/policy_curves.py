"""Pruning while policies are tuned: noisy returns at equal numbers of environment steps.

    python -m experiments.policy_curves --quick            CartPole-v1, one seed of the studies
    python -m experiments.policy_curves                    CartPole-v1, for development
    python -m experiments.policy_curves --final --write    Acrobot-v1; once

A table is 100 random settings of the space of `fisherbo.tune_policy`, each trained three times by
TRPO: the mean return of the last 100 episodes after each update, and that of 20 episodes with the
most probable actions in the end. A study does what `tune_policy` does; a trial is one of the three
runs of the settings that are nearest to its own in the unit cube. A study stops when it has used
the steps of 30 whole trials. Scored is what the settings that it recommends are worth, the mean of
their three runs, after the steps of 5, 10, 20 and 30 whole trials: the share of the table's
settings that are better.

Tables take some 20 and 50 CPU minutes; they are kept in runs/policy_curves_NAME.npz, rows in
runs/policy_curves.jsonl.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.curves import PRUNERS, StudyCell
from experiments.harness import rows
from experiments.harness.statistics import wilcoxon_p
from fisherbo import FisherSampler
from fisherbo.rl import train
from fisherbo.rl.learning_curve import WINDOW
from fisherbo.tuning.policy import SPACE

Array = NDArray[np.float64]

STEPS = {"CartPole-v1": 12_288, "Acrobot-v1": 30_720}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "Acrobot-v1": {"normalise_observations": True, "normalise_rewards": True},
}
SETTINGS_IN_TABLE, RUNS, EPISODES, BUDGET = 100, 3, 20, 30
CHECKPOINTS = (5, 10, 20, 30)  # whole trials
METHODS = ("none", "median", "percentile75", "fisher")


def nearest(u: Array, settings: Mapping[str, float]) -> int:
    """The row of points ``(n, d)`` of the unit cube that is nearest to settings."""
    point = []
    for name, kind in SPACE.items():
        assert isinstance(kind, FloatDistribution)
        scale = np.log if kind.log else float
        low, high, value = scale(kind.low), scale(kind.high), scale(settings[name])
        point.append((value - low) / (high - low))
    return int(((u - np.array(point)) ** 2).sum(1).argmin())


def settings_at(u: Array) -> dict[str, Any]:
    """Settings of a point of the unit cube, logarithmic where their ranges are."""
    found: dict[str, Any] = {}
    for (name, kind), x in zip(SPACE.items(), u.tolist(), strict=True):
        assert isinstance(kind, FloatDistribution)
        low, high = np.log([kind.low, kind.high]) if kind.log else (kind.low, kind.high)
        value = low + x * (high - low)
        found[name] = float(np.exp(value) if kind.log else value)
    return found


def trained(environment: str, job: tuple[Array, int]) -> tuple[list[float], float]:
    """Mean returns of the last 100 episodes after each update, and what the policy is worth."""
    u, seed = job
    returns: list[float] = []
    curve: list[float] = []

    def after(_: Any, finished: Any) -> None:
        returns.extend(episode.value for episode in finished)
        curve.append(float(np.mean(returns[-WINDOW:])) if returns else np.nan)

    result = train(
        environment, steps=STEPS[environment], seed=seed, callback=after,
        **SETTINGS[environment], **settings_at(u),
    )  # fmt: skip
    return curve, float(np.mean(result.agent.evaluate(EPISODES, environment=environment)))


@cache
def table(environment: str) -> tuple[Array, Array, Array]:
    """Points ``(n, d)``, curves ``(n, runs, t)`` and worths ``(n, runs)``."""
    path = rows.RUNS / f"policy_curves_{environment}.npz"
    if not path.exists():
        u = np.random.default_rng(0).random((SETTINGS_IN_TABLE, len(SPACE)))
        jobs = [(u[i // RUNS], i) for i in range(RUNS * len(u))]
        with ProcessPoolExecutor() as pool:
            told = list(track(pool.map(partial(trained, environment), jobs), total=len(jobs)))
        path.parent.mkdir(parents=True, exist_ok=True)
        curves = np.array([curve for curve, _ in told]).reshape(len(u), RUNS, -1)
        worth = np.array([value for _, value in told]).reshape(len(u), RUNS)
        np.savez(path, u=u, curves=curves, worth=worth)
    kept = np.load(path)
    return kept["u"], kept["curves"], kept["worth"]


@dataclass(frozen=True)
class Cell(StudyCell):
    """One study."""

    environment: str
    pruner: str
    seed: int


def run(cell: Cell) -> rows.Row:
    """Shares of better settings than the recommended ones at each checkpoint."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    u, curves, worth = table(cell.environment)
    means = worth.mean(1)
    sampler = FisherSampler(seed=cell.seed)
    pruner = PRUNERS[cell.pruner]("steps")
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    rng, reports, used, complete = np.random.default_rng(cell.seed), curves.shape[2], 0, 0
    shares: list[float] = []

    def recommended() -> float:
        if not complete:
            return 1.0
        found = sampler.recommend(study).params
        return float((means > means[nearest(u, found)]).mean())

    while used < BUDGET * reports:
        trial = study.ask(dict(SPACE))
        row, one = nearest(u, trial.params), int(rng.integers(RUNS))
        for step in range(reports):
            used += 1
            value = curves[row, one, step]
            if not np.isnan(value):
                trial.report(float(value), step)
            if step + 1 == reports:
                study.tell(trial, float(worth[row, one]))
                complete += 1
            if used % reports == 0 and used // reports in CHECKPOINTS:
                shares.append(recommended())
            if used >= BUDGET * reports:
                break
            if step + 1 < reports and not np.isnan(value) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
    return {"shares": shares, "trials": len(study.trials), "complete": complete}


def compare(console: Console, found: Mapping[Cell, rows.Row]) -> None:
    """Mean shares of each pruner, and its pairs with none."""
    shown = Table(title="Share of settings that are better than the recommended ones, mean")
    names = ("environment", "pruner", *(f"@{k}" for k in CHECKPOINTS))
    for name in (*names, "better / worse @10", "p", "complete", "trials"):
        shown.add_column(name, justify="left" if name in ("environment", "pruner") else "right")
    for environment in dict.fromkeys(c.environment for c in found):
        for pruner in METHODS:
            mine = [c for c in found if (c.environment, c.pruner) == (environment, pruner)]
            shares = np.array([found[c]["shares"] for c in mine])
            base = np.array([found[Cell(environment, "none", c.seed)]["shares"] for c in mine])
            gain = base[:, 1] - shares[:, 1]
            pairs = ("", "")
            if pruner != "none":
                pairs = (f"{(gain > 0).sum()} / {(gain < 0).sum()}", f"{wilcoxon_p(gain):.3f}")
            shown.add_row(
                environment,
                "FisherPruner" if pruner == "fisher" else pruner,
                *(f"{v:.3f}" for v in shares.mean(0)),
                *pairs,
                f"{np.median([found[c]['complete'] for c in mine]):.0f}",
                f"{np.median([found[c]['trials'] for c in mine]):.0f}",
            )
    console.print(shown)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--final", action="store_true", help="the other environment")
    parser.add_argument("--write", action="store_true", help="write results/policy_curves.md")
    args = parser.parse_args(argv)
    environment = "Acrobot-v1" if args.final else "CartPole-v1"
    seeds = range(24) if args.final else range(100, 124)
    cells = [
        Cell(environment, pruner, seed)
        for seed in (seeds[:1] if args.quick else seeds) for pruner in METHODS
    ]  # fmt: skip
    table(environment)
    console = Console(record=True, width=120)
    compare(console, rows.collect("policy_curves", cells, run))
    if args.write:
        made_by = f"Made by `{rows.command('policy_curves', argv)}`."
        rows.write(console, "policy_curves", "Pruning while policies are tuned", made_by)


if __name__ == "__main__":
    main()
