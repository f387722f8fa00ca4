"""Fisher metrics of the posterior on the space of candidates.

Symbols: μ, s posterior mean and standard deviation of f at x; τ² noise variance.

A candidate x stands for the normal distribution N(μ(x), s(x)² + τ²) of its next observation, of
which f's part carries the information. Four metrics follow:

    pull-back   (∇μ∇μᵀ + 2∇s∇sᵀ)/(s² + τ²): of the normal family, rank at most two, and one where a
                utility of (μ, s) has its interior maximum, since ∇μ and ∇s are collinear there
    expected    (∇μ∇μᵀ + Cov(∇f | D))/τ²: expected information of y about x (Tosi et al. 2014),
                full rank; far from the data Cov(∇f | D) is the prior's Λ = c σ² diag(ℓ⁻²)
    damped      pull-back + λ Λ/(s² + τ²): full rank, inverted in O(d)
    score       g gᵀ + λ Λ/σ² with g = ∇log EI: the expected improvement as the density of the best
                point has the score g, whose outer product is its empirical Fisher information;
                where EI is locally linear it is minus the Hessian of log EI. The ascent's metric:
                unlike the damped pull-back it does not grow without bound near the data
"""

from __future__ import annotations

import math

import numpy as np

from fisherbo.space import Array
from fisherbo.surrogate.posterior import Posterior, Prediction
from fisherbo.surrogate.protocol import Surrogate


def damped_parts(prediction: Prediction, surrogate: Surrogate) -> tuple[Array, Array]:
    """``U`` and ``D`` of the metric ``U Uᵀ + λ diag(D)``, shapes ``(b, d, 2)`` and ``(b, d)``.

    ``U Uᵀ`` is the pull-back and ``diag(D) = Λ/(s² + τ²)``.
    """
    variance = prediction.sd**2 + surrogate.noise
    rows = (prediction.mean_gradient, math.sqrt(2) * prediction.sd_gradient)
    factors = np.stack(rows, -1) / np.sqrt(variance)[:, None, None]
    return factors, surrogate.gradient_variance / variance[:, None]


def score_damping(surrogate: Surrogate) -> Array:
    """``Λ/σ²``, by which the score metric is damped, shape ``(d,)``."""
    return surrogate.gradient_variance / surrogate.variance


def pull_back_metric(surrogate: Surrogate, points: Array) -> Array:
    """The normal family's Fisher metric at points ``(b, d)``, shape ``(b, d, d)``, rank ≤ 2."""
    factors, _ = damped_parts(surrogate.predict_with_gradient(points), surrogate)
    return factors @ factors.mT


def damped_metric(surrogate: Surrogate, points: Array, damping: float) -> Array:
    """The pull-back plus ``damping · Λ/(s² + τ²)`` at points ``(b, d)``, shape ``(b, d, d)``."""
    factors, diagonal = damped_parts(surrogate.predict_with_gradient(points), surrogate)
    return factors @ factors.mT + damping * diagonal[:, None] * np.eye(points.shape[1])


def expected_metric(posterior: Posterior, points: Array) -> Array:
    """``(∇μ∇μᵀ + Cov(∇f | D))/τ²`` at points ``(b, d)``, shape ``(b, d, d)``, full rank.

    Its block of categorical coordinates is zero: f has no gradient along them.
    """
    gradient = posterior.predict_with_gradient(points).mean_gradient
    outer = gradient[:, :, None] * gradient[:, None, :]
    return (outer + posterior.gradient_covariance(points)) / posterior.hyper.noise
