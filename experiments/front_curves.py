"""Pruning with two objectives: fronts of real trainings at equal numbers of training steps.

    python -m experiments.front_curves --quick     one data set, one seed
    python -m experiments.front_curves             development data sets, seeds 100 to 103
    python -m experiments.front_curves --final     final data sets, seeds 0 to 3; once

A table is 120 random configurations (learning rate, penalty, batch size, width, depth) of networks
of scikit-learn on a data set of scikit-learn, each trained for 27 epochs of Adam: its validation
log loss after each, and the logarithm of its number of weights, which a trial knows at once. A
study minimises both. It chooses among the configurations as in `experiments.curves`, and stops when
it has used the epochs of 10 whole trials. Scored is the share of the front's area that its complete
trials dominate after the epochs of 3, 6 and 10 whole trials, up to the table's medians.

Tables are kept in runs/front_curves_NAME.npz, rows in runs/front_curves.jsonl.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn import datasets
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from experiments.curve_tasks import CurveTable
from experiments.curves import SAMPLERS, FromTable, StudyCell
from experiments.harness import rows
from experiments.harness.statistics import wilcoxon_p
from fisherbo import FisherPruner, report, should_prune

Array = NDArray[np.float64]

DEVELOPMENT, FINAL = ("wine", "breast_cancer"), ("digits", "iris")
CONFIGURATIONS, EPOCHS, BUDGET = 120, 27, 10
MOST_ROWS = 400  # of training
CHECKPOINTS = (3, 6, 10)  # whole trials
NAMES = ("lr", "alpha", "batch", "width", "depth")
LABELS = {"none": "none", "fisher": "FisherPruner"}
PRUNERS: Mapping[str, Callable[[], BasePruner]] = {"none": NopPruner, "fisher": FisherPruner}


def network(u: Array, seed: int) -> MLPClassifier:
    """The network of a configuration in the unit cube."""
    return MLPClassifier(
        hidden_layer_sizes=(round(2 * 64 ** u[3]),) * (1 + int(3 * u[4])),
        learning_rate_init=1e-4 * 3e3 ** u[0],
        alpha=1e-6 * 1e6 ** u[1],
        batch_size=round(16 * 16 ** u[2]),
        random_state=seed,
    )


def train(data: str, u: Array, seed: int) -> tuple[list[float], float]:
    """Validation log loss after each epoch, and the logarithm of the number of weights."""
    x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    classes = np.unique(y)
    x, held, y, target = train_test_split(x, y, test_size=0.4, random_state=0, stratify=y)
    x, y = x[:MOST_ROWS], y[:MOST_ROWS]
    scaler = StandardScaler().fit(x)
    x, held = scaler.transform(x), scaler.transform(held)
    model, losses = network(u, seed), []
    for _ in range(EPOCHS):
        model.partial_fit(x, y, classes=classes)
        losses.append(float(log_loss(target, model.predict_proba(held), labels=classes)))
    return losses, float(np.log(sum(w.size for w in [*model.coefs_, *model.intercepts_])))


@cache
def table(data: str) -> tuple[CurveTable, Array]:
    """The configurations with their losses, and the logarithm of their weights, ``(n,)``."""
    path = rows.RUNS / f"front_curves_{data}.npz"
    if not path.exists():
        u = np.random.default_rng(0).random((CONFIGURATIONS, len(NAMES)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # batches larger than the data are clipped
            told = [train(data, row, i) for i, row in enumerate(track(u, data))]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, u=u, loss=[losses for losses, _ in told], size=[size for _, size in told])
    kept = np.load(path)
    return CurveTable(NAMES, kept["u"], kept["loss"]), kept["size"]


@dataclass(frozen=True)
class Cell(StudyCell):
    """One study."""

    data: str
    sampler: str
    pruner: str
    seed: int


def run(cell: Cell) -> rows.Row:
    """Shares of the front's area after the epochs of some whole trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves, sizes = table(cell.data)
    study = optuna.create_study(
        directions=["minimize"] * 2,
        sampler=FromTable(SAMPLERS[cell.sampler](cell.seed), curves),
        pruner=PRUNERS[cell.pruner](),
    )
    ends = np.stack([curves.loss[:, -1], sizes], 1)
    used, found, shares = 0, [], []
    while used < BUDGET * EPOCHS:
        trial = study.ask(curves.space)
        u = np.array([trial.params[name] for name in NAMES])
        row = int(np.abs(curves.u - u).sum(1).argmin())
        for epoch, loss in enumerate(curves.loss[row].tolist()):
            report(trial, {"loss": loss, "log weights": float(sizes[row])}, epoch)
            used += 1
            if epoch + 1 == EPOCHS:
                study.tell(trial, ends[row].tolist())
                found.append(row)
            if used % EPOCHS == 0 and used // EPOCHS in CHECKPOINTS:
                shares.append(dominated(ends[found], ends))
            if used >= BUDGET * EPOCHS or epoch + 1 == EPOCHS:
                break
            if should_prune(trial):
                study.tell(trial, state=TrialState.PRUNED)
                break
    return {"shares": shares, "trials": len(study.trials), "complete": len(found)}


def dominated(values: Array, every: Array) -> float:
    """Area that values ``(k, 2)`` dominate up to the median of all, as a share of what all do."""
    reference = np.median(every, 0)
    return area(values, reference) / area(every, reference)


def area(values: Array, reference: Array) -> float:
    """Area between points and a reference point that they are below."""
    total, height = 0.0, float(reference[1])
    for a, b in sorted(values.tolist()):
        if a < reference[0] and b < height:
            total += (reference[0] - a) * (height - b)
            height = b
    return float(total)


def compare(console: Console, found: Mapping[Cell, rows.Row]) -> None:
    """Shares of all methods, and of each sampler's pairs with and without pruning."""
    shown = Table(title="Share of the front's area that complete trials dominate, mean")
    for name in ("sampler", "pruner", *(f"@{k}" for k in CHECKPOINTS), "better @6", "p", "trials"):
        shown.add_column(name, justify="left" if name in ("sampler", "pruner") else "right")
    for sampler, pruner in sorted({(c.sampler, c.pruner) for c in found}):
        mine = [c for c in found if (c.sampler, c.pruner) == (sampler, pruner)]
        shares = np.array([found[c]["shares"] for c in mine])
        base = [found.get(Cell(c.data, c.sampler, "none", c.seed)) for c in mine]
        better, p = "", ""
        if pruner != "none" and all(base):
            gain = shares[:, 1] - np.array([row["shares"][1] for row in base if row])
            better = f"{int((gain > 0).sum())} of {len(gain)}"
            p = f"{wilcoxon_p(gain):.3f}"
        trials = float(np.median([found[c]["trials"] for c in mine]))
        cells = (*(f"{v:.3f}" for v in shares.mean(0)), better, p, f"{trials:.0f}")
        shown.add_row(sampler, LABELS[pruner], *cells)
    console.print(shown)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one data set, one seed")
    parser.add_argument("--final", action="store_true", help="final data sets")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "fisher"], choices=SAMPLERS)
    parser.add_argument("--write", action="store_true", help="write results/front_curves.md")
    args = parser.parse_args(argv)
    data: Any = FINAL if args.final else DEVELOPMENT
    seeds: Any = range(4) if args.final else range(100, 104)
    if args.quick:
        data, seeds = data[:1], seeds[:1]
    cells = [
        Cell(name, sampler, pruner, seed)
        for seed in seeds for name in data for sampler in args.samplers for pruner in PRUNERS
    ]  # fmt: skip
    console = Console(record=True, width=110)
    compare(console, rows.collect("front_curves", cells, run))
    if args.write:
        made_by = f"Made by `{rows.command('front_curves', argv)}`."
        rows.write(console, "front_curves", "Pruning with two objectives", made_by)


if __name__ == "__main__":
    main()
