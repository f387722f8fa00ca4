"""Expected improvement of one objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fisherbo.acquisition.utility import log_expected_improvement
from fisherbo.gp.fisher import MetricRule, score_metric
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import Evaluation
from fisherbo.space import Array


@dataclass(frozen=True)
class ExpectedImprovement:
    """Log expected improvement on a value, of f or of the next observation.

    Attributes:
        surrogate: Beliefs about the objective, larger is better.
        best: Value to improve on.
        noise: Variance that observations have beside f's: 0 where f itself is to improve, τ² where
            what looks like noise is part of the objective, which the kernel does not resolve.
        metric: Of candidates, in which the acquisition is climbed.
    """

    surrogate: Surrogate
    best: float
    noise: float = 0.0
    metric: MetricRule = score_metric

    def value(self, x: Array) -> Array:
        """Log expected improvement at points ``(b, d)``, shape ``(b,)``."""
        mean, sd = self.surrogate.predict(x)
        return log_expected_improvement(mean, np.hypot(sd, self._noise_sd), self.best)[0]

    def evaluate(self, x: Array) -> Evaluation:
        """The same with gradient and metric."""
        at = self.surrogate.linearize(x)
        sd = np.hypot(at.sd, self._noise_sd)
        value, by_mean, by_sd = log_expected_improvement(at.mean, sd, self.best)
        gradient = at.pull(by_mean, by_sd * at.sd / sd)
        return Evaluation(value, gradient, *self.metric(self.surrogate, x, at))

    @cached_property
    def _noise_sd(self) -> float:
        return math.sqrt(self.noise)
