"""FisherSearchCV against other searches for scikit-learn, KFACClassifier against MLPClassifier.

    python -m experiments.automl --quick        3 tasks and 2 data sets, 1 seed, without skopt
    python -m experiments.automl --write        11 tasks, 20 seeds; 7 data sets, 10 seeds; 2 h
    python -m experiments.automl --dev          seeds 100 to 102; methods are tuned on 100 to 139

Searches: every method gets the same splits. An evaluation is the cross-validation of one candidate.
Scores are compared after 50 evaluations, and at the CPU second at which FisherSearchCV has done its
50 (RandomizedSearchCV goes on to 150 evaluations for that, OptunaSearchCV to 120). The budget of
HalvingRandomSearchCV is the rows of 50 evaluations: 150 candidates on a ninth of them, 50 on a
third, 17 on all; its best candidate is then scored as the others are, whenever it is ready.
RandomizedSearchCV, halving and FisherSearchCV choose among the dicts of a list; BayesSearchCV
shares its evaluations among them alike, and so does OptunaSearchCV here (50 then), which cannot
take a list.

Differences are paired by task and seed and measured in the interquartile range of random
candidates' scores. p-values: Wilcoxon signed-rank test, corrected by Holm. A tie is a difference
below 1e-9. The 20 seeds were fixed before any of the last 10 was run: scores differ less between
methods than between seeds. They had been looked at once when FisherSearchCV's number of first
trials was chosen, which was done on the development seeds.

Networks: default settings, three quarters of the rows to train on, the two fitted in turns in one
process, CPU seconds of the fit (one thread).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
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
from rich.console import Console
from rich.table import Table
from scipy.stats import loguniform, randint, uniform
from sklearn import datasets
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes it importable
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

import fisherbo
from experiments.harness import rows
from experiments.harness.peers import sampler_version
from experiments.harness.provenance import source_digest
from experiments.harness.statistics import holm, wilcoxon_p
from experiments.options import command_line

Array = NDArray[Any]

EVALUATIONS = 50
LONGER = {"random": 150, "tpe": 120}
FOLDS = 3
FISHER, SKOPT = "fisher", "skopt"
METHODS = {
    FISHER: "FisherSearchCV",
    "random": "RandomizedSearchCV",
    "halving": "HalvingRandomSearchCV",
    "tpe": "OptunaSearchCV (TPE)",
    SKOPT: "BayesSearchCV (skopt)",
}
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Task:
    """A pipeline, its space as branches (constants of a branch are lists of one), and its data."""

    data: str
    size: int
    estimator: Any
    scoring: str
    space: Sequence[Mapping[str, Any]]


def log(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high, log=True)


def real(low: float, high: float) -> BaseDistribution:
    return FloatDistribution(low, high)


def integer(low: int, high: int) -> BaseDistribution:
    return IntDistribution(low, high)


def choice(*values: Any) -> list[Any]:
    return list(values)


class Scale(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scaler by name: OptunaSearchCV cannot choose among objects."""

    def __init__(self, kind: str = "standard") -> None:
        self.kind = kind

    def fit(self, X: Array, y: Any = None) -> Scale:
        """Fit the scaler of that name."""
        kinds = {"standard": StandardScaler(), "minmax": MinMaxScaler(), "none": None}
        chosen = kinds[self.kind]
        self.scaler_ = None if chosen is None else chosen.fit(X)
        return self

    def transform(self, X: Array) -> Array:
        """Scaled rows."""
        return X if self.scaler_ is None else self.scaler_.transform(X)


def scaled(model: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("model", model)])


def tasks() -> dict[str, Task]:
    forest, hist = RandomForestClassifier(random_state=0), HistGradientBoostingClassifier()
    steps = Pipeline([("scale", Scale()), ("reduce", PCA()), ("model", SVC())])
    scale = choice("standard", "minmax", "none")
    poly = Pipeline(
        [("poly", PolynomialFeatures()), ("scale", StandardScaler()), ("model", ElasticNet())]
    )
    near = Pipeline([("reduce", PCA(random_state=0)), ("model", KNeighborsClassifier())])
    return {
        "SVC, breast cancer": Task(
            "breast_cancer", 300, scaled(SVC()), "roc_auc",
            [{"model__C": log(1e-3, 1e3), "model__gamma": log(1e-5, 10)}],
        ),
        "SVC, digits": Task(
            "digits", 300, SVC(), "accuracy",
            [{"C": log(1e-2, 1e3), "gamma": log(1e-6, 1e-1), "kernel": choice("rbf", "sigmoid")}],
        ),
        "gradient boosting, wine": Task(
            "wine", 178, hist, "neg_log_loss",
            [{
                "learning_rate": log(1e-2, 1), "max_iter": integer(4, 16),
                "max_leaf_nodes": integer(2, 16), "min_samples_leaf": integer(2, 30),
                "l2_regularization": log(1e-6, 10),
            }],
        ),
        "perceptron, iris": Task(
            "iris", 150, scaled(MLPClassifier(max_iter=15, random_state=0)), "neg_log_loss",
            [{
                "model__hidden_layer_sizes": IntDistribution(2, 64, log=True),
                "model__learning_rate_init": log(1e-4, 1), "model__alpha": log(1e-6, 10),
                "model__activation": choice("relu", "tanh", "logistic"),
            }],
        ),
        "random forest, breast cancer": Task(
            "breast_cancer", 200, forest, "neg_log_loss",
            [{
                "n_estimators": integer(3, 20), "max_depth": integer(1, 12),
                "max_features": real(0.05, 1), "min_samples_leaf": integer(1, 20),
                "criterion": choice("gini", "entropy"),
            }],
        ),
        "elastic net, diabetes": Task(
            "diabetes", 200, poly, "r2",
            [{
                "model__alpha": log(1e-2, 1e2), "model__l1_ratio": real(0.01, 1),
                "poly__interaction_only": choice(True, False),
            }],
        ),
        "SVR, diabetes": Task(
            "diabetes", 300, scaled(SVR()), "r2",
            [{
                "model__C": log(1e-1, 1e4), "model__gamma": log(1e-5, 1),
                "model__epsilon": log(1e-2, 1e2),
            }],
        ),
        "kernel ridge, Friedman 1": Task(
            "friedman1", 200, scaled(KernelRidge(kernel="rbf")), "r2",
            [{"model__alpha": log(1e-6, 10), "model__gamma": log(1e-4, 10)}],
        ),
        "steps, breast cancer": Task(
            "breast_cancer", 300, steps, "roc_auc",
            [
                {
                    "model": [SVC()], "scale__kind": scale, "reduce__n_components": integer(1, 20),
                    "model__C": log(1e-3, 1e3), "model__gamma": log(1e-5, 10),
                },
                {
                    "model": [LogisticRegression(max_iter=200)], "scale__kind": scale,
                    "reduce__n_components": integer(1, 20), "model__C": log(1e-4, 1e3),
                },
                {
                    "model": [KNeighborsClassifier()], "scale__kind": scale,
                    "reduce__n_components": integer(1, 20), "model__n_neighbors": integer(1, 40),
                    "model__weights": choice("uniform", "distance"),
                },
            ],
        ),
        "steps, diabetes": Task(
            "diabetes", 300, scaled(Ridge()), "r2",
            [
                {"model": [Ridge()], "model__alpha": log(1e-3, 1e4)},
                {
                    "model": [SVR()], "model__C": log(1e-1, 1e4), "model__gamma": log(1e-5, 1),
                    "model__epsilon": log(1e-2, 1e2),
                },
                {
                    "model": [KNeighborsRegressor()], "model__n_neighbors": integer(1, 60),
                    "model__weights": choice("uniform", "distance"),
                },
            ],
        ),
        "neighbours, digits": Task(
            "digits", 400, near, "neg_log_loss",
            [{
                "reduce__n_components": integer(2, 40), "model__n_neighbors": integer(1, 30),
                "model__weights": choice("uniform", "distance"), "model__p": real(1, 4),
            }],
        ),
    }  # fmt: skip


QUICK = ("SVC, breast cancer", "elastic net, diabetes", "steps, diabetes")


@cache
def load(name: str) -> tuple[Array, Array]:
    if name.startswith("friedman"):
        made: tuple[Array, Array] = getattr(datasets, f"make_{name}")(
            1000, noise=1.0, random_state=0
        )
        return made
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return X, y


@dataclass(frozen=True)
class SearchCell:
    """One search on one task."""

    method: str
    task: str
    seed: int

    def key(self) -> str:
        """Versions, task and seed."""
        peer = {"tpe": "optuna-integration", SKOPT: "scikit-optimize"}.get(self.method)
        if self.method == FISHER:
            source = f"{sampler_version(FISHER)}-{source_digest('estimators/search.py')}"
            return f"{FISHER} {source}: {self.task}, seed {self.seed}"
        made_by = fisherbo.__version__ if peer is None else version(peer)
        return f"{self.method} {made_by}: {self.task}, seed {self.seed}"


@dataclass(eq=False)
class Clock:
    """A scorer that notes the scores and the CPU second of each."""

    scoring: str
    begin: float = field(default_factory=time.process_time)
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """The score."""
        score = float(get_scorer(self.scoring)(estimator, X, y))
        self.scores.append(score)
        self.seconds.append(time.process_time() - self.begin)
        return score

    def row(self) -> rows.Row:
        """Mean score of each candidate, and when it was known."""
        means = np.reshape(self.scores, (-1, FOLDS)).mean(1)
        return {"scores": means.tolist(), "seconds": self.seconds[FOLDS - 1 :: FOLDS]}


def search(cell: SearchCell) -> rows.Row:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = tasks()[cell.task]
    X, y = load(task.data)
    chosen = np.random.default_rng(cell.seed).permutation(len(X))[: task.size]
    X, y = X[chosen], y[chosen]
    is_class = task.scoring != "r2"
    cv = (StratifiedKFold if is_class else KFold)(FOLDS, shuffle=True, random_state=cell.seed)
    clock = Clock(task.scoring)
    options = {"scoring": clock, "cv": cv, "refit": False, "random_state": cell.seed}
    made = MAKERS[cell.method](task, options)
    made.fit(X, y)
    if cell.method != "halving":
        return clock.row()
    seconds = time.process_time() - clock.begin
    best = task.estimator.set_params(**made.best_params_)
    score = cross_val_score(best, X, y, cv=cv, scoring=task.scoring).mean()
    return {"scores": [float(score)], "seconds": [seconds]}


def of_fisher(task: Task, options: dict[str, Any]) -> Any:
    return fisherbo.FisherSearchCV(
        task.estimator, list(task.space), n_trials=EVALUATIONS, **options
    )


def of_random(task: Task, options: dict[str, Any]) -> Any:
    return RandomizedSearchCV(task.estimator, scipy_space(task), n_iter=LONGER["random"], **options)


def of_halving(task: Task, options: dict[str, Any]) -> Any:
    return HalvingRandomSearchCV(
        task.estimator,
        scipy_space(task),
        n_candidates=3 * EVALUATIONS,
        factor=3,
        min_resources=task.size // 9,
        **options,
    )


@dataclass(frozen=True, eq=False)
class OneByOne:
    """OptunaSearchCV for each branch, with its share of the evaluations."""

    task: Task
    options: dict[str, Any]

    def fit(self, X: Array, y: Array) -> None:
        """Search each branch."""
        from optuna_integration import OptunaSearchCV

        several = len(self.task.space) > 1
        total = EVALUATIONS if several else LONGER["tpe"]
        for branch, share in zip(self.task.space, shares(total, self.task), strict=True):
            fixed = {k: v[0] for k, v in branch.items() if isinstance(v, list) and len(v) == 1}
            space = {
                name: CategoricalDistribution(kind) if isinstance(kind, list) else kind
                for name, kind in branch.items()
                if name not in fixed
            }
            estimator = clone(self.task.estimator).set_params(**fixed)
            OptunaSearchCV(estimator, space, n_trials=share, **self.options).fit(X, y)


def of_skopt(task: Task, options: dict[str, Any]) -> Any:
    from skopt import BayesSearchCV

    spaces = [
        ({name: skopt_dimension(kind) for name, kind in branch.items()}, share)
        for branch, share in zip(task.space, shares(EVALUATIONS, task), strict=True)
    ]
    return BayesSearchCV(task.estimator, spaces, **options)


def shares(total: int, task: Task) -> list[int]:
    """The evaluations of each branch."""
    count = len(task.space)
    return [total // count + (i < total % count) for i in range(count)]


MAKERS: Mapping[str, Callable[[Task, dict[str, Any]], Any]] = {
    FISHER: of_fisher,
    "random": of_random,
    "halving": of_halving,
    "tpe": OneByOne,
    SKOPT: of_skopt,
}


def scipy_space(task: Task) -> list[dict[str, Any]]:
    return [{name: scipy_kind(kind) for name, kind in branch.items()} for branch in task.space]


def scipy_kind(kind: Any) -> Any:
    if isinstance(kind, FloatDistribution):
        low, high = kind.low, kind.high
        return loguniform(low, high) if kind.log else uniform(low, high - low)
    if isinstance(kind, IntDistribution):
        if kind.log:
            return np.unique(np.geomspace(kind.low, kind.high, 24).astype(int)).tolist()
        return randint(kind.low, kind.high + 1)
    return kind


def skopt_dimension(kind: Any) -> Any:
    from skopt.space import Categorical, Integer, Real

    if isinstance(kind, list):
        return Categorical(kind)
    made = Real if isinstance(kind, FloatDistribution) else Integer
    return made(kind.low, kind.high, prior="log-uniform" if kind.log else "uniform")


NETWORKS = {
    "digits": True,
    "breast_cancer": True,
    "wine": True,
    "iris": True,
    "diabetes": False,
    "friedman1": False,
    "friedman2": False,
}
"""Data sets, and whether they are of classes."""


@dataclass(frozen=True)
class FitCell:
    """Both networks with default settings on one split."""

    data: str
    standardised: bool
    seed: int

    def key(self) -> str:
        """Versions, task and seed."""
        made_by = f"{fisherbo.__version__}, scikit-learn {version('scikit-learn')}"
        kind = "standardised" if self.standardised else "raw"
        return f"networks {made_by}: {self.data} {kind}, seed {self.seed}"


def fits(cell: FitCell) -> rows.Row:
    """Scores and CPU seconds of both, the one that begins changing from seed to seed."""
    warnings.simplefilter("ignore")
    X, y = load(cell.data)
    is_class = NETWORKS[cell.data]
    split = {"random_state": cell.seed, "stratify": y if is_class else None}
    X_train, X_test, y_train, y_test = train_test_split(X, y, **split)
    ours, theirs = (
        (fisherbo.KFACClassifier, MLPClassifier)
        if is_class
        else (fisherbo.KFACRegressor, MLPRegressor)
    )
    ours(max_iter=1, random_state=0).fit(X_train, y_train)  # imports and first calls
    row: rows.Row = {}
    pair = [("kfac", ours), ("mlp", theirs)]
    for name, kind in pair if cell.seed % 2 else reversed(pair):
        model = kind(random_state=cell.seed)
        if cell.standardised:
            model = make_pipeline(StandardScaler(), model)
        begin, wall = time.process_time(), time.perf_counter()
        model.fit(X_train, y_train)
        row[f"{name} seconds"] = time.process_time() - begin
        row[f"{name} wall"] = time.perf_counter() - wall
        row[name] = float(model.score(X_test, y_test))
    return row


Found = Mapping[SearchCell, rows.Row]


def best_after(row: rows.Row, evaluations: int) -> float:
    return float(np.nanmax(row["scores"][:evaluations]))


def best_at(row: rows.Row, second: float) -> float:
    """Best score known at a CPU second; the first one where none was."""
    known = np.searchsorted(row["seconds"], second, side="right")
    return best_after(row, max(1, int(known)))


def gaps(found: Found, peer: str, *, at_time: bool) -> dict[tuple[str, int], float]:
    """FisherSearchCV's score less a peer's, by (task, seed), in random search's IQR."""
    made = {}
    for cell, row in found.items():
        ours = found.get(SearchCell(FISHER, cell.task, cell.seed))
        if cell.method != peer or ours is None:
            continue
        end = ours["seconds"][EVALUATIONS - 1]
        best = best_at(row, end) if at_time else best_after(row, EVALUATIONS)
        gap = best_after(ours, EVALUATIONS) - best
        made[cell.task, cell.seed] = gap / spread(found, cell.task)
    return made


def spread(found: Found, task: str) -> float:
    """Interquartile range of random candidates' scores, over all seeds."""
    scores = [r["scores"] for c, r in found.items() if (c.method, c.task) == ("random", task)]
    low, high = np.quantile(np.concatenate(scores), [0.25, 0.75])
    return float(high - low) or 1.0


def search_table(found: Found, title: str, *, at_time: bool) -> Table:
    """FisherSearchCV against each peer."""
    table = Table(title=title)
    heads = ("pairs", "median of medians", "mean", "wins", "ties", "losses", "p (Holm)", "ahead in")
    table.add_column("FisherSearchCV less ...")
    for head in heads:
        table.add_column(head, justify="right")
    peers = [m for m in METHODS if m != FISHER and any(c.method == m for c in found)]
    by_peer = {peer: gaps(found, peer, at_time=at_time) for peer in peers}
    p_values = holm([wilcoxon_p(rounded(list(gap.values()))) for gap in by_peer.values()])
    for peer, p in zip(peers, p_values, strict=True):
        gap = rounded(list(by_peer[peer].values()))
        medians = np.array([np.median(g) for g in by_tasks(list(by_peer[peer]), gap).values()])
        table.add_row(
            METHODS[peer],
            str(len(gap)),
            f"{np.median(medians):+.4f}",
            f"{gap.mean():+.4f}",
            *(f"{100 * share:.0f} %" for share in outcome(gap)),
            f"{p:.2g}",
            f"{int((medians > 0).sum())} of {len(medians)} tasks",
        )
    return table


def rounded(gap: Sequence[float]) -> Array:
    """Gaps, those of ties 0."""
    values = np.asarray(gap)
    return np.where(np.abs(values) < TIE, 0.0, values)


def by_tasks(keys: Sequence[tuple[str, int]], gap: Array) -> dict[str, Array]:
    names = [task for task, _ in keys]
    return {name: gap[np.array(names) == name] for name in dict.fromkeys(names)}


def outcome(gap: Array) -> tuple[float, float, float]:
    """Shares of wins, ties and losses."""
    win, loss = float((gap > 0).mean()), float((gap < 0).mean())
    return win, 1 - win - loss, loss


def task_table(found: Found) -> Table:
    """Mean best scores of each task, and CPU seconds of a search."""
    table = Table(title=f"Best score after {EVALUATIONS} evaluations, means of seeds (CPU s)")
    table.add_column("task")
    names = [m for m in METHODS if any(c.method == m for c in found)]
    for name in names:
        table.add_column(METHODS[name], justify="right")
    for task in dict.fromkeys(c.task for c in found):
        cells = []
        for name in names:
            made = [r for c, r in found.items() if (c.method, c.task) == (name, task)]
            if not made:
                cells.append("–")
                continue
            score = np.mean([best_after(r, EVALUATIONS) for r in made])
            last = min(EVALUATIONS, min(len(r["seconds"]) for r in made)) - 1
            seconds = np.mean([r["seconds"][last] for r in made])
            fewer = f" {len(made)} seeds" if len(made) < len({c.seed for c in found}) else ""
            cells.append(f"{score:.4f} ({seconds:.1f}){fewer}")
        table.add_row(task, *cells)
    return table


def network_table(found: Mapping[FitCell, rows.Row]) -> Table:
    """Scores and seconds of the two networks, paired by seed."""
    table = Table(title="Default settings: accuracy or R² on a quarter of the rows, CPU seconds")
    heads = ("inputs", "K-FAC", "MLP", "difference (s.e.)", "K-FAC s", "MLP s", "MLP s / K-FAC s")
    table.add_column("data")
    for head in heads:
        table.add_column(head, justify="right")
    for name, kind in dict.fromkeys((c.data, c.standardised) for c in found):
        made = [r for c, r in found.items() if (c.data, c.standardised) == (name, kind)]
        column = {key: np.array([r[key] for r in made]) for key in made[0]}
        gap = column["kfac"] - column["mlp"]
        error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
        ratio = np.median(column["mlp seconds"] / column["kfac seconds"])
        table.add_row(
            name,
            "standardised" if kind else "raw",
            f"{column['kfac'].mean():.4f}",
            f"{column['mlp'].mean():.4f}",
            f"{gap.mean():+.4f} ({error:.4f})",
            f"{column['kfac seconds'].mean():.3f}",
            f"{column['mlp seconds'].mean():.3f}",
            f"{ratio:.2f}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("automl", __doc__, "dev kept write", quick="some 2 minutes")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=20, help="of the searches")
    parser.add_argument("--networks-only", action="store_true")
    args = parser.parse_args(argv)
    seeds = range(100, 103) if args.dev else range(1 if args.quick else args.seeds)
    methods = [m for m in args.methods if not (args.quick and m == SKOPT)]
    console = Console(width=170, record=True)
    if SKOPT in methods and find_spec("skopt") is None:
        console.print("BayesSearchCV: pip install -c constraints.txt scikit-optimize")
        methods.remove(SKOPT)

    data = ("digits", "diabetes") if args.quick else tuple(NETWORKS)
    splits = range(seeds.start, seeds.start + (2 if args.quick else 10))
    fit_cells = [FitCell(d, kind, s) for s in splits for d in data for kind in (False, True)]
    fitted = kept(fit_cells) if args.kept else rows.collect("automl", fit_cells, fits)
    console.print(network_table(fitted))
    if not args.networks_only:
        chosen = QUICK if args.quick else tuple(tasks())
        slow = [m for m in methods if m == SKOPT]  # last: it takes longer than all others together
        quick = [m for m in methods if m != SKOPT]
        cells = [
            SearchCell(m, t, s)
            for group in (quick, slow)
            for s in seeds
            for t in chosen
            for m in group
        ]
        found = kept(cells) if args.kept else rows.collect("automl", cells, search)
        console.print(task_table(found))
        report(console, found)
    if args.write:
        title = "The AutoML step: searches and networks for scikit-learn"
        console.print(f"wrote {rows.write(console, 'automl', title, rows.command('automl', argv))}")


def kept(cells: Sequence[rows.C]) -> dict[rows.C, rows.Row]:
    """Rows of the cells that were made so far."""
    stored = rows.load(rows.RUNS / "automl.jsonl")
    return {cell: stored[cell.key()] for cell in cells if cell.key() in stored}


def report(console: Console, found: Found) -> None:
    for at_time, words in ((False, f"after {EVALUATIONS} evaluations"), (True, "at equal time")):
        title = f"Best score {words}, differences in IQRs of random candidates' scores"
        console.print(search_table(found, title, at_time=at_time))


if __name__ == "__main__":
    main()
