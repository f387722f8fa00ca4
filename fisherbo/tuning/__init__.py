"""Where the sampler and the training meet: studies that tune an optimizer's hyperparameters."""

from fisherbo.tuning.result import TuningResult, result_of
from fisherbo.tuning.search_spaces import OPTIMIZERS, TunableOptimizer, register
from fisherbo.tuning.study import tune_training

__all__ = [
    "OPTIMIZERS",
    "TunableOptimizer",
    "TuningResult",
    "register",
    "result_of",
    "tune_training",
]
