"""The Gaussian-process posterior: condition on data, predict, differentiate. Frozen once made.

Symbols: k* covariance of a point with the data; μ = k*ᵀ α; s² = σ² − k*ᵀ K⁻¹ k*
(Rasmussen & Williams 2006, eq. 2.25–2.26); f is the noise-free function; ρ = k/σ².
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fisherbo.errors import NumericalError
from fisherbo.geometry import lapack
from fisherbo.gp.hyper import NOISE_FLOOR, Hyper
from fisherbo.gp.kernel import CURVATURE, Embedding, distance, matern
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers

_VARIANCE_FLOOR = 1e-10


@dataclass(frozen=True)
class Prediction:
    """Marginals of the posterior at ``b`` points with their gradients in the coordinates.

    Attributes:
        mean: μ, shape ``(b,)``.
        sd: Standard deviation s of the noise-free function, shape ``(b,)``.
        mean_gradient: ∇μ, shape ``(b, d)``; 0 along categorical coordinates.
        sd_gradient: ∇s, shape ``(b, d)``.
    """

    mean: Array
    sd: Array
    mean_gradient: Array
    sd_gradient: Array

    def gradient(self, by_mean: Array, by_sd: Array) -> Array:
        """Gradient ``(b, d)`` of a function whose derivatives in μ and s are ``(b,)`` each."""
        return by_mean[:, None] * self.mean_gradient + by_sd[:, None] * self.sd_gradient


@dataclass(frozen=True)
class Posterior:
    """A Gaussian process conditioned on ``n`` observations.

    Attributes:
        x: Observed coordinates, shape ``(n, d)``.
        y: Observed values, shape ``(n,)``.
        choices: Choices of each categorical coordinate, 0 for any other, shape ``(d,)``.
        hyper: Kernel hyperparameters.
        nugget: Noise variance of each observation, shape ``(n,)``.
        constant: Prior mean c of f.
        precision: ``σ² K⁻¹``, shape ``(n, n)``.
        alpha: ``σ² K⁻¹ (y − c)``, shape ``(n,)``.
    """

    x: Array
    y: Array
    choices: Integers | Kinds
    hyper: Hyper
    nugget: Array
    constant: float
    precision: Array
    alpha: Array

    @property
    def noise(self) -> float:
        """Noise variance τ² of the next observation."""
        return self.hyper.noise

    @property
    def variance(self) -> float:
        """Prior variance of f, σ²."""
        return self.hyper.signal

    @cached_property
    def gradient_variance(self) -> Array:
        """Diagonal of ``Λ``, the prior variance of ∂f/∂x_j, shape ``(d,)``."""
        along = CURVATURE * self.hyper.signal / self.hyper.lengthscale**2
        rotation = self.hyper.rotation
        return along if rotation is None else along @ rotation**2

    @cached_property
    def gradient_axes(self) -> Array | None:
        """``A`` with orthogonal columns and ``Λ = A Aᵀ``, ``(d, d)``; None if Λ is diagonal."""
        if self.hyper.rotation is None:
            return None
        scale = np.sqrt(CURVATURE * self.hyper.signal) / self.hyper.lengthscale
        axes: Array = self.hyper.rotation.T * scale
        return axes

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at points ``(b, d)``, each of shape ``(b,)``."""
        rho, _ = self._correlation(points)
        return rho @ self.alpha + self.constant, self._sd(rho, rho @ self.precision)

    def mean(self, points: Array) -> Array:
        """Mean at points ``(b, d)``, shape ``(b,)``, in O(b n d)."""
        return self._correlation(points)[0] @ self.alpha + self.constant

    def predict_with_gradient(self, points: Array) -> Prediction:
        """Marginals and gradients at points of shape ``(b, d)``, in O(b n (n + d))."""
        rho, slope = self._correlation(points)
        weights = rho @ self.precision
        sd = self._sd(rho, weights)
        gradients = self._gradients(points, slope, weights, sd)
        return Prediction(rho @ self.alpha + self.constant, sd, *gradients)

    def gradient_covariance(self, points: Array) -> Array:
        """``Cov(∇f | D)`` at points ``(b, d)``, shape ``(b, d, d)``: ``Λ − ∂k K⁻¹ ∂kᵀ``."""
        _, slope = self._correlation(points)
        difference = self._kinds.inputs(points)[:, :, None] - self._inputs.T  # (b, d, n)
        prior = self._gradient_scale
        prior = np.diag(prior) if prior.ndim == 1 else prior
        jacobian = -(prior @ difference) * slope[:, None]
        found = self.hyper.signal * (prior - jacobian @ self.precision @ jacobian.mT)
        half = self._kinds.pull(points, found.transpose(1, 0, 2))
        return self._kinds.pull(points, half.transpose(2, 1, 0)).transpose(1, 0, 2)

    def covariance(self, points: Array) -> Array:
        """``Cov(f | D)`` at points ``(m, d)``, shape ``(m, m)``, in O(m n (n + m))."""
        near = self.correlation_with(points)
        across, among = near[: len(self.x)], near[len(self.x) :]
        found: Array = self.hyper.signal * (among - across.T @ (self.precision @ across))
        return found

    def correlation_with(self, points: Array) -> Array:
        """Prior correlations ``ρ`` of f at the data and points ``(m, d)``, and at these.

        Shape ``(n + m, m)``.
        """
        embedded = self._embedding(points)
        return matern(distance(np.concatenate([self._embedded, embedded]), embedded))[0]

    def _correlation(self, points: Array) -> tuple[Array, Array]:
        return matern(distance(self._embedding(points), self._embedded))

    def _sd(self, rho: Array, weights: Array) -> Array:
        explained = np.einsum("bn,bn->b", rho, weights)
        return np.sqrt(self.hyper.signal * np.maximum(1 - explained, _VARIANCE_FLOOR))

    def _gradients(
        self, points: Array, slope: Array, weights: Array, sd: Array
    ) -> tuple[Array, Array]:
        """∇μ and ∇s, in one pass."""
        both = np.empty((2, *slope.shape))
        np.multiply(slope, self.alpha, out=both[0])
        np.multiply(slope, weights, out=both[1])
        by_mean, by_explained = self._pull(points, both)
        return by_mean, by_explained * (-self.hyper.signal / sd)[:, None]

    def _pull(self, points: Array, weights: Array) -> Array:
        """``Σ_i w_i ∂ρ_i/∂x`` from ``weights = slope_i w_i`` ``(*k, b, n)``, shape ``(*k, b, d)``.

        ∂ρ_i/∂x = −3 slope_i Rᵀ diag(ℓ)⁻² R (x − x_i).
        """
        moments = weights @ self._x_and_one
        difference = moments[..., :-1] - self._kinds.inputs(points) * moments[..., -1:]
        scale = self._gradient_scale
        by_input = difference * scale if scale.ndim == 1 else difference @ scale
        return self._kinds.pull(points, by_input)

    @cached_property
    def _kinds(self) -> Kinds:
        return Kinds.of(self.choices)

    @cached_property
    def _inputs(self) -> Array:
        return self._kinds.inputs(self.x)

    @cached_property
    def _embedding(self) -> Embedding:
        return Embedding.of(self.hyper.lengthscale, self.choices, self.hyper.rotation)

    @cached_property
    def _embedded(self) -> Array:
        return self._embedding(self.x)

    @cached_property
    def _x_and_one(self) -> Array:
        return np.append(self._inputs, np.ones((len(self.x), 1)), 1)

    @cached_property
    def _gradient_scale(self) -> Array:
        """The prior variance of ∇f by σ²: a diagonal ``(d,)``, or ``(d, d)`` where rotated."""
        along = np.where(self._kinds.choices > 0, 0.0, CURVATURE / self.hyper.lengthscale**2)
        rotation = self.hyper.rotation
        return along if rotation is None else (rotation.T * along) @ rotation


def condition(
    x: Array,
    y: Array,
    choices: Integers | Kinds,
    hyper: Hyper,
    *,
    nugget: Array | None = None,
    constant: float = 0.0,
) -> Posterior:
    """The posterior given observations ``y`` of shape ``(n,)`` at ``x`` of shape ``(n, d)``.

    Args:
        x: Coordinates.
        y: Values.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        hyper: Kernel hyperparameters.
        nugget: Noise variance of each observation, shape ``(n,)``; the hyperparameters' if None.
        constant: Prior mean of f.

    Raises:
        NumericalError: If the covariance is not positive definite even with jitter.
    """
    embedded = Embedding.of(hyper.lengthscale, choices, hyper.rotation)(x)
    rho, _ = matern(distance(embedded, embedded))
    nugget = np.full(len(x), hyper.noise) if nugget is None else nugget
    rho.flat[:: len(x) + 1] = 1 + nugget / hyper.signal
    precision = lapack.inverse(lapack.cholesky(rho))
    alpha = precision @ (y - constant)
    return Posterior(x, y, choices, hyper, nugget, constant, precision, alpha)


def extend(posterior: Posterior, x: Array, y: Array, nugget: Array) -> Posterior:
    """The posterior given further observations ``y`` ``(m,)`` at ``x`` ``(m, d)``, in O(n² m).

    By the inverse of a matrix in blocks: with R⁻¹ known, B the correlations of old and new points,
    V = [R⁻¹B; −I] and S = C − BᵀR⁻¹B, the new inverse is [[R⁻¹, 0], [0, 0]] + V S⁻¹ Vᵀ.

    Args:
        posterior: What was known.
        x: New coordinates.
        y: Their values.
        nugget: Their noise variances, shape ``(m,)``.
    """
    if not len(x):
        return posterior
    n, points = len(posterior.x), np.concatenate([posterior.x, x])
    near = posterior.correlation_with(x)
    across, among = near[:n], near[n:]
    among.flat[:: len(x) + 1] = 1 + nugget / posterior.hyper.signal
    weights = posterior.precision @ across
    try:
        inner = lapack.inverse(lapack.cholesky(among - across.T @ weights))
    except NumericalError:  # rounding left nothing of S: long lengthscales and hardly any noise
        return _anew(posterior, x, y, nugget)
    beside = np.concatenate([weights, -np.eye(len(x))])
    precision = beside @ inner @ beside.T
    precision[:n, :n] += posterior.precision
    whole = np.concatenate([posterior.y, y])
    return replace(
        posterior,
        x=points,
        y=whole,
        nugget=np.concatenate([posterior.nugget, nugget]),
        precision=precision,
        alpha=precision @ (whole - posterior.constant),
    )


def _anew(posterior: Posterior, x: Array, y: Array, nugget: Array) -> Posterior:
    """The same by one factorisation of all observations."""
    return condition(
        np.concatenate([posterior.x, x]),
        np.append(posterior.y, y),
        posterior.choices,
        posterior.hyper,
        nugget=np.append(posterior.nugget, nugget),
        constant=posterior.constant,
    )


def with_values(posterior: Posterior, y: Array) -> Posterior:
    """The posterior of other values ``y`` ``(n,)`` at the same points, in O(n²)."""
    return replace(posterior, y=y, alpha=posterior.precision @ (y - posterior.constant))


def with_fantasies(posterior: Posterior, points: Array) -> Posterior:
    """The posterior with ``points`` ``(m, d)`` observed at their means (kriging believer).

    Ginsbourger et al. (2010): the mean stays, the variance at the points collapses; it does so too
    under noise, since another evaluation there is never what a worker should do meanwhile.
    """
    if not len(points):
        return posterior
    believed, _ = posterior.predict(points)
    return extend(posterior, points, believed, np.full(len(points), NOISE_FLOOR))
