"""What an evaluation costs, as factors of an acquisition.

Symbols: c the cost of an evaluation; u = (log c − m)/s its standardised logarithm; μ, σ posterior
mean and standard deviation of u at a candidate; τ² noise variance; α power; B what is left.

Improvement per cost is EI(x)/exp E[log c(x)] (Snoek, Larochelle & Adams 2012), α = 1. With cost
cooling α falls from 1 to 0 as the budget is spent (Lee et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.acquisition.feasibility import log_probability
from fisherbo.gp.fisher import MetricRule, posterior_metric
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array


@dataclass(frozen=True)
class InverseCost:
    """Expected log of the inverse cost, times a power; up to a constant.

    Attributes:
        surrogate: Model of the standardised log cost ``u``.
        weight: ``α s``, in nats for each unit of ``u``.
        metric: Metric of the natural-gradient ascent.
    """

    surrogate: Surrogate
    weight: float
    metric: MetricRule = posterior_metric

    def value(self, x: Array) -> Array:
        """``−α s μ`` at points ``(b, d)``, shape ``(b,)``."""
        return -self.weight * self.surrogate.mean(x)

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        at = self.surrogate.predict_with_gradient(x)
        metric = self.metric(self.surrogate, x, at)
        return LocalModel(-self.weight * at.mean, -self.weight * at.mean_gradient, *metric)


@dataclass(frozen=True)
class WithinBudget:
    """Log probability that an evaluation costs no more than what is left.

    Attributes:
        surrogate: Model of the standardised log cost ``u``.
        limit: ``(log B − m)/s``.
        metric: Metric of the natural-gradient ascent.
    """

    surrogate: Surrogate
    limit: float
    metric: MetricRule = posterior_metric

    def value(self, x: Array) -> Array:
        """``log Φ((limit − μ)/√(σ² + τ²))`` at points ``(b, d)``, shape ``(b,)``."""
        mean, sd = self.surrogate.predict(x)
        return log_probability(self.limit - mean, self._of_observation(sd))[0]

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        at = self.surrogate.predict_with_gradient(x)
        sd = self._of_observation(at.sd)
        value, by_mean, by_sd = log_probability(self.limit - at.mean, sd)
        gradient = at.gradient(-by_mean, by_sd * at.sd / sd)
        return LocalModel(value, gradient, *self.metric(self.surrogate, x, at))

    def _of_observation(self, sd: Array) -> Array:
        return np.sqrt(sd * sd + self.surrogate.noise)
