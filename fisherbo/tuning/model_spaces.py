"""Search spaces of common models, as data: ranges from the literature, each with its source.

Sources, by the words that the table uses:

    random bot      Kühn et al. (2018), "Automatic exploration of machine learning experiments on
                    OpenML", and its successor rbv2, as the R package mlr3tuningspaces lists them
    YAHPO           Pfisterer et al. (2022), "YAHPO Gym", scenario rbv2_aknn
    auto-sklearn    Feurer et al. (2022), "Auto-sklearn 2.0": the package's components
    TabArena        Erickson et al. (2025), "TabArena": its generators of configurations
    AlgoPerf        Dahl et al. (2023), "Benchmarking neural network training algorithms": the
                    search spaces of its baselines
    scikit-learn    the documentation of a class

A range that a source has in another form, or that was widened to hold the library's default, says
so in its note. Where no source was found, the source is `OURS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fisherbo.tuning.search_spaces import KFAC_SPACE

OURS = "no source: our choice"


@dataclass(frozen=True)
class ParentCondition:
    """A hyperparameter exists where its parent has one of these values."""

    parent: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Hyperparameter:
    """A range with its source.

    Attributes:
        distribution: the range.
        default: the library's default, or the nearest point of the range; None if there is none.
        source: where the range was published.
        note: what differs from the source, or why the default is not the library's.
        when: condition under which it exists; None: always. The parent comes first in the space.
    """

    distribution: BaseDistribution
    default: Any
    source: str
    note: str = ""
    when: ParentCondition | None = None


@dataclass(frozen=True)
class ComputedArgument:
    """A keyword argument that is computed from hyperparameters."""

    parents: tuple[str, ...]
    compute: Callable[..., Any]


@dataclass(frozen=True)
class ModelSpace:
    """The search space of one model.

    Attributes:
        names: what users may call it; class names among them.
        package: the top-level package of its classes.
        hyperparameters: what is suggested, in this order.
        constants: keyword arguments without which a hyperparameter would have no effect.
        forms: keyword arguments that are written in another form than they are searched.
    """

    names: tuple[str, ...]
    package: str
    hyperparameters: Mapping[str, Hyperparameter]
    constants: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, ComputedArgument] = field(default_factory=dict)


def _log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


def _log_int(low: int, high: int) -> IntDistribution:
    return IntDistribution(low, high, log=True)


def _choice(*choices: Any) -> CategoricalDistribution:
    return CategoricalDistribution(choices)


RANDOM_BOT, YAHPO, AUTO_SKLEARN = "random bot", "YAHPO", "auto-sklearn"
TABARENA, ALGOPERF, SCIKIT_LEARN = "TabArena", "AlgoPerf", "scikit-learn"

_HIST_GRADIENT_BOOSTING = {
    "learning_rate": Hyperparameter(_log(0.01, 1.0), 0.1, AUTO_SKLEARN),
    "max_iter": Hyperparameter(
        _log_int(32, 512), 100, AUTO_SKLEARN, "its largest number; the smallest is ours"
    ),
    "max_leaf_nodes": Hyperparameter(_log_int(3, 2047), 31, AUTO_SKLEARN),
    "min_samples_leaf": Hyperparameter(_log_int(1, 200), 20, AUTO_SKLEARN),
    "l2_regularization": Hyperparameter(
        _log(1e-10, 1.0), 1e-10, AUTO_SKLEARN, "0 has no logarithm, and 1e-10 is as good"
    ),
}

_MAX_FEATURES = _choice("sqrt", 0.5, 0.75, 1.0)
_WHOLE_SAMPLE = "the library's None is as many rows as there are"


def _forest(max_features: Any, bootstrap: bool, criteria: Sequence[str]) -> dict[str, Any]:
    """Of forests; their number of trees is left alone: more are never worse, only slower."""
    made = {
        "max_features": Hyperparameter(
            _MAX_FEATURES, max_features, TABARENA, "the choices for extremely randomized trees"
        ),
        "min_samples_leaf": Hyperparameter(
            _log_int(1, 100), 1, RANDOM_BOT, "ranger's min.node.size, there on a linear scale"
        ),
        "bootstrap": Hyperparameter(_choice(True, False), bootstrap, RANDOM_BOT),
        "max_samples": Hyperparameter(
            FloatDistribution(0.1, 1.0),
            1.0,
            RANDOM_BOT,
            _WHOLE_SAMPLE,
            ParentCondition("bootstrap", (True,)),
        ),
    }
    if criteria:
        made["criterion"] = Hyperparameter(_choice(*criteria), criteria[0], AUTO_SKLEARN)
    return made


_SVM = {
    "C": Hyperparameter(_log(1e-4, 1e3), 1.0, RANDOM_BOT),
    "kernel": Hyperparameter(_choice("rbf", "poly", "linear"), "rbf", RANDOM_BOT),
    "gamma": Hyperparameter(
        _log(2.0**-15, 2.0**3),
        None,
        AUTO_SKLEARN,
        "the library's 'scale' depends on the data; for standardised inputs it is 1 / their number",
        ParentCondition("kernel", ("rbf", "poly")),
    ),
    "degree": Hyperparameter(
        IntDistribution(2, 5), 3, RANDOM_BOT, when=ParentCondition("kernel", ("poly",))
    ),
    "coef0": Hyperparameter(
        FloatDistribution(-1.0, 1.0),
        0.0,
        AUTO_SKLEARN,
        "ad hoc there too",
        ParentCondition("kernel", ("poly",)),
    ),
}
_EPSILON = Hyperparameter(_log(1e-3, 1.0), 0.1, AUTO_SKLEARN, "for standardised targets")

_NEIGHBORS = {
    "n_neighbors": Hyperparameter(
        _log_int(1, 50), 5, YAHPO, "there on a linear scale; needs 50 training rows"
    ),
    "weights": Hyperparameter(_choice("uniform", "distance"), "uniform", AUTO_SKLEARN),
    "p": Hyperparameter(IntDistribution(1, 2), 2, AUTO_SKLEARN),
}

_PERCEPTRON = {
    "n_layers": Hyperparameter(IntDistribution(1, 3), 1, AUTO_SKLEARN),
    "width": Hyperparameter(_log_int(16, 264), 100, AUTO_SKLEARN),
    "activation": Hyperparameter(_choice("relu", "tanh"), "relu", AUTO_SKLEARN),
    "alpha": Hyperparameter(_log(1e-7, 1e-1), 1e-4, AUTO_SKLEARN),
    "learning_rate_init": Hyperparameter(_log(1e-4, 0.5), 1e-3, AUTO_SKLEARN),
    "early_stopping": Hyperparameter(_choice(False, True), False, AUTO_SKLEARN),
}
_LAYERS = {
    "hidden_layer_sizes": ComputedArgument(
        ("n_layers", "width"), lambda n_layers, width: (width,) * n_layers
    )
}

_GLMNET = Hyperparameter(_log(1e-4, 1e3), 1.0, RANDOM_BOT, "glmnet's s; for standardised targets")

_N_TREES = Hyperparameter(_log_int(7, 2981), 100, RANDOM_BOT, "xgboost's nrounds")
_XGBOOST = {
    "n_estimators": Hyperparameter(
        _N_TREES.distribution, 100, RANDOM_BOT, "the library's None is 100"
    ),
    "learning_rate": Hyperparameter(
        _log(5e-3, 0.3), 0.3, TABARENA, "up to .1 there; the library's None is .3"
    ),
    "max_depth": Hyperparameter(_log_int(4, 10), 6, TABARENA, "the library's None is 6"),
    "grow_policy": Hyperparameter(
        _choice("depthwise", "lossguide"), "depthwise", TABARENA, "the library's None is depthwise"
    ),
    "max_leaves": Hyperparameter(
        _log_int(8, 1024),
        None,
        TABARENA,
        "of both policies there; the library's None is no limit",
        ParentCondition("grow_policy", ("lossguide",)),
    ),
    "min_child_weight": Hyperparameter(_log(1e-3, 5.0), 1.0, TABARENA, "the library's None is 1"),
    "subsample": Hyperparameter(
        FloatDistribution(0.6, 1.0), 1.0, TABARENA, "the library's None is 1"
    ),
    "colsample_bylevel": Hyperparameter(
        FloatDistribution(0.6, 1.0), 1.0, TABARENA, "the library's None is 1"
    ),
    "colsample_bynode": Hyperparameter(
        FloatDistribution(0.6, 1.0), 1.0, TABARENA, "the library's None is 1"
    ),
    "reg_alpha": Hyperparameter(
        FloatDistribution(0.0, 5.0), 0.0, TABARENA, "from 1e-4 there; the library's None is 0"
    ),
    "reg_lambda": Hyperparameter(
        FloatDistribution(0.0, 5.0), 1.0, TABARENA, "from 1e-4 there; the library's None is 1"
    ),
}
_LIGHTGBM = {
    "n_estimators": _N_TREES,
    "learning_rate": Hyperparameter(_log(5e-3, 0.1), 0.1, TABARENA),
    "num_leaves": Hyperparameter(_log_int(2, 200), 31, TABARENA),
    "min_child_samples": Hyperparameter(_log_int(1, 64), 20, TABARENA),
    "subsample": Hyperparameter(FloatDistribution(0.7, 1.0), 1.0, TABARENA),
    "colsample_bytree": Hyperparameter(FloatDistribution(0.4, 1.0), 1.0, TABARENA),
    "extra_trees": Hyperparameter(_choice(False, True), False, TABARENA),
    "reg_alpha": Hyperparameter(FloatDistribution(0.0, 1.0), 0.0, TABARENA, "from 1e-4 there"),
    "reg_lambda": Hyperparameter(FloatDistribution(0.0, 2.0), 0.0, TABARENA, "from 1e-4 there"),
}
_CATBOOST = {
    "n_estimators": Hyperparameter(
        _N_TREES.distribution, 1000, RANDOM_BOT, "xgboost's nrounds; the library's None is 1000"
    ),
    "learning_rate": Hyperparameter(
        _log(5e-3, 0.1), None, TABARENA, "the library's depends on the data"
    ),
    "max_depth": Hyperparameter(IntDistribution(4, 8), 6, TABARENA, "the library's None is 6"),
    "grow_policy": Hyperparameter(
        _choice("SymmetricTree", "Depthwise"),
        "SymmetricTree",
        TABARENA,
        "the library's None is SymmetricTree",
    ),
    "min_data_in_leaf": Hyperparameter(
        _log_int(1, 100),
        1,
        TABARENA,
        "left out there, as it has no effect on symmetric trees; the library's None is 1",
        ParentCondition("grow_policy", ("Depthwise",)),
    ),
    "subsample": Hyperparameter(
        FloatDistribution(0.7, 1.0), 0.8, TABARENA, "the library's depends on the data"
    ),
    "colsample_bylevel": Hyperparameter(
        FloatDistribution(0.85, 1.0), 1.0, TABARENA, "the library's None is 1"
    ),
    "reg_lambda": Hyperparameter(_log(1e-4, 5.0), 3.0, TABARENA, "the library's None is 3"),
    "leaf_estimation_iterations": Hyperparameter(
        _log_int(1, 20), None, TABARENA, "the library's depends on the loss"
    ),
}

_ADAMW = {
    "lr": Hyperparameter(_log(1e-4, 1e-2), 1e-3, ALGOPERF),
    "one_minus_beta1": Hyperparameter(_log(2e-2, 0.5), 0.1, ALGOPERF),
    "weight_decay": Hyperparameter(_log(5e-3, 1.0), 1e-2, ALGOPERF),
}
_SGD = {
    "lr": Hyperparameter(
        _log(1e-3, 5.0), 1e-3, ALGOPERF, "from .02 there, with large batches and a schedule"
    ),
    "one_minus_momentum": Hyperparameter(
        _log(5e-3, 0.3), None, ALGOPERF, "the library has no momentum by default"
    ),
    "weight_decay": Hyperparameter(
        _log(1e-7, 1e-3),
        None,
        ALGOPERF,
        "up to 5e-5 there; 5e-4 is usual for convolutional networks. The library's is 0",
    ),
}
_KFAC = {
    "lr": Hyperparameter(
        KFAC_SPACE.space["lr"], 0.1, OURS, "the damped Fisher's default; as tune_training has it"
    ),
    "damping": Hyperparameter(
        KFAC_SPACE.space["damping"], 1e-2, OURS, "the damped Fisher's default"
    ),
    "momentum": Hyperparameter(KFAC_SPACE.space["momentum"], 0.9, OURS),
    "weight_decay": Hyperparameter(_log(1e-7, 1e-1), None, OURS, "0 has no logarithm"),
}

SPACES = (
    ModelSpace(
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
        "sklearn",
        _HIST_GRADIENT_BOOSTING,
    ),
    ModelSpace(("RandomForestClassifier",), "sklearn", _forest("sqrt", True, ("gini", "entropy"))),
    ModelSpace(("RandomForestRegressor",), "sklearn", _forest(1.0, True, ())),
    ModelSpace(("ExtraTreesClassifier",), "sklearn", _forest("sqrt", False, ("gini", "entropy"))),
    ModelSpace(("ExtraTreesRegressor",), "sklearn", _forest(1.0, False, ())),
    ModelSpace(
        ("LogisticRegression",),
        "sklearn",
        {
            "C": Hyperparameter(
                _log(1e-4, 1e4), 1.0, SCIKIT_LEARN, "the grid of LogisticRegressionCV"
            )
        },
    ),
    ModelSpace(("SVC",), "sklearn", _SVM),
    ModelSpace(("SVR",), "sklearn", {**_SVM, "epsilon": _EPSILON}),
    ModelSpace(("KNeighborsClassifier", "KNeighborsRegressor"), "sklearn", _NEIGHBORS),
    ModelSpace(("MLPClassifier", "MLPRegressor"), "sklearn", _PERCEPTRON, forms=_LAYERS),
    ModelSpace(
        ("Ridge",),
        "sklearn",
        {
            "alpha": Hyperparameter(
                _log(1e-4, 1e4), 1.0, OURS, "eight decades around the library's default"
            )
        },
    ),
    ModelSpace(("Lasso",), "sklearn", {"alpha": _GLMNET}),
    ModelSpace(
        ("ElasticNet",),
        "sklearn",
        {
            "alpha": _GLMNET,
            "l1_ratio": Hyperparameter(FloatDistribution(0.0, 1.0), 0.5, RANDOM_BOT),
        },
    ),
    ModelSpace(("xgboost", "XGBClassifier", "XGBRegressor"), "xgboost", _XGBOOST),
    ModelSpace(
        ("lightgbm", "LGBMClassifier", "LGBMRegressor"),
        "lightgbm",
        _LIGHTGBM,
        constants={"subsample_freq": 1},
    ),
    ModelSpace(
        ("catboost", "CatBoostClassifier", "CatBoostRegressor"),
        "catboost",
        _CATBOOST,
        constants={"bootstrap_type": "Bernoulli", "boosting_type": "Plain"},
    ),
    ModelSpace(
        ("torch-adamw", "AdamW"),
        "torch",
        _ADAMW,
        forms={"betas": ComputedArgument(("one_minus_beta1",), lambda rest: (1 - rest, 0.999))},
    ),
    ModelSpace(
        ("torch-sgd", "SGD"),
        "torch",
        _SGD,
        forms={"momentum": ComputedArgument(("one_minus_momentum",), lambda rest: 1 - rest)},
    ),
    ModelSpace(("kfac", "KFAC"), "fisherbo", _KFAC),
)

BY_NAME: Mapping[str, ModelSpace] = MappingProxyType(
    {name: space for space in SPACES for name in space.names}
)
