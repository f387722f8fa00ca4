"""Real training in the manner of Bayesmark: scikit-learn's models on its small data sets.

    python -m experiments.hpo --quick           4 tasks, 1 seed, 25 evaluations
    python -m experiments.hpo                   25 tasks, seeds 0 to 3, 100 evaluations
    python -m experiments.hpo --dev             seeds 100 and 101: methods are tuned on these only
    python -m experiments.hpo --medians         renew the medians of random points

A loss is a mean over 5 folds of 80 % of the data, of the Brier score (of the error rate, for models
without probabilities) or of the squared error as a share of the variance. Spaces are mixed and many
are conditional: a kernel's own parameters, an optimizer's, a chosen model's. Regret is normalised:
0 is the best that any shipped trace found, 1 the median of 64 random points. Seeds 2 and
3 were added before any of them was run, since two left the order of the two best to chance.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.progress import track

from experiments.harness.comparison import Scale, Suite, execute, parser
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, Trace, optimize, shipped

Array = NDArray[np.float64]
Space = dict[str, BaseDistribution]
Conditions = dict[str, tuple[str, tuple[Any, ...]]]

MEDIANS = Path(__file__).parent / "results" / "hpo_medians.json"
WORST = 2.0  # of any loss; what failed to train has it
TASKS: Mapping[str, Sequence[str]] = {
    "knn": ("breast_cancer", "digits", "wine", "diabetes"),
    "svm": ("breast_cancer", "digits", "wine", "diabetes"),
    "tree": ("breast_cancer", "digits", "iris", "diabetes"),
    "forest": ("breast_cancer", "wine", "diabetes"),
    "mlp": ("breast_cancer", "digits", "wine"),
    "boost": ("breast_cancer", "diabetes"),
    "linear": ("breast_cancer", "digits", "diabetes"),
    "cash": ("digits", "diabetes"),
}
NAMES = tuple(f"{model}_{data}" for model, sets in TASKS.items() for data in sets)
QUICK = ("knn_breast_cancer", "svm_wine", "tree_diabetes", "linear_diabetes")


def real(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high)


def log(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high, log=True)


def integer(low: int, high: int) -> BaseDistribution:
    return IntDistribution(low, high)


def log_integer(low: int, high: int) -> BaseDistribution:
    return IntDistribution(low, high, log=True)


def choice(*names: str) -> BaseDistribution:
    return CategoricalDistribution(names)


@dataclass(frozen=True)
class Model:
    """A space with its conditions, and the estimator that it describes."""

    space: Space
    build: Callable[[Params, bool], Any]
    conditions: Conditions


def _knn(p: Params, regression: bool) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    cls = KNeighborsRegressor if regression else KNeighborsClassifier
    return cls(p["n_neighbors"], weights=p["weights"], p=p["p"], algorithm="brute")


def _svm(p: Params, regression: bool) -> Any:
    from sklearn.svm import SVC, SVR

    common: Params = {"C": p["C"], "kernel": p["kernel"], "max_iter": 2000}
    common |= {k: p[k] for k in ("gamma", "degree", "coef0") if k in p}
    return SVR(epsilon=0.1, **common) if regression else SVC(**common)


def _tree(p: Params, regression: bool) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    return (DecisionTreeRegressor if regression else DecisionTreeClassifier)(
        **_tree_options(p), min_impurity_decrease=p["min_impurity_decrease"]
    )


def _forest(p: Params, regression: bool) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    return (RandomForestRegressor if regression else RandomForestClassifier)(
        n_estimators=p["n_estimators"], bootstrap=p["bootstrap"] == "yes", **_tree_options(p)
    )


def _tree_options(p: Params) -> Params:
    names = ("max_depth", "min_samples_split", "min_samples_leaf", "max_features")
    return {"random_state": 0, **{name: p[name] for name in names}}


def _mlp(p: Params, regression: bool) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    layers = [p[k] for k in ("width_1", "width_2") if k in p]
    own = {k: p[k] for k in ("momentum", "beta_1", "beta_2") if k in p}
    return (MLPRegressor if regression else MLPClassifier)(
        layers,
        activation=p["activation"],
        solver=p["solver"],
        alpha=p["alpha"],
        learning_rate_init=p["learning_rate"],
        batch_size=p["batch_size"],
        max_iter=10,
        random_state=0,
        **own,
    )


def _boost(p: Params, regression: bool) -> Any:
    from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    common = {"n_estimators": p["n_estimators"], "learning_rate": p["learning_rate"]}
    leaf = {"max_depth": p["max_depth"], "min_samples_leaf": p["min_samples_leaf"]}
    if regression:
        tree = DecisionTreeRegressor(**leaf, random_state=0)
        return AdaBoostRegressor(tree, **common, random_state=0)
    return AdaBoostClassifier(DecisionTreeClassifier(**leaf, random_state=0), **common)


def _linear_classifier(p: Params) -> Any:
    from sklearn.linear_model import SGDClassifier

    own = {k: p[k] for k in ("l1_ratio", "eta0", "power_t") if k in p}
    return SGDClassifier(
        loss="log_loss",
        penalty=p["penalty"],
        alpha=p["alpha"],
        learning_rate=p["learning_rate"],
        max_iter=20,
        random_state=0,
        **own,
    )


def _linear_regressor(p: Params) -> Any:
    from sklearn.linear_model import ElasticNet, HuberRegressor, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    alpha = p["alpha"]
    match p["penalty"]:
        case "ridge":
            model = Ridge(alpha=100 * alpha)
        case "elasticnet":
            model = ElasticNet(alpha=alpha, l1_ratio=p["l1_ratio"], max_iter=300)
        case _:
            model = HuberRegressor(alpha=alpha, epsilon=p["epsilon"], max_iter=100)
    products = PolynomialFeatures(p["degree"], interaction_only=p["products"] == "mixed")
    return make_pipeline(products, model)


TREE: Space = {
    "max_depth": integer(1, 15),
    "min_samples_split": log_integer(2, 64),
    "min_samples_leaf": log_integer(1, 64),
    "max_features": real(0.05, 1.0),
}
KNN = Model(
    {
        "n_neighbors": log_integer(1, 50),
        "weights": choice("uniform", "distance"),
        "p": real(1.0, 5.0),
    },
    _knn,
    {},
)
SVM = Model(
    {
        "C": log(1e-3, 1e3),
        "kernel": choice("linear", "rbf", "poly", "sigmoid"),
        "gamma": log(1e-5, 10.0),
        "degree": integer(2, 5),
        "coef0": real(-1.0, 1.0),
    },
    _svm,
    {
        "gamma": ("kernel", ("rbf", "poly", "sigmoid")),
        "degree": ("kernel", ("poly",)),
        "coef0": ("kernel", ("poly", "sigmoid")),
    },
)
FOREST = Model(
    {"n_estimators": log_integer(4, 40), "bootstrap": choice("yes", "no"), **TREE}, _forest, {}
)
BOOST = Model(
    {
        "n_estimators": log_integer(4, 40),
        "learning_rate": log(1e-3, 10.0),
        "max_depth": integer(1, 6),
        "min_samples_leaf": log_integer(1, 32),
    },
    _boost,
    {},
)
MLP = Model(
    {
        "width_1": log_integer(4, 64),
        "layers": choice("one", "two"),
        "width_2": log_integer(4, 64),
        "activation": choice("relu", "tanh", "logistic"),
        "alpha": log(1e-6, 1.0),
        "learning_rate": log(1e-4, 1.0),
        "batch_size": log_integer(16, 128),
        "solver": choice("adam", "sgd"),
        "momentum": real(0.0, 0.99),
        "beta_1": real(0.5, 0.99),
        "beta_2": real(0.9, 0.9999),
    },
    _mlp,
    {
        "width_2": ("layers", ("two",)),
        "momentum": ("solver", ("sgd",)),
        "beta_1": ("solver", ("adam",)),
        "beta_2": ("solver", ("adam",)),
    },
)
LINEAR_CLASSIFIER = Model(
    {
        "alpha": log(1e-6, 10.0),
        "penalty": choice("l2", "l1", "elasticnet"),
        "l1_ratio": real(0.0, 1.0),
        "learning_rate": choice("optimal", "constant", "invscaling"),
        "eta0": log(1e-4, 1.0),
        "power_t": real(0.1, 0.9),
    },
    lambda p, _: _linear_classifier(p),
    {
        "l1_ratio": ("penalty", ("elasticnet",)),
        "eta0": ("learning_rate", ("constant", "invscaling")),
        "power_t": ("learning_rate", ("invscaling",)),
    },
)
LINEAR_REGRESSOR = Model(
    {
        "penalty": choice("ridge", "elasticnet", "huber"),
        "alpha": log(1e-5, 10.0),
        "l1_ratio": real(0.01, 1.0),
        "epsilon": real(1.01, 3.0),
        "degree": integer(1, 3),
        "products": choice("all", "mixed"),
    },
    lambda p, _: _linear_regressor(p),
    {"l1_ratio": ("penalty", ("elasticnet",)), "epsilon": ("penalty", ("huber",))},
)


def _joined(models: Mapping[str, Model]) -> Model:
    """Choose the model and its parameters at once; a parameter is named after its model."""
    space: Space = {"model": choice(*models)}
    conditions: Conditions = {}
    for name, model in models.items():
        for key, distribution in model.space.items():
            space[f"{name}.{key}"] = distribution
            parent, values = model.conditions.get(key, ("", ()))
            conditions[f"{name}.{key}"] = (
                (f"{name}.{parent}", values) if parent else ("model", (name,))
            )

    def build(p: Params, regression: bool) -> Any:
        own = {k.partition(".")[2]: v for k, v in p.items() if k.startswith(p["model"] + ".")}
        return models[p["model"]].build(own, regression)

    return Model(space, build, conditions)


def model(name: str, regression: bool) -> Model:
    """The model of a task."""
    linear = LINEAR_REGRESSOR if regression else LINEAR_CLASSIFIER
    if name == "cash":
        return _joined({"svm": SVM, "forest": FOREST, "knn": KNN, "linear": linear})
    tree = Model({**TREE, "min_impurity_decrease": log(1e-6, 1e-1)}, _tree, {})
    return {
        "knn": KNN,
        "svm": SVM,
        "tree": tree,
        "forest": FOREST,
        "mlp": MLP,
        "boost": BOOST,
        "linear": linear,
    }[name]


def data(name: str) -> tuple[Array, Array]:
    """Inputs and targets of 80 % of a data set (of 500 of digits), inputs of unit variance."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:500]
    order = order[: round(0.8 * len(order))]
    x, y = x[order], y[order]
    spread = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0), y


def score(estimator: Any, x: Array, y: Array, regression: bool, brier: bool) -> float:
    """The loss of a fitted estimator on a fold; see the module."""
    if regression:
        return float(np.mean((estimator.predict(x) - y) ** 2))
    if not brier:
        return float(np.mean(estimator.predict(x) != y))
    truth = y[:, None] == estimator.classes_
    return float(np.mean(np.sum((estimator.predict_proba(x) - truth) ** 2, axis=1)))


def problem(name: str) -> Problem:
    """A task, such as ``svm_digits``."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind, _, source = name.partition("_")
    x, y = data(source)
    regression = source == "diabetes"
    if regression:
        y = (y - y.mean()) / y.std()
    described = model(kind, regression)
    splitter = (KFold if regression else StratifiedKFold)(5, shuffle=True, random_state=0)
    folds = list(splitter.split(x, y))
    brier = kind not in ("svm", "cash")

    def loss(params: Params) -> float:
        losses = []
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                for train, test in folds:
                    fitted = described.build(params, regression).fit(x[train], y[train])
                    losses.append(
                        score(fitted, x[test], y[test], regression=regression, brier=brier)
                    )
            except ValueError:  # what diverged is refused by scikit-learn
                return WORST
        return float(min(WORST, np.nan_to_num(np.mean(losses), nan=WORST)))

    return Problem(name, described.space, loss, described.conditions)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, problem(run.problem))


@cache
def medians() -> dict[str, float]:
    """The median loss of 64 random points of every task, kept in results/."""
    kept: dict[str, float] = json.loads(MEDIANS.read_text()) if MEDIANS.exists() else {}
    return kept


def random_median(name: str, count: int = 64) -> float:
    """The median loss of random points."""
    task = problem(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2**16))
    return float(np.median([task.loss(task.suggest(study.ask())) for _ in range(count)]))


def renew_medians() -> None:
    """Measure the medians of random points again."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = {name: random_median(name) for name in track(NAMES, "medians")}
    MEDIANS.parent.mkdir(exist_ok=True)
    MEDIANS.write_text(json.dumps(found, indent=1) + "\n")


def regret() -> Scale:
    """Normalised regret against the best of all shipped traces, whatever lies in runs/."""
    optimum: dict[str, float] = {}
    for row in shipped("hpo").values():
        name = row["run"]["problem"]
        optimum[name] = min(optimum.get(name, np.inf), *row["values"])

    def scale(name: str, best: Array) -> Array:
        low = optimum[name]
        regret: Array = (best - low) / max(medians()[name] - low, 1e-12)
        return np.minimum(regret, 1.0)  # below 0: better than every shipped trace

    return scale


SUITE = Suite(
    "hpo",
    work,
    final=tuple((name, seed) for name in NAMES for seed in range(4)),
    dev=tuple((name, seed) for name in NAMES for seed in (100, 101)),
    quick=tuple((name, 0) for name in QUICK),
    quick_budget=25,
    scale=regret,
    package="scikit-learn",
)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser("hpo", __doc__)
    options.add_argument("--medians", action="store_true", help="renew the medians first")
    args = options.parse_args(argv)
    if args.medians:
        renew_medians()
    execute(SUITE, args)


if __name__ == "__main__":
    main()
