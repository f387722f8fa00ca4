"""fisherbo: tuning and training by natural gradient.

Public names are imported when they are first used, so that ``import fisherbo`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fisherbo.estimators import FisherSearchCV as FisherSearchCV
    from fisherbo.estimators import KFACClassifier as KFACClassifier
    from fisherbo.estimators import KFACRegressor as KFACRegressor
    from fisherbo.sampler.budget import StopWhenSpent as StopWhenSpent
    from fisherbo.sampler.categories import ordered as ordered
    from fisherbo.sampler.pruner import FisherPruner as FisherPruner
    from fisherbo.sampler.pruner import should_prune as should_prune
    from fisherbo.sampler.recommend import Recommendation as Recommendation
    from fisherbo.sampler.reports import report as report
    from fisherbo.sampler.resumption import frozen as frozen
    from fisherbo.sampler.resumption import thaw as thaw
    from fisherbo.sampler.sampler import FisherSampler as FisherSampler
    from fisherbo.sampler.simplex import simplex_params as simplex_params
    from fisherbo.sampler.simplex import simplex_weights as simplex_weights
    from fisherbo.sampler.simplex import suggest_simplex as suggest_simplex
    from fisherbo.sampler.stopping import StopWhenConverged as StopWhenConverged
    from fisherbo.sampler.trials import NOISE_VARIANCE as NOISE_VARIANCE
    from fisherbo.training import KFAC as KFAC
    from fisherbo.training import NaturalGradient as NaturalGradient
    from fisherbo.tuning import TuningResult as TuningResult
    from fisherbo.tuning import tune_training as tune_training
    from fisherbo.tuning.policy import PolicyTuning as PolicyTuning
    from fisherbo.tuning.policy import tune_policy as tune_policy
    from fisherbo.tuning.suggestions import default_point as default_point
    from fisherbo.tuning.suggestions import search_space as search_space
    from fisherbo.tuning.suggestions import suggest as suggest
    from fisherbo.tuning.tables.model import TableModel as TableModel
    from fisherbo.tuning.tables.model import load_model as load_model

__version__ = "0.1.0"

_HOME = {
    "FisherPruner": "fisherbo.sampler.pruner",
    "FisherSampler": "fisherbo.sampler.sampler",
    "FisherSearchCV": "fisherbo.estimators",
    "KFAC": "fisherbo.training",
    "KFACClassifier": "fisherbo.estimators",
    "KFACRegressor": "fisherbo.estimators",
    "NOISE_VARIANCE": "fisherbo.sampler.trials",
    "NaturalGradient": "fisherbo.training",
    "PolicyTuning": "fisherbo.tuning.policy",
    "Recommendation": "fisherbo.sampler.recommend",
    "StopWhenConverged": "fisherbo.sampler.stopping",
    "StopWhenSpent": "fisherbo.sampler.budget",
    "TableModel": "fisherbo.tuning.tables.model",
    "TuningResult": "fisherbo.tuning",
    "default_point": "fisherbo.tuning.suggestions",
    "frozen": "fisherbo.sampler.resumption",
    "load_model": "fisherbo.tuning.tables.model",
    "ordered": "fisherbo.sampler.categories",
    "report": "fisherbo.sampler.reports",
    "search_space": "fisherbo.tuning.suggestions",
    "should_prune": "fisherbo.sampler.pruner",
    "simplex_params": "fisherbo.sampler.simplex",
    "simplex_weights": "fisherbo.sampler.simplex",
    "suggest": "fisherbo.tuning.suggestions",
    "suggest_simplex": "fisherbo.sampler.simplex",
    "thaw": "fisherbo.sampler.resumption",
    "tune_policy": "fisherbo.tuning.policy",
    "tune_training": "fisherbo.tuning",
}

_PARTS = ("botorch", "estimators", "geometry", "prior", "rl", "training", "tuning", "visualization")
"""Packages that ``fisherbo.visualization`` and the like reach without an import of their own."""

__all__ = [
    "FisherPruner",
    "FisherSampler",
    "FisherSearchCV",
    "KFAC",
    "KFACClassifier",
    "KFACRegressor",
    "NOISE_VARIANCE",
    "NaturalGradient",
    "PolicyTuning",
    "Recommendation",
    "StopWhenConverged",
    "StopWhenSpent",
    "TableModel",
    "TuningResult",
    "__version__",
    "default_point",
    "frozen",
    "load_model",
    "ordered",
    "report",
    "search_space",
    "should_prune",
    "simplex_params",
    "simplex_weights",
    "suggest",
    "suggest_simplex",
    "thaw",
    "tune_policy",
    "tune_training",
]


def __getattr__(name: str) -> object:
    if name in _PARTS:
        return import_module(f"fisherbo.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fisherbo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
