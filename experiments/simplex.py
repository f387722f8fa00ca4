"""What it is worth that the sampler knows mixture weights as one group.

    python -m experiments.simplex --quick    6 problems, 1 seed
    python -m experiments.simplex --dev      24 development problems, 2 seeds
    python -m experiments.simplex --write    24 others, 2 seeds: run once

Weights of k = 3, 5 and 8 parts are searched for in 50 trials. The losses:

    ensembles    log loss, on held-out rows, of the weighted mean of k fitted classifiers' class
                 probabilities, on four data sets
    interior     KL(q, p) and (p − q)ᵀA(p − q) from an optimum q drawn from Dirichlet(5); A is
                 positive definite with eigenvalues from 1 to 30, in directions drawn at random
    vertex       the same, where q has 0.95 in one part

    group          `fisherbo.suggest_simplex`, known to FisherSampler as one group
    no group       the same floats and weights, the floats unknown to it as a group
    independent    k floats in [0, 1] divided by their sum, by FisherSampler
    gp, tpe        Optuna's GPSampler and TPESampler on the floats of "group"

Regret is normalised: 0 is the optimum, found by minimisation to convergence (all losses are
convex), 1 the median of Dirichlet(½). Tables have the mean of its decimal logarithm, from 1e-8. A
problem's mean over its seeds counts once in the tests of significance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from sklearn import datasets
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import fisherbo
from experiments.harness import rows
from experiments.harness.provenance import source_digest
from experiments.harness.statistics import holm, mean_interval, wilcoxon_p
from experiments.options import command_line

Array = NDArray[np.float64]
Loss = Callable[[Array], float]

TRIALS = 50
MARKS = (20, 30, TRIALS)
LEAST = 1e-8
SIZES = (3, 5, 8)
GROUP = "group"
ARMS = (GROUP, "no group", "independent", "gp", "tpe")
SYNTHETIC = ("interior KL", "interior quadratic", "vertex KL", "vertex quadratic")
DEVELOPMENT = ("wine", "classes 0", "classes 1", "moons 0")
FINAL = ("breast cancer", "iris", "classes 2", "moons 1")


@dataclass(frozen=True)
class Cell:
    """One search."""

    arm: str
    problem: str
    size: int
    seed: int

    def key(self) -> str:
        """The code's digest, arm, problem, size and seed."""
        code = source_digest("kinds.py", "space.py", "sampler", "gp", "acquisition", "optimize")
        who = code if self.arm not in ("gp", "tpe") else f"optuna {optuna.__version__}"
        return (
            f"{who}: {self.arm}, {self.problem} of {self.size}, seed {self.seed}, {TRIALS} trials"
        )


def rows_of(name: str) -> tuple[Array, Array]:
    """Inputs and classes of a data set."""
    kind, _, seed = name.partition(" ")
    if kind == "classes":
        X, y = datasets.make_classification(
            400, 12, n_informative=6, n_classes=3, flip_y=0.1, random_state=int(seed)
        )
    elif kind == "moons":
        X, y = datasets.make_moons(400, noise=0.35, random_state=int(seed))
    else:
        loaders = {"wine": "load_wine", "breast": "load_breast_cancer", "iris": "load_iris"}
        X, y = getattr(datasets, loaders[kind])(return_X_y=True)
    return X, y


def classifiers(seed: int) -> list[Any]:
    """Eight of different kinds and qualities."""
    return [
        DecisionTreeClassifier(max_depth=3, random_state=seed),
        KNeighborsClassifier(15),
        GaussianNB(),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
        RandomForestClassifier(30, max_depth=4, random_state=seed),
        LinearDiscriminantAnalysis(),
        ExtraTreesClassifier(30, max_depth=6, random_state=seed),
        QuadraticDiscriminantAnalysis(reg_param=0.1),
    ]


@cache
def probabilities(name: str, seed: int) -> Array:
    """Probability of the true class of each held-out row by each classifier, ``(rows, 8)``."""
    X, y = rows_of(name)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, random_state=seed, stratify=y)
    told = [model.fit(X, y).predict_proba(X_test) for model in classifiers(seed)]
    return np.stack([p[np.arange(len(y_test)), y_test] for p in told], 1)


def loss_of(problem: str, size: int, seed: int) -> Loss:
    """The loss of weights ``(k,)``."""
    if problem not in SYNTHETIC:
        told = probabilities(problem, seed)[:, :size]
        return lambda p: float(-np.log(np.maximum(told @ p, 1e-15)).mean())
    rng = np.random.default_rng([seed, size, SYNTHETIC.index(problem)])
    q = rng.dirichlet(np.full(size, 5.0))
    if problem.startswith("vertex"):
        q = 0.05 * q
        q[rng.integers(size)] += 0.95
    if problem.endswith("KL"):
        return lambda p: float(q @ np.log(q / np.maximum(p, 1e-15)))
    axes, _ = np.linalg.qr(rng.standard_normal((size, size)))
    scale = np.geomspace(1.0, 30.0, size)
    return lambda p: float(((axes.T @ (p - q)) ** 2) @ scale)


def ends(loss: Loss, size: int) -> tuple[float, float]:
    """The least loss on the simplex and the median of Dirichlet(½)."""
    drawn = np.random.default_rng(0).dirichlet(np.full(size, 0.5), 1000)
    values = np.array([loss(p) for p in drawn])
    starts = [np.full(size, 1 / size), drawn[values.argmin()]]
    total = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = [
        minimize(
            lambda p: loss(np.maximum(p, 0)),
            start,
            method="SLSQP",
            bounds=[(0, 1)] * size,
            constraints=total,
            options={"ftol": 1e-14, "maxiter": 1000},
        ).x
        for start in starts
    ]
    reached = [loss(np.maximum(p, 0) / np.maximum(p, 0).sum()) for p in found]
    return min(*reached, values.min()), float(np.median(values))


def asked(trial: optuna.Trial, cell: Cell) -> Array:
    """The trial's weights, in the arm's way."""
    parts = [f"p{j}" for j in range(cell.size)]
    if cell.arm == "independent":
        x = np.array([trial.suggest_float(part, 0, 1) for part in parts])
        return x / x.sum() if x.sum() > 0 else np.full(cell.size, 1 / cell.size)
    if cell.arm == "no group":
        names = fisherbo.simplex_params("w", dict.fromkeys(parts, 1 / cell.size))
        floats = {n: trial.suggest_float(p, 0, 1) for n, p in zip(names, parts, strict=True)}
        return np.array(list(fisherbo.simplex_weights(floats, "w").values()))
    return np.array(list(fisherbo.suggest_simplex(trial, "w", parts).values()))


def sampler_of(cell: Cell) -> optuna.samplers.BaseSampler:
    """The arm's sampler."""
    match cell.arm:
        case "gp":
            return optuna.samplers.GPSampler(seed=cell.seed)
        case "tpe":
            return optuna.samplers.TPESampler(seed=cell.seed, multivariate=True)
    return fisherbo.FisherSampler(seed=cell.seed)


def work(cell: Cell) -> rows.Row:
    """Normalised regrets in order of evaluation; CPU seconds of all."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loss = loss_of(cell.problem, cell.size, cell.seed)
    least, median = ends(loss, cell.size)
    study = optuna.create_study(sampler=sampler_of(cell))
    begin = time.process_time()
    study.optimize(lambda trial: loss(asked(trial, cell)), n_trials=TRIALS)
    seconds = time.process_time() - begin
    values = [(t.values[0] - least) / (median - least) for t in study.trials]
    return {"values": values, "cpu_seconds": seconds}


Found = Mapping[Cell, rows.Row]


def regrets(found: Found, arm: str, mark: int) -> dict[tuple[str, int], Array]:
    """log10 regrets after so many trials, by problem and size, one for each seed."""
    kept: dict[tuple[str, int], list[float]] = {}
    for cell, row in found.items():
        if cell.arm == arm:
            best = max(min(row["values"][:mark]), LEAST)
            kept.setdefault((cell.problem, cell.size), []).append(float(np.log10(best)))
    return {key: np.array(values) for key, values in kept.items()}


def by_problem(found: Found) -> Table:
    """Means after the last trial, over problems of a kind."""
    table = Table(title=f"Mean log10 regret after {TRIALS} trials")
    for j, head in enumerate(("problems", "k", *ARMS)):
        table.add_column(head, justify="right" if j else "left")
    at_end = {arm: regrets(found, arm, TRIALS) for arm in ARMS}
    kinds = dict.fromkeys(_kind(problem) for problem, _ in at_end[GROUP])
    for kind in kinds:
        for size in SIZES:
            of = {
                a: [v.mean() for (p, k), v in r.items() if k == size and _kind(p) == kind]
                for a, r in at_end.items()
            }
            if of[GROUP]:
                shown = (f"{np.mean(v):.2f}" if v else "–" for v in of.values())
                table.add_row(kind, str(size), *shown)
    return table


def _kind(problem: str) -> str:
    return problem if problem in SYNTHETIC else "ensembles"


def summary(found: Found) -> Table:
    """Group against each other arm, over problems, with p-values of all rows corrected together."""
    cells = [(arm, mark) for arm in ARMS[1:] for mark in MARKS if regrets(found, arm, mark)]
    pairs = {c: _paired(found, *c) for c in cells}
    p_values = holm([wilcoxon_p(ours - other) for ours, other in pairs.values()])
    table = Table(title="The group against the others, over problems; p by Wilcoxon and Holm")
    table.add_column("other")
    heads = (
        "trials",
        "group",
        "other",
        "difference, 95 %",
        "problems better",
        "p",
        "CPU ms a trial",
    )
    for head in heads:
        table.add_column(head, justify="right")
    for ((arm, mark), (ours, other)), p in zip(pairs.items(), p_values, strict=True):
        mean, low, high = mean_interval(ours - other)
        seconds = np.mean([r["cpu_seconds"] for c, r in found.items() if c.arm == arm]) / TRIALS
        table.add_row(
            arm,
            str(mark),
            f"{ours.mean():.2f}",
            f"{other.mean():.2f}",
            f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]",
            f"{(ours < other).sum()} of {len(ours)}",
            f"{p:.1e}",
            f"{1000 * seconds:.0f}",
        )
    own = np.mean([r["cpu_seconds"] for c, r in found.items() if c.arm == GROUP]) / TRIALS
    table.caption = f"CPU ms a trial of the group: {1000 * own:.0f}."
    return table


def _paired(found: Found, arm: str, mark: int) -> tuple[Array, Array]:
    ours, other = regrets(found, GROUP, mark), regrets(found, arm, mark)
    both = [key for key in ours if key in other]
    return np.array([ours[k].mean() for k in both]), np.array([other[k].mean() for k in both])


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("simplex", __doc__, "dev write", quick="6 development problems, 1 seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    args = parser.parse_args(argv)
    dev = args.dev or args.quick
    data = DEVELOPMENT if dev else FINAL
    problems = ("wine", "vertex KL") if args.quick else (*data, *SYNTHETIC)
    first, count = (100 if dev else 0), (1 if args.quick else args.seeds)
    cells = [
        Cell(arm, problem, size, seed)
        for seed in range(first, first + count)
        for problem in problems
        for size in SIZES
        for arm in args.arms
    ]
    console = Console(width=130, record=True)
    found = rows.collect("simplex", cells, work)
    console.print(by_problem(found))
    console.print(summary(found))
    if args.write:
        made_by = rows.command("simplex", argv)
        title = "Mixture weights as one group"
        console.print(f"wrote {rows.write(console, 'simplex', title, made_by)}")


if __name__ == "__main__":
    main()
