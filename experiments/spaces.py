"""What tuning in the ready search spaces is worth: the library's defaults against 20 trials.

    python -m experiments.spaces --quick    2 data sets, 1 seed
    python -m experiments.spaces --write    10 data sets, 4 spaces, 2 seeds

A quarter of the rows is held out for the test. The rest is cross-validated in three folds, once for
each of 20 trials of FisherSampler in the space of `fisherbo.suggest`. The first trial is
`fisherbo.default_point`: the library's defaults, where the range holds them. It does all but gamma
of support vector machines, which "no gamma" leaves to the library. Each is refitted on all training
rows and scored on the test rows:

    default             the library's constructor without arguments
    first suggestion    the second trial, which is the sampler's first choice of its own
    5 trials, 20 trials the best of them by cross-validation

Support vector machines get standardised inputs, and targets for regression. Scores are accuracies
or R². A data set's mean over its seeds counts once in the tests of significance.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

import fisherbo
from experiments.estimators import Data, Make, bundled, generated
from experiments.harness import rows
from experiments.harness.provenance import source_digest
from experiments.harness.statistics import holm, mean_interval, wilcoxon_p
from experiments.options import command_line

Array = NDArray[np.float64]

TRIALS = 20
DEFAULT, FIRST = "default", "first suggestion"
BUDGETS = (5, TRIALS)
METHODS = (FIRST, *(f"{n} trials" for n in BUDGETS))

# name: is it of classes, how it is made
DATA: Mapping[str, tuple[bool, Make]] = {
    "wine": (True, bundled(datasets.load_wine)),
    "breast cancer": (True, bundled(datasets.load_breast_cancer)),
    "wrong labels": (True, generated(datasets.make_classification, 500, 20, flip_y=0.3)),
    "moons": (True, generated(datasets.make_moons, 500, noise=0.25)),
    "4 classes": (
        True,
        generated(datasets.make_classification, 600, 20, n_informative=10, n_classes=4),
    ),
    "diabetes": (False, bundled(datasets.load_diabetes)),
    "Friedman 1": (False, generated(datasets.make_friedman1, 500, noise=1.0)),
    "Friedman 2": (False, generated(datasets.make_friedman2, 500, noise=50.0)),
    "Friedman 3": (False, generated(datasets.make_friedman3, 500, noise=0.1)),
    "noisy plane": (
        False,
        generated(datasets.make_regression, 300, 20, n_informative=10, noise=100.0),
    ),
}
MODELS: Mapping[str, tuple[type, type]] = {
    "gradient boosting": (HistGradientBoostingClassifier, HistGradientBoostingRegressor),
    "random forest": (RandomForestClassifier, RandomForestRegressor),
    "support vectors": (SVC, SVR),
    "support vectors, no gamma": (SVC, SVR),
}
EXCLUDED = {"support vectors, no gamma": ("gamma",)}


@dataclass(frozen=True)
class Cell:
    """One model on one split of one data set."""

    model: str
    data: str
    seed: int

    def key(self) -> str:
        """The code's digest, the library's version, model, data and seed."""
        code = source_digest("sampler", "gp", "acquisition", "optimize", "geometry", "tuning")
        library = f"scikit-learn {version('scikit-learn')}"
        return f"{code}, {library}: {self.model}, {self.data}, seed {self.seed}"


def built(cell: Cell, arguments: Mapping[str, Any]) -> Any:
    """The cell's model with these hyperparameters."""
    is_class = DATA[cell.data][0]
    if kind_of(cell) not in (SVC, SVR):
        return kind_of(cell)(random_state=cell.seed, **arguments)
    scaled = make_pipeline(StandardScaler(), kind_of(cell)(**arguments))
    if is_class:
        return scaled
    return TransformedTargetRegressor(scaled, transformer=StandardScaler())


def kind_of(cell: Cell) -> type:
    classifier, regressor = MODELS[cell.model]
    return classifier if DATA[cell.data][0] else regressor


def split(cell: Cell) -> tuple[Data, Data]:
    """Training rows and test rows."""
    is_class, make = DATA[cell.data]
    X, y = make(cell.seed)
    parts = train_test_split(X, y, random_state=cell.seed, stratify=y if is_class else None)
    X_train, X_test, y_train, y_test = parts
    return (X_train, y_train), (X_test, y_test)


def work(cell: Cell) -> rows.Row:
    """Scores of cross-validation and test, by trial; seconds of the search."""
    train, test = split(cell)
    folds = (StratifiedKFold if DATA[cell.data][0] else KFold)(3, shuffle=True, random_state=0)
    chosen: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        chosen.append(fisherbo.suggest(trial, kind_of(cell), exclude=EXCLUDED.get(cell.model, ())))
        return float(cross_val_score(built(cell, chosen[-1]), *train, cv=folds).mean())

    def tested(arguments: Mapping[str, Any]) -> float:
        return float(built(cell, arguments).fit(*train).score(*test))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = fisherbo.FisherSampler(seed=cell.seed, n_startup_trials=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(fisherbo.default_point(kind_of(cell)))
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objective, n_trials=TRIALS)
        seconds = time.perf_counter() - begin
        values = [trial.values[0] for trial in study.trials]
        best = {f"{n} trials": chosen[int(np.argmax(values[:n]))] for n in BUDGETS}
        scores = {name: tested(arguments) for name, arguments in best.items()}
        scores |= {DEFAULT: tested({}), FIRST: tested(chosen[1])}
    return {"scores": scores, "validation": values, "seconds": seconds, "rows": len(train[0])}


Found = Mapping[Cell, rows.Row]


def scores(found: Found, model: str, method: str) -> dict[str, Array]:
    """Test scores by data set, one for each seed."""
    return {
        data: np.array(
            [r["scores"][method] for c, r in found.items() if (c.model, c.data) == (model, data)]
        )
        for data in dict.fromkeys(c.data for c in found if c.model == model)
    }


def gains(found: Found, model: str, method: str) -> Array:
    """The method's score less the default's, by data set."""
    ours, default = scores(found, model, method), scores(found, model, DEFAULT)
    return np.array([(ours[data] - default[data]).mean() for data in default])


def data_table(found: Found) -> Table:
    """Means over seeds."""
    table = Table(title="Test scores of the defaults, and what 20 trials add; means of seeds")
    table.add_column("data")
    for model in MODELS:
        table.add_column(model, justify="right")
    for data in dict.fromkeys(c.data for c in found):
        table.add_row(data, *(_entry(found, model, data) for model in MODELS))
    return table


def _entry(found: Found, model: str, data: str) -> str:
    default = scores(found, model, DEFAULT).get(data)
    if default is None:
        return "–"
    gain = scores(found, model, METHODS[-1])[data] - default
    return f"{default.mean():.3f} {gain.mean():+.3f}"


def summary_table(found: Found) -> Table:
    """Over data sets, with p-values of all rows corrected together."""
    cells = [(m, method) for m in MODELS for method in METHODS if len(gains(found, m, method))]
    p_values = holm([wilcoxon_p(gains(found, *cell)) for cell in cells])
    table = Table(title="Against the library's defaults, over data sets; p by Wilcoxon and Holm")
    table.add_column("model")
    table.add_column("what")
    for head in ("mean gain", "95 % interval", "median", "worst", "better / worse", "p"):
        table.add_column(head, justify="right")
    table.add_column("seconds a search", justify="right")
    for cell, p in zip(cells, p_values, strict=True):
        model, method = cell
        gain = gains(found, *cell)
        mean, low, high = mean_interval(gain)
        seconds = np.mean([r["seconds"] for c, r in found.items() if c.model == model])
        table.add_row(
            model,
            method,
            f"{mean:+.4f}",
            f"{low:+.4f} to {high:+.4f}",
            f"{np.median(gain):+.4f}",
            f"{gain.min():+.4f}",
            f"{(gain > 0).sum()} / {(gain < 0).sum()}",
            f"{p:.3f}",
            f"{seconds:.0f}" if method == METHODS[-1] else "",
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("spaces", __doc__, "write", quick="2 data sets, 1 seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    args = parser.parse_args(argv)
    data = ["wine", "diabetes"] if args.quick else list(DATA)
    seeds = range(1 if args.quick else args.seeds)
    cells = [Cell(m, d, seed) for seed in seeds for d in data for m in args.models]
    console = Console(width=160, record=True)
    found = rows.collect("spaces", cells, work)
    console.print(data_table(found))
    console.print(summary_table(found))
    if args.write:
        title = "Ready search spaces against the libraries' defaults"
        made_by = rows.command("spaces", argv)
        console.print(f"wrote {rows.write(console, 'spaces', title, made_by)}")


if __name__ == "__main__":
    main()
