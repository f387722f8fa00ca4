"""Log expected improvement of a hypervolume scalarisation of several objectives.

Symbols: objectives f_1 … f_m, larger is better, independent N(μ_j, s_j²) at a point; reference
point r; direction λ > 0. The scalarisation, a Chebyshev distance along the ray r + tλ,
    g(f) = min_j (f_j − r_j)/λ_j,
averages over directions to the hypervolume (Zhang & Golovin 2020, lemma 5): a front that is far in
every direction has a large one. With g* the best g of the observations,
    E[max(g − g*, 0)] = ∫_{g*}^∞ Π_j Φ(z_j(t)) dt,   z_j(t) = (μ_j − r_j − λ_j t)/s_j.
The integrand is log-concave and falls from 1: it is 1 up to a first node a, where all z_j ≥ 6, and
from there to where it has fallen by e^−18 Gauss–Legendre quadrature takes over, in logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx, log_ndtr

from fisherbo.gp.fisher import MetricRule, joint_metric, posterior_metric
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array

_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(20))
_NODES += 0.5
_CERTAIN = 6.0  # 1 − Φ(6) = 1e-9
_IMPOSSIBLE = -7.0  # log Φ(−7) = −27
_FALL = 18.0  # nats, beyond which the integrand is left out
_NEWTON_STEPS = 3
_LEAST = 1e-300
_LEAST_SHARE = 0.01  # of a direction, so that no objective is ignored


@dataclass(frozen=True)
class ScalarisedImprovement:
    """Log expected improvement of the distance from a reference point along a direction.

    Attributes:
        surrogates: Models of each objective, larger is better.
        reference: r, shape ``(m,)``.
        direction: λ, positive, shape ``(m,)``.
        best: g*, the distance to improve on.
        metric: Metric of the natural-gradient ascent, summed over the objectives.
    """

    surrogates: tuple[Surrogate, ...]
    reference: Array
    direction: Array
    best: float
    metric: MetricRule = posterior_metric

    def value(self, x: Array) -> Array:
        """Log expected improvement at points ``(b, d)``, shape ``(b,)``."""
        moments = [s.predict(x) for s in self.surrogates]
        mean = np.stack([mean for mean, _ in moments], 1) - self.reference
        sd = np.stack([sd for _, sd in moments], 1)
        return log_scalarised_improvement(mean, sd, self.direction, self.best)[0]

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        parts = [s.predict_with_gradient(x) for s in self.surrogates]
        mean = np.stack([p.mean for p in parts], 1) - self.reference
        sd = np.stack([p.sd for p in parts], 1)
        value, by_mean, by_sd = log_scalarised_improvement(mean, sd, self.direction, self.best)
        gradient = np.zeros_like(x)
        for j, p in enumerate(parts):
            gradient += p.gradient(by_mean[:, j], by_sd[:, j])
        pairs = zip(self.surrogates, parts, strict=True)
        metric = joint_metric([self.metric(s, x, at) for s, at in pairs])
        return LocalModel(value, gradient, *metric)


def improvement_along(
    surrogates: tuple[Surrogate, ...], values: Array, reference: Array, direction: Array
) -> ScalarisedImprovement:
    """The improvement on values ``(n, m)`` along a direction from the reference, both ``(m,)``."""
    best = float(((values - reference) / direction).min(1).max())
    return ScalarisedImprovement(surrogates, reference, direction, best)


def random_direction(reach: Array, rng: np.random.Generator) -> Array:
    """A direction, uniform on the positive part of the sphere in units of ``reach``, ``(m,)``."""
    drawn = np.abs(rng.standard_normal(len(reach)))
    return reach * np.maximum(drawn / math.sqrt(float(drawn @ drawn)), _LEAST_SHARE)


def log_scalarised_improvement(
    mean: Array, sd: Array, direction: Array, best: float
) -> tuple[Array, Array, Array]:
    """``log E[max(min_j f_j/λ_j − g*, 0)]`` and its derivatives in the moments.

    Args:
        mean: μ − r, shape ``(b, m)``.
        sd: s > 0, shape ``(b, m)``.
        direction: λ, shape ``(m,)``.
        best: g*.

    Returns:
        Arrays ``(b,)``, ``(b, m)``, ``(b, m)``, in nats and nats per unit of ``mean`` and ``sd``.
    """
    rate = direction / sd
    start = (mean - direction * best) / sd  # z at g*
    certain = np.maximum(((start - _CERTAIN) / rate).min(1), 0.0)
    width = _width(start - rate * certain[:, None], rate)
    t = certain[:, None] + width[:, None] * _NODES  # (b, q)
    z = start[:, None, :] - rate[:, None, :] * t[..., None]
    terms = log_ndtr(z).sum(2) + np.log(width[:, None] * _WEIGHTS)
    largest = terms.max(1)
    share = np.exp(terms - largest[:, None])
    falling = largest + np.log(share.sum(1))
    flat = np.log(np.where(certain > 0, certain, 1.0))
    value = np.where(certain > 0, np.logaddexp(falling, flat), falling)
    share = np.exp(terms - value[:, None])
    hazard = _hazard(z)
    by_mean = np.einsum("bq,bqm->bm", share, hazard) / sd
    by_sd = -np.einsum("bq,bqm->bm", share, hazard * z) / sd
    return value, by_mean, by_sd


def _width(start: Array, rate: Array) -> Array:
    """Distance over which ``Π_j Φ(start_j − rate_j t)`` falls by e^−18 or slightly more, ``(b,)``.

    By Newton steps from the right, where those of a convex function do not overshoot.
    """
    height = log_ndtr(start).sum(1)
    width = _FALL / np.maximum((rate * _hazard(start)).sum(1), _LEAST)
    certainly = ((start - _IMPOSSIBLE) / rate).min(1)
    width = np.where(height > -_FALL / 2, np.minimum(width, certainly), width)
    for _ in range(_NEWTON_STEPS):
        z = start - rate * width[:, None]
        excess = height - log_ndtr(z).sum(1) - _FALL
        slope = (rate * _hazard(z)).sum(1)
        width = width - np.maximum(excess, 0.0) / np.maximum(slope, _LEAST)
    return width


def _hazard(z: Array) -> Array:
    """``φ(z)/Φ(z)``, precise however small both are."""
    return math.sqrt(2 / math.pi) / erfcx(np.maximum(-math.sqrt(0.5) * z, -26.0))
