"""Log expected improvement of one objective.

Symbols: μ, s posterior mean and standard deviation at a candidate; z = (μ − best)/s; φ, Φ the
normal density and distribution function; m(z) = Φ(z)/φ(z);
EI = s h(z) with h(z) = φ(z) + z Φ(z) = φ(z) (1 + z m(z)).

The Gauss–Newton part of the curvature of log EI = log s + log h(z), without ∇²z and ∇²s, is

    −∇s∇sᵀ/s² − w ∇z∇zᵀ,   w = −(log h)'' = (Φ/h)² − φ/h, between 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import erfcx

from fisherbo.gp.fisher import (
    MetricRule,
    gauss_newton_metric,
    margin_gradient,
    posterior_metric,
)
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF_PI = math.sqrt(math.pi / 2)
_LARGE = 25.0
_FARTHEST = 1e8  # z² is still precise to rounding
_VANISHING = 37.0  # φ(z)/φ(0) = 5e-298 there: derivatives in s are 0 to any precision beyond


@dataclass(frozen=True)
class ExpectedImprovement:
    """Log expected improvement on a value, of f or of the next observation.

    Attributes:
        surrogate: Model of the objective, larger is better.
        best: Value to improve on.
        noise: Variance added to that of f: 0 to improve on f itself; τ² if the residual is not
            noise but a part of the objective that the kernel does not resolve.
        metric: Metric of the natural-gradient ascent.
        curved: Whether its metric is the Gauss–Newton part of the curvature instead.
        margin: By how much a value must exceed ``best`` to count as an improvement.
    """

    surrogate: Surrogate
    best: float
    noise: float = 0.0
    metric: MetricRule = posterior_metric
    curved: bool = False
    margin: float = 0.0

    def value(self, x: Array) -> Array:
        """Log expected improvement at points ``(b, d)``, shape ``(b,)``."""
        mean, sd = self.surrogate.predict(x)
        return log_expected_improvement(mean, np.hypot(sd, self._noise_sd), self._goal)[0]

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        at = self.surrogate.predict_with_gradient(x)
        sd = np.hypot(at.sd, self._noise_sd)
        value, by_mean, by_sd = log_expected_improvement(at.mean, sd, self._goal)
        gradient = at.gradient(by_mean, by_sd * at.sd / sd)
        if self.curved:
            sd_gradient, z = at.sd_gradient * (at.sd / sd)[:, None], (at.mean - self._goal) / sd
            weight = np.clip((by_mean * sd) ** 2 - by_sd * sd, 0, 1)
            slope = margin_gradient(at, sd, sd_gradient, z)
            along = np.sqrt(weight)[:, None] * slope, sd_gradient / sd[:, None]
            factors = np.stack(along, -1)
            return LocalModel(value, gradient, *gauss_newton_metric(self.surrogate, factors))
        return LocalModel(value, gradient, *self.metric(self.surrogate, x, at))

    @property
    def _goal(self) -> float:
        return self.best + self.margin

    @cached_property
    def _noise_sd(self) -> float:
        return math.sqrt(self.noise)


def log_expected_improvement(
    mean: Array, sd: Array, best: float | Array
) -> tuple[Array, Array, Array]:
    """``log E[max(f − best, 0)]`` and its derivatives in the mean and the standard deviation.

    Accurate in the far tail, where the expected improvement underflows (Ament et al. 2023, eq. 9).

    Args:
        mean: μ, shape ``(*b,)``.
        sd: s > 0, shape ``(*b,)``.
        best: Value to improve on; values of a shape that broadcasts with ``mean``.

    Returns:
        Three arrays of shape ``(*b,)``, in nats and nats per unit of ``mean`` and ``sd``.
    """
    z = (mean - best) / sd
    near = np.minimum(np.maximum(z, -_FARTHEST), _LARGE)
    beyond = np.maximum(z / _LARGE, 1)  # h(z) = z and Φ(z) = 1 to rounding where it is above 1
    mills = _SQRT_HALF_PI * erfcx(-math.sqrt(0.5) * near)
    bracket = _one_plus_z_mills(near, mills)
    scaled = bracket * sd  # EI/φ
    value = np.log(scaled * beyond) - (0.5 * near**2 + _LOG_SQRT_2PI)
    by_sd = 1 / (scaled * beyond)  # ∂EI/∂s = φ; relative to φ(25) beyond
    by_mean = mills * by_sd  # ∂EI/∂μ = Φ
    if not (beyond > 1).any():
        return value, by_mean, by_sd
    return value, by_mean, by_sd * np.exp(-0.5 * (np.clip(z, _LARGE, _VANISHING) ** 2 - _LARGE**2))


def _one_plus_z_mills(z: Array, mills: Array) -> Array:
    """``1 + z m(z)``; its series z⁻² − 3 z⁻⁴ + 15 z⁻⁶ where the sum would cancel."""
    far = z < -200.0
    if not far.any():
        return 1 + z * mills
    u = 1 / np.where(far, z, -200.0) ** 2
    return np.where(far, u - 3 * u**2 + 15 * u**3, 1 + z * mills)
