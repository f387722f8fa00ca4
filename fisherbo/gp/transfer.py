"""A prior mean from models of earlier studies, weighted by how well they rank the new data.

Symbols: m_k mean of a Gaussian process of source k in the target's coordinates, of the parameters
that both have; τ_k Kendall's rank correlation of m_k and the target's values y at its n trials,
z_k = τ_k/sd(n) in units of its standard deviation by chance; g_k = clip((z_k − 1)/2, 0, 1).

    h(x) = g ρ Σ v_k (m_k(x) − m̄_k)/s_k,   v_k ∝ g_k τ_k,   g = max g_k

where m̄_k, s_k are mean and deviation at the target's points and ρ ∈ [0, 1] the coefficient of the
sum M in y under a Gaussian process with covariance K at the prior's mode, given ρ ~ N(0, 1):
ρ = MᵀK⁻¹y/(MᵀK⁻¹M + 1). The target's process models y − h. A source that ranks no better than
chance has g_k = 0 and no effect (ranks as weights: Feurer et al. 2018, RGPE); with all at 0 there
is no transfer. A product g ρ below 1/3 counts as 0, larger ones are stretched, and from 5 (d + 1)
to twice as many trials it fades to 0: by then the target's own data suffice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fisherbo.gp.hyper import prior_mode
from fisherbo.gp.posterior import (
    Posterior,
    Prediction,
    condition,
    with_fantasies,
)
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers

_LEAST_SPREAD = 0.3


@dataclass(frozen=True)
class SourceModel:
    """A source's posterior, on some of the target's coordinates.

    Attributes:
        posterior: Of the source's warped values.
        columns: The coordinates, shape ``(c,)``.
    """

    posterior: Posterior
    columns: Integers

    def mean(self, points: Array) -> Array:
        """``m_k`` at points ``(b, d)``, shape ``(b,)``."""
        return self.posterior.mean(points[:, self.columns])


@dataclass(frozen=True)
class TransferMean:
    """The prior mean h that the sources give.

    Attributes:
        models: The sources' models.
        weights: ``g ρ v_k/s_k``, shape ``(k,)``.
        offset: ``Σ weights · m̄_k``.
        trust: ``g ρ``, the share of the target's spread that h explains. The constant prior mean
            of ``f − h`` is the nearer to 0, the more that is.
    """

    models: tuple[SourceModel, ...]
    weights: Array
    offset: float
    trust: float

    def __call__(self, points: Array) -> Array:
        """``h`` at points ``(b, d)``, shape ``(b,)``."""
        pairs = zip(self.weights, self.models, strict=True)
        return sum((w * m.mean(points) for w, m in pairs), np.zeros(len(points))) - self.offset

    def gradient(self, points: Array) -> Array:
        """``∇h`` at points ``(b, d)``, shape ``(b, d)``."""
        total = np.zeros(points.shape)
        for weight, model in zip(self.weights, self.models, strict=True):
            part = model.posterior.predict_with_gradient(points[:, model.columns])
            total[:, model.columns] += weight * part.mean_gradient
        return total


@dataclass(frozen=True)
class TransferPosterior:
    """The posterior of f whose prior mean is h.

    Attributes:
        residual: Posterior of ``f − h``.
        prior_mean: h.
    """

    residual: Posterior
    prior_mean: TransferMean

    def with_fantasies(self, points: Array) -> TransferPosterior:
        """The model with ``points`` ``(m, d)`` observed at their means."""
        return TransferPosterior(with_fantasies(self.residual, points), self.prior_mean)

    @property
    def noise(self) -> float:
        """Noise variance τ² of the next observation."""
        return self.residual.noise

    @property
    def variance(self) -> float:
        """Prior variance of ``f − h``."""
        return self.residual.variance

    @property
    def gradient_axes(self) -> Array | None:
        """``A`` with ``Λ = A Aᵀ`` where the process is rotated, shape ``(d, d)``."""
        return self.residual.gradient_axes

    @property
    def gradient_variance(self) -> Array:
        """Diagonal ``Λ`` of the process, shape ``(d,)``."""
        return self.residual.gradient_variance

    def mean(self, points: Array) -> Array:
        """Mean of f at points ``(b, d)``, shape ``(b,)``."""
        return self.residual.mean(points) + self.prior_mean(points)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of f at points ``(b, d)``, each of shape ``(b,)``."""
        mean, sd = self.residual.predict(points)
        return mean + self.prior_mean(points), sd

    def predict_with_gradient(self, points: Array) -> Prediction:
        """Marginals and their gradients at points of shape ``(b, d)``."""
        p = self.residual.predict_with_gradient(points)
        slope = p.mean_gradient + self.prior_mean.gradient(points)
        return Prediction(p.mean + self.prior_mean(points), p.sd, slope, p.sd_gradient)


def transfer_mean(
    models: Sequence[SourceModel], x: Array, y: Array, choices: Integers | Kinds
) -> TransferMean | None:
    """The prior mean from models of sources, given observations of the target.

    None if no model ranks the observations better than chance.

    Args:
        models: The sources' models.
        x: Coordinates, shape ``(n, d)``.
        y: Warped values, shape ``(n,)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
    """
    if not models:
        return None
    means = np.array([model.mean(x) for model in models])
    tau = np.array([rank_correlation(mean, y) for mean in means])
    gates = np.clip((tau / _chance(len(y)) - 1) / 2, 0, 1)
    share = gates * tau
    if not share.sum() > 0:
        return None
    scale = share / share.sum() / np.maximum(means.std(1), _LEAST_SPREAD)
    centre = means.mean(1)
    combined = scale @ (means - centre[:, None])
    rho = _coefficient(combined, x, y, choices)
    fade = np.clip(2 - len(y) / (5 * (x.shape[1] + 1)), 0, 1)
    trust = float(np.clip(1.5 * float(gates.max()) * rho - 0.5, 0, 1) * fade)
    weights = trust * scale
    return (
        TransferMean(tuple(models), weights, float(weights @ centre), trust) if trust > 0 else None
    )


def _coefficient(feature: Array, x: Array, y: Array, choices: Integers | Kinds) -> float:
    """Mean in [0, 1] of the coefficient of a feature ``(n,)`` in ``y``, by generalised ridge."""
    prior = condition(x, feature, choices, prior_mode(x.shape[1]))
    along, strength = prior.alpha @ (y - y.mean()), prior.alpha @ feature
    return float(np.clip(along / (strength + prior.hyper.signal), 0, 1))


def rank_correlation(a: Array, b: Array) -> float:
    """Kendall's τ_b of two samples of shape ``(n,)``; 0 where one is constant."""
    signs = [np.sign(np.subtract.outer(v, v)) for v in (a, b)]
    norm = math.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return float((signs[0] * signs[1]).sum() / norm) if norm > 0 else 0.0


def _chance(n: int) -> float:
    """Standard deviation of Kendall's τ of independent samples (Kendall 1938)."""
    return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
