"""Where the sampler and the training meet: studies that tune an optimizer's hyperparameters.

Public names are imported when they are first used: a saved model predicts without Optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fisherbo.tuning.result import TuningResult, result_of
    from fisherbo.tuning.search_spaces import OPTIMIZERS, TunableOptimizer, register
    from fisherbo.tuning.study import tune_training

_HOME = {
    "OPTIMIZERS": "search_spaces",
    "TunableOptimizer": "search_spaces",
    "TuningResult": "result",
    "register": "search_spaces",
    "result_of": "result",
    "tune_training": "study",
}

__all__ = [
    "OPTIMIZERS",
    "TunableOptimizer",
    "TuningResult",
    "register",
    "result_of",
    "tune_training",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fisherbo.tuning' has no attribute {name!r}")
    value = getattr(import_module(f"fisherbo.tuning.{_HOME[name]}"), name)
    globals()[name] = value
    return value
