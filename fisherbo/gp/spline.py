"""Cubic splines with a polynomial trend: Gaussian processes without lengthscales.

The Matérn-3/2 kernel is σ²(1 − t²/2 + t³/3 − …) in t = √3 |δ|/ℓ. With a linear trend of unknown
coefficients, all terms before the third vanish from the posterior as ℓ → ∞, and what remains is the
covariance |δ|³. It has no scale: observations at distances of 1e-5 are told apart as those across
the whole space are, where a stationary model with a floor of its noise sees no difference.

Symbols: Φ_ij = |x_i − x_j|³; P (n, p) the trend's polynomials at the data, P⁺ its pseudo-inverse, Q
an orthonormal basis of what is orthogonal to its columns; v = (φ, π), Φ and P at another point.

    G = Q (QᵀΦQ + ν I)⁻¹ Qᵀ                            positive semidefinite
    A⁻¹ = [G, Hᵀ; H, −E]                               of A = [Φ, P; Pᵀ, 0]
    H = P⁺(I − ΦG),  E = P⁺(Φ − ΦGΦ)P⁺ᵀ
    μ = vᵀA⁻¹(y, 0),  s² = −σ² vᵀA⁻¹v
    y_i − μ_(−i)(x_i) = (Gy)_i/G_ii, of variance σ²/G_ii            (Dubrule 1983)

This is universal kriging with a generalised covariance (Matheron 1973), and the mean is the radial
basis function of Powell (1992).

References: Matheron, The intrinsic random functions and their applications, Adv. Appl. Prob. 5,
1973. Dubrule, Cross validation of kriging in a unique neighborhood, Math. Geology 15, 1983.
Barthelmé & Usevich, Spectral properties of kernel matrices in the flat limit, SIMAX 42, 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from fisherbo.errors import NumericalError
from fisherbo.geometry import lapack
from fisherbo.space import Array, Integers

_NOISE = 1e-10  # ν, of the mean diagonal of QᵀΦQ
_DETERMINED = 1e-9  # of the largest diagonal of R, the least
_VARIANCE_FLOOR = (
    1e-10  # added to s²/σ², so that rounding errors of its slope at the data are small
)


class Trend(Enum):
    """Polynomials that a trend is a combination of."""

    LINEAR = "linear"
    SEPARABLE = "separable"  # and squares
    QUADRATIC = "quadratic"  # and products

    def size(self, d: int) -> int:
        """Number of polynomials in ``d`` coordinates."""
        if self is Trend.LINEAR:
            return 1 + d
        return 1 + 2 * d if self is Trend.SEPARABLE else (d + 1) * (d + 2) // 2

    def __call__(self, x: Array) -> Array:
        """The polynomials at points ``(n, d)``, shape ``(n, p)``."""
        i, j = self._pairs(x.shape[1])
        return np.concatenate([np.ones((len(x), 1)), x, x[:, i] * x[:, j]], 1)

    def slopes(self, x: Array) -> Array:
        """Their gradients at one point ``(d,)``, shape ``(p, d)``."""
        (i, j), d = self._pairs(len(x)), len(x)
        found = np.zeros((self.size(d), d))
        found[1 : 1 + d] = np.eye(d)
        row = 1 + d + np.arange(len(i))
        found[row, i] += x[j]
        found[row, j] += x[i]
        return found

    def _pairs(self, d: int) -> tuple[Integers, Integers]:
        """Indices of the coordinates whose products are in the trend."""
        i, j = np.triu_indices(d)
        kept = {Trend.LINEAR: i < 0, Trend.SEPARABLE: i == j, Trend.QUADRATIC: i >= 0}[self]
        return i[kept], j[kept]


@dataclass(frozen=True)
class Splines:
    """Splines of ``m`` functions through the same ``n`` points, with the same trend.

    Attributes:
        x: Points, shape ``(n, d)``.
        trend: The trend.
        inverse: ``A⁻¹``, shape ``(n + p, n + p)``.
        coefficients: ``A⁻¹(y, 0)``, shape ``(n + p, m)``.
        left_out: Values minus predictions from all other points, shape ``(n, m)``.
        scale: σ of each function, shape ``(m,)``.
    """

    x: Array
    trend: Trend
    inverse: Array
    coefficients: Array
    left_out: Array
    scale: Array

    def mean(self, points: Array) -> Array:
        """Means at points ``(b, d)``, shape ``(b, m)``."""
        distance = np.sqrt(((points[:, None] - self.x) ** 2).sum(-1))
        return np.concatenate([distance**3, self.trend(points)], 1) @ self.coefficients

    def at(self, point: Array) -> tuple[Array, Array, float, Array]:
        """At a point ``(d,)``: means ``(m,)``, gradients ``(m, d)``, ``s/σ`` and its gradient."""
        difference = point - self.x
        distance = np.sqrt((difference**2).sum(1))
        v = np.append(distance**3, self.trend(point[None])[0])
        slope = np.concatenate([3 * distance[:, None] * difference, self.trend.slopes(point)])
        weights = self.inverse @ v
        deviation = math.sqrt(max(-float(v @ weights), 0.0) + _VARIANCE_FLOOR)
        means, gradients = v @ self.coefficients, self.coefficients.T @ slope
        return means, gradients, deviation, -(weights @ slope) / deviation


def splines(x: Array, y: Array, trend: Trend, weight: Array) -> Splines:
    """Splines of several functions through their values at distinct points.

    Args:
        x: Points, of spreads near 1, shape ``(n, d)``.
        y: Values, shape ``(n, m)``.
        trend: The trend.
        weight: Of each point's residual in σ, shape ``(n,)``.

    Raises:
        NumericalError: The points do not determine the trend.
    """
    n, polynomials = len(x), trend(x)
    p = polynomials.shape[1]
    if n <= p:
        raise NumericalError(f"{n} points do not determine a trend of {p} polynomials")
    size = np.maximum(np.sqrt((polynomials**2).mean(0)), np.finfo(float).tiny)
    basis, upper = lapack.full_qr(polynomials / size)
    pivots = np.abs(upper.diagonal())
    if not pivots.min() > _DETERMINED * pivots.max():
        raise NumericalError(f"the points do not determine a trend of {p} polynomials")
    phi = np.sqrt(((x[:, None] - x) ** 2).sum(-1)) ** 3
    beside = basis[:, p:]
    inner = beside.T @ phi @ beside
    inner.flat[:: n - p + 1] += _NOISE * inner.diagonal().mean()
    g = beside @ lapack.inverse(lapack.cholesky(inner)) @ beside.T
    fit = lapack.solve_upper(upper, basis[:, :p].T) / size[:, None]  # P⁺
    h = fit - fit @ phi @ g
    e = fit @ (phi - phi @ g @ phi) @ fit.T
    inverse = np.block([[g, h.T], [h, -e]])
    coefficients = inverse[:, :n] @ y
    own = np.maximum(g.diagonal(), np.finfo(float).tiny)[:, None]
    left_out = coefficients[:n] / own
    scale = np.sqrt(weight @ (left_out**2 * own) / weight.sum())
    return Splines(x, trend, inverse, coefficients, left_out, scale)
