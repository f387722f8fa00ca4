"""Kernel hyperparameters by the maximum of their posterior density, with closed-form gradients.

Symbols: θ = (log ℓ_1 … log ℓ_d, log σ², log τ²); K = σ² ρ + τ² I; α = K⁻¹ y.
log p(y|θ) = −½ yᵀα − ½ log det K + const; its derivative is ½ tr((ααᵀ − K⁻¹) ∂K/∂θ_i)
(Rasmussen & Williams 2006, eq. 5.9). The mode depends on the measure: θ and its normal prior are
stated in log space. Pairs of points are held once, i < i'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import squareform

from fisherbo.geometry import lapack
from fisherbo.space import Array, Integers
from fisherbo.surrogate.kernel import CURVATURE, matern, squared_differences
from fisherbo.surrogate.replicates import Observations, merged

NOISE_FLOOR = 1e-6
_LENGTH_BOUNDS = (math.log(5e-3), math.log(1e3))
_SIGNAL_BOUNDS = (math.log(1e-3), math.log(1e3))
_NOISE_BOUNDS = (math.log(NOISE_FLOOR), math.log(10.0))


@dataclass(frozen=True)
class Hyper:
    """Kernel hyperparameters.

    Attributes:
        lengthscale: ℓ, shape ``(d,)``.
        signal: Signal variance σ².
        noise: Noise variance τ².
    """

    lengthscale: Array
    signal: float
    noise: float

    def to_vector(self) -> Array:
        """``θ = (log ℓ, log σ², log τ²)``, shape ``(d + 2,)``."""
        theta: Array = np.log(np.append(self.lengthscale, [self.signal, self.noise]))
        return theta

    @staticmethod
    def from_vector(theta: Array) -> Hyper:
        """Hyperparameters from ``θ``."""
        scales = np.exp(np.asarray(theta, dtype=np.float64))
        return Hyper(scales[:-2], float(scales[-2]), float(scales[-1]))


@dataclass(frozen=True)
class Prior:
    """Independent normal prior of θ.

    log ℓ_j ~ N(log(0.35 √d), 1), log σ² ~ N(0, 1), log τ² ~ N(−6, 1.5²).
    """

    mean: Array
    sd: Array

    @staticmethod
    def for_dimension(d: int) -> Prior:
        """Prior for ``d`` coordinates; lengthscales grow as typical distances do, like √d."""
        mean = np.append(np.full(d, math.log(0.35 * math.sqrt(d))), [0.0, -6.0])
        return Prior(mean, np.append(np.ones(d + 1), 1.5))

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Negative log density of ``θ`` up to a constant, and its gradient."""
        z = (theta - self.mean) / self.sd
        return 0.5 * float(z @ z), z / self.sd


def negative_log_marginal_likelihood(
    theta: Array, differences: Array, data: Observations
) -> tuple[float, Array]:
    """``−log p(y|θ)`` and its gradient, in O(n³ + d n²); the prior mean is 0.

    Args:
        theta: ``(log ℓ, log σ², log τ²)``, shape ``(d + 2,)``.
        differences: Squared differences of all pairs of points, shape ``(d, n(n−1)/2)``.
        data: Values at ``n`` distinct points.

    Raises:
        NumericalError: If the covariance is not positive definite even with jitter.
    """
    d, n, y = len(differences), len(data.y), data.y
    weights, signal, noise = np.exp(-2 * theta[:d]), math.exp(theta[d]), math.exp(theta[d + 1])
    rho, slope = matern(np.sqrt(5 * weights @ differences))
    gram = signal * squareform(rho, checks=False)
    gram.flat[:: n + 1] = signal + noise / data.count + data.known
    factor = lapack.cholesky(gram)
    alpha = lapack.solve(factor, y)
    value = 0.5 * (y @ alpha + lapack.log_determinant(factor) + n * math.log(2 * math.pi))
    residual = lapack.upper_inverse(factor) - np.outer(alpha, alpha)  # K⁻¹ − ααᵀ above the diagonal
    diagonal, pairs = residual.diagonal(), squareform(residual, checks=False)
    by_length = CURVATURE * signal * weights * (differences @ (slope * pairs))
    by_signal = signal * (rho @ pairs + 0.5 * diagonal.sum())
    by_noise = 0.5 * noise * (diagonal @ (1 / data.count))
    again, scatter = data.count.sum() - n, data.scatter / noise  # of repeated observations
    value += 0.5 * (again * math.log(2 * math.pi * noise) + np.log(data.count).sum() + scatter)
    by_noise += 0.5 * (again - scatter)
    return float(value), np.append(by_length, [by_signal, by_noise])


def fit(
    x: Array,
    y: Array,
    choices: Integers,
    starts: Iterable[Hyper] = (),
    *,
    known: Array | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> Hyper:
    """Hyperparameters of highest posterior density that L-BFGS-B reaches from any of the starts.

    Args:
        x: Coordinates, shape ``(n, d)``.
        y: Standardised values, shape ``(n,)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        starts: Starting points; default: the prior's mode.
        known: Noise variance of each observation beside τ², shape ``(n,)``; 0 if None.
        max_iterations: Limit for each start.
        tolerance: Relative gain of a step below which it ends.
    """
    d, data = x.shape[1], merged(x, y, known)
    differences = squared_differences(data.x, choices)
    prior = Prior.for_dimension(d)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient = negative_log_marginal_likelihood(theta, differences, data)
        penalty, slope = prior.penalty(theta)
        return value + penalty, gradient + slope

    bounds = [_LENGTH_BOUNDS] * d + [_SIGNAL_BOUNDS, _NOISE_BOUNDS]
    options = {"maxiter": max_iterations, "ftol": tolerance, "gtol": 1e-2}
    results = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        for start in [hyper.to_vector() for hyper in starts] or [prior.mean]
    ]
    return Hyper.from_vector(min(results, key=lambda result: float(result.fun)).x)


def prior_mode(d: int) -> Hyper:
    """The hyperparameters most probable before any data."""
    return Hyper.from_vector(Prior.for_dimension(d).mean)
