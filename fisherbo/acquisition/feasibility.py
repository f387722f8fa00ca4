"""Acquisitions made of others: a probability of feasibility, products, and a known restriction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from fisherbo.acquisition.protocol import Acquisition
from fisherbo.acquisition.utility import log_probability
from fisherbo.optimize.descent import Evaluation
from fisherbo.space import Array, Mask
from fisherbo.surrogate.metric import MetricRule, joint_metric, score_metric
from fisherbo.surrogate.protocol import Surrogate


@dataclass(frozen=True)
class Feasibility:
    """Log probability that a constraint holds.

    Attributes:
        surrogate: Beliefs about the constraint's slack: it holds where that is at least 0.
        metric: Of candidates, in which the acquisition is climbed.
    """

    surrogate: Surrogate
    metric: MetricRule = score_metric

    def value(self, x: Array) -> Array:
        """``log Φ(μ/s)`` at points ``(b, d)``, shape ``(b,)``."""
        return log_probability(*self.surrogate.predict(x))[0]

    def evaluate(self, x: Array) -> Evaluation:
        """The same with gradient and metric."""
        at = self.surrogate.linearize(x)
        value, by_mean, by_sd = log_probability(at.mean, at.sd)
        gradient = at.pull(by_mean, by_sd)
        return Evaluation(value, gradient, *self.metric(self.surrogate, x, at))


@dataclass(frozen=True)
class Product:
    """The product of independent factors: log utilities, gradients and metrics add.

    Attributes:
        factors: At least one.
    """

    factors: tuple[Acquisition, ...]

    def value(self, x: Array) -> Array:
        """Sum of the factors' log utilities at points ``(b, d)``, shape ``(b,)``."""
        return reduce(np.add, (factor.value(x) for factor in self.factors))

    def evaluate(self, x: Array) -> Evaluation:
        """The same with gradient and metric."""
        parts = [factor.evaluate(x) for factor in self.factors]
        gradient = reduce(np.add, (e.gradient for e in parts))
        value = reduce(np.add, (e.value for e in parts))
        metric = joint_metric([(e.diagonal, e.factors, e.matrix) for e in parts])
        return Evaluation(value, gradient, *metric)


@dataclass(frozen=True)
class Restricted:
    """An acquisition where points are allowed, −∞ elsewhere.

    Attributes:
        inner: The acquisition.
        allowed: Points ``(b, d)`` to whether they may be chosen, shape ``(b,)``.
    """

    inner: Acquisition
    allowed: Callable[[Array], Mask]

    def value(self, x: Array) -> Array:
        """Log utility at points ``(b, d)``, shape ``(b,)``."""
        return np.where(self.allowed(x), self.inner.value(x), -np.inf)

    def evaluate(self, x: Array) -> Evaluation:
        """The same with the inner gradient and metric."""
        inner = self.inner.evaluate(x)
        value = np.where(self.allowed(x), inner.value, -np.inf)
        return replace(inner, value=value)


def unrestricted(acquisition: Acquisition) -> Acquisition:
    """An acquisition at all points, whatever it is restricted to."""
    while isinstance(acquisition, Restricted):
        acquisition = acquisition.inner
    return acquisition


def product(factors: tuple[Acquisition, ...]) -> Acquisition:
    """The product of factors, or the only one of them."""
    return factors[0] if len(factors) == 1 else Product(factors)
