"""The optimum of a quadratic through the best points, where a search converges.

Near an optimum a smooth function is a quadratic, and least squares find its curvatures from little
more points than it has coefficients. A Gaussian process knows of them only by its lengthscales.
What the quadratic gains on BBOB is in experiments/results/tried.md.

Symbols: u coordinates of the k best points from the best one, in their standard deviations, turned
and scaled such that their covariance is the identity; v values, 0 at the best one, 1 at the median;
w_i ∝ log(k + 1) − log i weights by rank i; Φ rows (1, u_j, u_i u_j). Where there are fewer points
than that takes, the rows are (1, u_j, u_j²), and u is not turned.

    β = A⁻¹Φᵀ diag(w) v,   A = Φᵀ diag(w) Φ + ε I

The residuals left one out are e_i/(1 − w_i φ_iᵀA⁻¹φ_i). Where these predictions do not rank the
points nearly as their values do, there is no optimum to be had (lq-CMA-ES trusts its quadratic by
the same measure: Hansen 2019, GECCO). In turned coordinates A is well conditioned in a narrow
valley too, where without them its ridge ε drowns what is known of the curvature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fisherbo.errors import NumericalError
from fisherbo.geometry import lapack
from fisherbo.gp.fit import descend
from fisherbo.gp.likelihood import Likelihood
from fisherbo.gp.transfer import rank_correlation
from fisherbo.space import Array

_MOST_FULL = 24  # coordinates, with 325 coefficients; more have a diagonal quadratic
_POINTS = 1.5  # for each coefficient
_ENOUGH = 1.1  # observations for each coefficient of a full quadratic
_LEAST_CORRELATION = 0.8  # Kendall's τ of values and of predictions left one out
_BEYOND = 0.25  # of the width of the points, on either side
_RIDGE = 1e-8
_LEAST_VARIANCE = 1e-14  # along an axis of the points, of a mean of 1
_STEPS, _TOLERANCE = 50, 1e-15  # of the search for the optimum; values are of size 1


@dataclass(frozen=True)
class Quadratic:
    """``q(u) = c + gᵀu + ½ uᵀH u``.

    Attributes:
        gradient: g, shape ``(d,)``.
        hessian: H, shape ``(d, d)``.
        correlation: Kendall's τ of the values and of the predictions left one out.
    """

    gradient: Array
    hessian: Array
    correlation: float

    def __call__(self, u: Array) -> tuple[float, Array]:
        """``q(u) − c`` and its gradient at ``u`` of shape ``(d,)``."""
        curved = self.hessian @ u
        return float(self.gradient @ u + u @ curved / 2), self.gradient + curved

    def after(self, linear: Array) -> Quadratic:
        """The quadratic ``t ↦ q(linear t)``, for a matrix ``(d, d)``."""
        hessian = linear.T @ self.hessian @ linear
        return Quadratic(linear.T @ self.gradient, hessian, self.correlation)


def quadratic_optimum(x: Array, y: Array) -> Array | None:
    """Where a quadratic through the best points is largest, shape ``(d,)``.

    Within a box around these points. None if the quadratic does not predict them, there are too few
    that differ, or the place is known already.

    Args:
        x: Points of the unit cube, shape ``(n, d)``.
        y: Their values, finite, larger is better, shape ``(n,)``.
    """
    full = _is_full(*x.shape)
    chosen = np.argsort(-y, kind="stable")[: _count(*x.shape, full=full)]
    best, scale = x[chosen[0]], x[chosen].std(0)
    drop = y[chosen[0]] - y[chosen]
    typical = float(np.median(drop))
    if not (scale > 0).all() or not 0 < typical < math.inf:
        return None
    u = (x[chosen] - best) / scale
    whiten = _whitening(u) if full else np.eye(len(scale))
    found = fitted(u @ whiten.T, drop / typical, full=full)
    if found is None or not found.correlation >= _LEAST_CORRELATION:
        return None
    found = found.after(whiten)
    margin = _BEYOND * np.ptp(u, axis=0)
    low = np.maximum(u.min(0) - margin, -best / scale)
    high = np.minimum(u.max(0) + margin, (1 - best) / scale)
    point: Array = np.clip(best + _lowest(found, low, high) * scale, 0, 1)
    known = np.abs(x - point).max(1).min() < 1e-12
    return None if known else point


def fitted(u: Array, v: Array, *, full: bool) -> Quadratic | None:
    """The quadratic through points ``(k, d)``, best first; None if they do not determine it.

    Args:
        u: Coordinates.
        v: Values, smaller is better, shape ``(k,)``.
        full: Whether it has products of different coordinates.
    """
    (k, d), features = u.shape, _features(u, full=full)
    weight = math.log(k + 1) - np.log(np.arange(1, k + 1))
    weight /= weight.sum()
    normal = features.T @ (weight[:, None] * features)
    normal.flat[:: len(normal) + 1] += _RIDGE
    try:
        inverse = lapack.inverse(lapack.cholesky(normal))
    except NumericalError:
        return None
    beta = inverse @ (features.T @ (weight * v))
    leverage = weight * np.einsum("kp,kp->k", features @ inverse, features)
    left_out = v - (v - features @ beta) / np.maximum(1 - leverage, 1e-3)
    hessian = np.zeros((d, d))
    hessian[np.triu_indices(d) if full else np.diag_indices(d)] = beta[1 + d :]
    return Quadratic(beta[1 : 1 + d], hessian + hessian.T, rank_correlation(left_out, v))


def _whitening(u: Array) -> Array:
    """The matrix ``(d, d)`` that gives points ``(k, d)`` the identity as their covariance."""
    centred = u - u.mean(0)
    variance, axes = lapack.eigh(centred.T @ centred / len(u))
    return (axes / np.sqrt(np.maximum(variance, _LEAST_VARIANCE))).T


def _features(u: Array, *, full: bool) -> Array:
    i, j = np.triu_indices(u.shape[1])
    squares = u[:, i] * u[:, j] if full else u**2
    return np.concatenate([np.ones((len(u), 1)), u, squares], 1)


def _is_full(n: int, d: int) -> bool:
    return d <= _MOST_FULL and n >= _ENOUGH * (d + 1) * (d + 2) / 2


def _count(n: int, d: int, *, full: bool) -> int:
    """Points that the quadratic is fitted to, best first."""
    coefficients = (d + 1) * (d + 2) // 2 if full else 1 + 2 * d
    return min(n, max(math.ceil(_POINTS * coefficients), coefficients + 2))


def _lowest(quadratic: Quadratic, low: Array, high: Array) -> Array:
    """A local minimum in a box that contains the origin, where the search for it begins.

    By damped Newton steps; where the quadratic is not convex, in the metric |H|.
    """
    curvature, axes = lapack.eigh(quadratic.hessian)
    metric = (axes * np.abs(curvature)) @ axes.T
    metric.flat[:: len(metric) + 1] += _RIDGE

    def loss(u: Array) -> Likelihood:
        return Likelihood(*quadratic(u), metric)

    return descend(loss, np.zeros(len(low)), (low, high), _STEPS, _TOLERANCE)[0]
