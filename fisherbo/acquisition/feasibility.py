"""Log probability of feasibility, products of acquisitions, and acquisitions on a subset.

Symbols: μ, s posterior mean and standard deviation of a constraint at a candidate; z = μ/s its
margin; φ, Φ the normal density and distribution function; r = φ/Φ.

The curvature of log Φ(z) is −r (z + r) in z, between −1 and 0. Its Gauss–Newton part in x is
−r (z + r) ∇z∇zᵀ, since ∇²z is dropped (`acquisition.log_ei` says the same of log EI). Where a
constraint is known well s is small, so that Φ falls from 1 to 0 within a small part of the
lengthscale: the optimum lies on a ridge that only this curvature shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from scipy.special import erfcx, log_ndtr

from fisherbo.acquisition.protocol import Acquisition
from fisherbo.gp.fisher import (
    MetricRule,
    gauss_newton_metric,
    joint_metric,
    margin_gradient,
    posterior_metric,
)
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array, Mask

_VANISHING = 37.0  # φ(z)/φ(0) = 5e-298 there: derivatives are 0 to any precision beyond


@dataclass(frozen=True)
class Feasibility:
    """Log probability that a constraint holds.

    Attributes:
        surrogate: Model of the constraint, which holds where it is at least 0.
        metric: Metric of the natural-gradient ascent.
        curved: Whether its metric is the Gauss–Newton part of the curvature instead.
    """

    surrogate: Surrogate
    metric: MetricRule = posterior_metric
    curved: bool = False

    def value(self, x: Array) -> Array:
        """``log Φ(μ/s)`` at points ``(b, d)``, shape ``(b,)``."""
        return log_probability(*self.surrogate.predict(x))[0]

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        at = self.surrogate.predict_with_gradient(x)
        value, by_mean, by_sd = log_probability(at.mean, at.sd)
        gradient = at.gradient(by_mean, by_sd)
        if self.curved:
            z, ratio = at.mean / at.sd, by_mean * at.sd
            weight = np.clip(ratio * (z + ratio), 0, 1)
            slope = margin_gradient(at, at.sd, at.sd_gradient, z)
            factors = (np.sqrt(weight)[:, None] * slope)[..., None]
            return LocalModel(value, gradient, *gauss_newton_metric(self.surrogate, factors))
        return LocalModel(value, gradient, *self.metric(self.surrogate, x, at))


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

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        parts = [factor.evaluate(x) for factor in self.factors]
        gradient = reduce(np.add, (e.gradient for e in parts))
        value = reduce(np.add, (e.value for e in parts))
        metric = joint_metric([(e.diagonal, e.factors, e.matrix) for e in parts])
        return LocalModel(value, gradient, *metric)


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

    def evaluate(self, x: Array) -> LocalModel:
        """The same with the inner gradient and metric."""
        inner = self.inner.evaluate(x)
        value = np.where(self.allowed(x), inner.value, -np.inf)
        return replace(inner, value=value)


def unrestricted(acquisition: Acquisition) -> Acquisition:
    """The acquisition without its restriction, if it has one."""
    while isinstance(acquisition, Restricted):
        acquisition = acquisition.inner
    return acquisition


def allowed(acquisition: Acquisition, x: Array) -> Mask:
    """Where an acquisition is not restricted, at points ``(b, d)``, shape ``(b,)``."""
    holds = np.ones(len(x), dtype=bool)
    while isinstance(acquisition, Restricted):
        holds &= acquisition.allowed(x)
        acquisition = acquisition.inner
    return holds


def product(factors: tuple[Acquisition, ...]) -> Acquisition:
    """The product of factors, or the only one of them."""
    return factors[0] if len(factors) == 1 else Product(factors)


def log_probability(mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """``log P[f ≥ 0] = log Φ(μ/s)`` and its derivatives in μ and s, accurate in the far tail.

    Args:
        mean: μ, shape ``(*b,)``.
        sd: s > 0, shape ``(*b,)``.
    """
    z = mean / sd
    by_z = math.sqrt(2 / math.pi) / erfcx(-math.sqrt(0.5) * np.minimum(z, _VANISHING))  # φ/Φ
    return log_ndtr(z), by_z / sd, -by_z * (z / sd)
