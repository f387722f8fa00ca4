"""KFACClassifier and KFACRegressor against scikit-learn's MLP, all with their defaults.

    python -m experiments.estimators --quick      data sets of at most 600 rows, 2 seeds
    python -m experiments.estimators --write      18 data sets, 3 to 10 seeds
    python -m experiments.estimators --dev        other data sets: defaults are chosen on these only

Three quarters of the rows train, of a random split; generated data is drawn anew for each seed.
K-FAC gets the data as it is. MLP gets standardised inputs, and for regression standardised targets
("MLP"), the targets as they are ("MLP, targets as they are"), or 1,000 epochs in the place of 200
("MLP, 1,000 epochs"; up to 5,000 rows), as its ConvergenceWarning asks for.

Scores are accuracies or R² on the held-out quarter; the log loss is of classes only. CPU seconds
are of the fit, in one thread.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn import datasets
from sklearn.base import is_classifier
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fisherbo
from experiments.harness import rows
from experiments.harness.provenance import source_digest
from experiments.options import command_line

Array = NDArray[Any]
Data = tuple[Array, Array]
Make = Callable[[int], Data]  # a seed to inputs and targets

KFAC, MLP, LONG, PLAIN = "K-FAC", "MLP", "MLP, 1,000 epochs", "MLP, targets as they are"
LONGEST_ROWS = 5000  # of a data set on which 1,000 epochs are run


def generated(make: Callable[..., Data], *args: Any, **options: Any) -> Make:
    return lambda seed: make(*args, **options, random_state=seed)


def bundled(load: Callable[..., Data]) -> Make:
    return lambda seed: load(return_X_y=True)


def waves(count: int, inputs: int, noise: float, random_state: int) -> Data:
    """A sum of eight sines of random directions."""
    rng = np.random.default_rng(random_state)
    X = rng.normal(size=(count, inputs))
    f = np.sin(X @ rng.normal(size=(inputs, 8)) * 2 / np.sqrt(inputs)).sum(1)
    return X, f + noise * rng.normal(size=count)


def plane(count: int, inputs: int, noise: float, random_state: int) -> Data:
    """A linear function of all inputs, of variance 1."""
    rng = np.random.default_rng(random_state)
    X = rng.normal(size=(count, inputs))
    return X, X @ rng.normal(size=inputs) / np.sqrt(inputs) + noise * rng.normal(size=count)


def parity(count: int, inputs: int, random_state: int) -> Data:
    """Whether an odd number of the first three inputs is positive."""
    X = np.random.default_rng(random_state).normal(size=(count, inputs))
    return X, (X[:, :3] > 0).sum(1) % 2


classes = partial(generated, datasets.make_classification)

# name: is it of classes, how it is made, seeds
REPORT: Mapping[str, tuple[bool, Make, int]] = {
    "iris": (True, bundled(datasets.load_iris), 10),
    "wine": (True, bundled(datasets.load_wine), 10),
    "breast cancer": (True, bundled(datasets.load_breast_cancer), 10),
    "digits": (True, bundled(datasets.load_digits), 5),
    "15 % wrong labels": (True, classes(500, 20, flip_y=0.3), 10),
    "moons": (True, generated(datasets.make_moons, 1000, noise=0.25), 5),
    "4 classes": (True, classes(3000, 50, n_informative=20, n_classes=4), 3),
    "2,000 inputs": (True, classes(400, 2000, n_informative=20), 5),
    "Hastie": (True, generated(datasets.make_hastie_10_2, 8000), 3),
    "quantiles": (
        True,
        generated(datasets.make_gaussian_quantiles, n_samples=16000, n_features=10, n_classes=4),
        3,
    ),
    "100,000 rows": (True, classes(100_000, 20, n_informative=15, n_clusters_per_class=4), 2),
    "diabetes": (False, bundled(datasets.load_diabetes), 10),
    "Friedman 1": (False, generated(datasets.make_friedman1, 500, noise=1.0), 10),
    "Friedman 2": (False, generated(datasets.make_friedman2, 1000, noise=50.0), 5),
    "Friedman 3": (False, generated(datasets.make_friedman3, 1000, noise=0.1), 5),
    "noisy plane": (
        False,
        generated(datasets.make_regression, 300, 20, n_informative=10, noise=100.0),
        10,
    ),
    "500 inputs": (
        False,
        generated(datasets.make_regression, 300, 500, n_informative=10, noise=20.0),
        5,
    ),
    "Friedman 1, 27,000 rows": (False, generated(datasets.make_friedman1, 26_667, noise=1.0), 3),
}
DEVELOPMENT: Mapping[str, tuple[bool, Make, int]] = {
    "150 rows": (True, classes(150, 10, n_informative=5), 3),
    "300 rows, wrong labels": (True, classes(300, 15, flip_y=0.4), 3),
    "5 classes": (True, classes(1000, 30, n_informative=12, n_classes=5), 2),
    "circles": (True, generated(datasets.make_circles, 400, noise=0.1, factor=0.6), 3),
    "parity": (True, generated(parity, 2000, 8), 2),
    "3 quantiles": (
        True,
        generated(datasets.make_gaussian_quantiles, n_samples=4000, n_features=6, n_classes=3),
        1,
    ),
    "1,000 inputs": (True, classes(300, 1000, n_informative=30), 2),
    "20,000 rows": (
        True,
        classes(20_000, 25, n_informative=15, n_classes=4, n_clusters_per_class=3, flip_y=0.05),
        1,
    ),
    "plane": (False, generated(plane, 300, 10, 1.0), 3),
    "plane, few rows": (False, generated(plane, 150, 30, 0.5), 3),
    "waves": (False, generated(waves, 600, 6, 0.5), 2),
    "5,000 waves": (False, generated(waves, 5000, 8, 0.3), 1),
    "uncorrelated": (False, generated(datasets.make_sparse_uncorrelated, 400, 12), 3),
    "sparse plane": (
        False,
        generated(datasets.make_regression, 250, 600, n_informative=15, noise=30.0),
        2,
    ),
}
DEVELOPMENT_SEED = 1000
DATA = {**REPORT, **DEVELOPMENT}


@dataclass(frozen=True)
class Cell:
    """One method on one split of one data set."""

    method: str
    data: str
    seed: int

    def key(self) -> str:
        """The fitting code's digest or version, data and seed."""
        code = (
            source_digest("estimators", "training")
            if self.method == KFAC
            else f"scikit-learn {version('scikit-learn')}"
        )
        return f"{self.method}, {code}: {self.data}, seed {self.seed}"


def model_of(method: str, is_class: bool, seed: int) -> Any:
    if method == KFAC:
        kind = fisherbo.KFACClassifier if is_class else fisherbo.KFACRegressor
        return kind(random_state=seed)
    network = (MLPClassifier if is_class else MLPRegressor)(
        max_iter=1000 if method == LONG else 200, random_state=seed
    )
    model = make_pipeline(StandardScaler(), network)
    if is_class or method == PLAIN:
        return model
    return TransformedTargetRegressor(model, transformer=StandardScaler())


def work(cell: Cell) -> rows.Row:
    """Score, log loss and CPU seconds of a fit, and whether it said that it had not converged."""
    is_class, make, _ = DATA[cell.data]
    X, y = make(cell.seed)
    split = {"random_state": cell.seed, "stratify": y if is_class else None}
    X, X_test, y, y_test = train_test_split(X, y, **split)
    model = model_of(cell.method, is_class, cell.seed)
    if cell.method == KFAC:  # imports and first calls
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model_of(KFAC, is_class, 0).set_params(max_iter=1).fit(X[:50, :5], y[:50])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        begin = time.process_time()
        model.fit(X, y)
        seconds = time.process_time() - begin
    row = {
        "rows": len(X),
        "inputs": X.shape[1],
        "score": float(model.score(X_test, y_test)),
        "seconds": seconds,
        "warned": len(told) > 0,
    }
    if is_classifier(model):
        row["log loss"] = float(log_loss(y_test, model.predict_proba(X_test)))
    if cell.method == KFAC:
        row["steps"] = model.n_iter_
        row["alpha"] = model.alpha_
    return row


def methods(name: str) -> list[str]:
    """Those that are run on a data set."""
    is_class, make, _ = DATA[name]
    long = len(make(0)[0]) <= LONGEST_ROWS
    return [KFAC, MLP, *([LONG] if long else []), *([] if is_class else [PLAIN])]


Found = Mapping[Cell, rows.Row]


def column(found: Found, method: str, data: str, what: str) -> Array:
    """Of each seed; empty where the method was not run or has no such value."""
    made = {c.seed: r for c, r in found.items() if (c.method, c.data) == (method, data)}
    return np.array([made[seed][what] for seed in sorted(made) if what in made[seed]])


def names(found: Found) -> list[str]:
    return list(dict.fromkeys(c.data for c in found))


def difference(found: Found, data: str, peer: str, what: str) -> Array:
    """K-FAC less the peer, by seed."""
    ours, theirs = column(found, KFAC, data, what), column(found, peer, data, what)
    return ours - theirs if len(theirs) else np.array([])


def data_table(found: Found) -> Table:
    """Means over seeds."""
    table = Table(title="Held-out accuracy or R², means of seeds; differences with standard errors")
    for head in ("data", "rows × inputs", "seeds", "K-FAC", "less MLP", "less 1,000 epochs"):
        table.add_column(head, justify="left" if head == "data" else "right")
    for head in ("less plain", "log loss", "of MLP", "CPU s", "of MLP", "of 1,000", "warned"):
        table.add_column(head, justify="right")
    for data in names(found):
        first = next(r for c, r in found.items() if c.data == data)
        ours = column(found, KFAC, data, "score")
        table.add_row(
            data,
            f"{first['rows']:,} × {first['inputs']:,}",
            str(len(ours)),
            f"{ours.mean():.3f}",
            *(told(difference(found, data, peer, "score")) for peer in (MLP, LONG, PLAIN)),
            *(mean(column(found, m, data, "log loss"), ".3f") for m in (KFAC, MLP)),
            *(mean(column(found, m, data, "seconds"), ".2f") for m in (KFAC, MLP, LONG)),
            "/".join(mean(column(found, m, data, "warned"), ".0%") for m in (KFAC, MLP)),
        )
    return table


def mean(values: Array, form: str) -> str:
    return f"{values.mean():{form}}" if len(values) else "–"


def told(gap: Array) -> str:
    if not len(gap):
        return "–"
    error = f" ({gap.std(ddof=1) / np.sqrt(len(gap)):.3f})" if len(gap) > 1 else ""
    return f"{gap.mean():+.3f}{error}"


def summary_table(found: Found) -> Table:
    """Over data sets: each data set's mean over its seeds counts once."""
    table = Table(title="K-FAC against each, over data sets")
    heads = ("data sets", "median difference", "worst", "ahead / behind by > .005")
    table.add_column("against")
    for head in (*heads, "median of log loss differences", "median CPU ratio", "total CPU ratio"):
        table.add_column(head, justify="right")
    for peer in (MLP, LONG, PLAIN):
        shared = [d for d in names(found) if len(column(found, peer, d, "score"))]
        if not shared:
            continue
        gap = np.array([difference(found, d, peer, "score").mean() for d in shared])
        losses = [difference(found, d, peer, "log loss") for d in shared]
        ours, theirs = (
            np.array([column(found, m, d, "seconds").mean() for d in shared]) for m in (KFAC, peer)
        )
        table.add_row(
            peer,
            str(len(shared)),
            f"{np.median(gap):+.4f}",
            f"{gap.min():+.3f} ({shared[int(gap.argmin())]})",
            f"{(gap > 0.005).sum()} / {(gap < -0.005).sum()}",
            mean(np.array([np.median([x.mean() for x in losses if len(x)])]), "+.3f")
            if any(len(x) for x in losses)
            else "–",
            f"{np.median(ours / theirs):.2f}",
            f"{ours.sum() / theirs.sum():.2f}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("estimators", __doc__, "dev write", quick="small data sets, 2 seeds")
    parser.add_argument("--data", nargs="+", help="these data sets only")
    parser.add_argument("--methods", nargs="+", choices=(KFAC, MLP, LONG, PLAIN))
    args = parser.parse_args(argv)
    chosen = DEVELOPMENT if args.dev else REPORT
    begin = DEVELOPMENT_SEED if args.dev else 0
    data = [d for d in chosen if args.data is None or d in args.data]
    if args.quick:
        data = [d for d in data if len(chosen[d][1](0)[0]) <= 600]
    cells = [
        Cell(method, d, begin + k)
        for d in data
        for k in range(2 if args.quick else chosen[d][2])
        for method in methods(d)
        if args.methods is None or method in args.methods
    ]
    console = Console(width=200, record=True)
    found = rows.collect("estimators", cells, work)
    console.print(data_table(found))
    console.print(summary_table(found))
    if args.write:
        title = "Networks for scikit-learn with their defaults"
        made_by = rows.command("estimators", argv)
        console.print(f"wrote {rows.write(console, 'estimators', title, made_by)}")


if __name__ == "__main__":
    main()
