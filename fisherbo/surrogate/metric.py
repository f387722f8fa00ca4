"""Fisher metrics of the posterior on the space of candidates.

Symbols: μ, s posterior mean and standard deviation of f at x; τ² noise variance.

A candidate x stands for the normal distribution N(μ(x), s(x)² + τ²) of its next observation, of
which f's part carries the information. Five metrics follow:

    pull-back   (∇μ∇μᵀ + 2∇s∇sᵀ)/(s² + τ²): of the normal family, rank at most two, and one where a
                utility of (μ, s) has its interior maximum, since ∇μ and ∇s are collinear there
    expected    (∇μ∇μᵀ + Cov(∇f | D))/τ²: expected information of y about x (Tosi et al. 2014),
                full rank; far from the data Cov(∇f | D) is the prior's Λ = c σ² diag(ℓ⁻²)
    damped      pull-back + λ Λ/(s² + τ²): full rank, inverted in O(d)
    information i(z) ∇z∇zᵀ + λ Λ/σ² with z = (μ − c)/s: a log utility log h(z) is the log-likelihood
                of what is hoped for, an improvement on c or a constraint that holds, i(z) =
                −(log h)''(z) ≥ 0 its observed information about z, pulled back to candidates. The
                ascent's metric: in the tails, where log h is −½z², i tends to 1 and the step to
                Newton's in z; unlike the damped pull-back it does not grow without bound near data
    score       g gᵀ + λ Λ/σ² with g the gradient of a log utility, its empirical information: where
                there is no one z. In the tails it allows a gain of 1 nat a step, no more
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


def information_parts(
    prediction: Prediction, z: Array, by_mean: Array, by_sd: Array, surrogate: Surrogate
) -> tuple[Array, Array]:
    """``U`` and ``D`` of the information metric, shapes ``(b, d, 1)`` and ``(d,)``.

    ``−(log h)'' = (∂μ s)² − ∂s s`` with the derivatives ∂μ, ∂s of ``log h(z)``, and of ``log s h(z)``.

    Args:
        prediction: Marginals at ``b`` points.
        z: ``(μ − c)/s``, shape ``(b,)``.
        by_mean: Derivative of the log utility in μ, shape ``(b,)``.
        by_sd: And in s.
        surrogate: Whose ``Λ/σ²`` damps.
    """
    sd = prediction.sd
    information = np.maximum((by_mean * sd) ** 2 - by_sd * sd, 0)
    along = prediction.mean_gradient - z[:, None] * prediction.sd_gradient  # s ∇z
    return (np.sqrt(information) / sd)[:, None, None] * along[..., None], relative(surrogate)


def relative(surrogate: Surrogate) -> Array:
    """``Λ/σ²``, shape ``(d,)``."""
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
