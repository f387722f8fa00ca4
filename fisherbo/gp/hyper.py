"""Kernel hyperparameters θ = (log ℓ_1 … log ℓ_d, log σ², log τ²) and their prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fisherbo.space import Array

NOISE_FLOOR = 1e-6
"""Least noise variance, in units of standardised values: it keeps covariances well conditioned."""


@dataclass(frozen=True)
class Hyper:
    """Kernel hyperparameters.

    Attributes:
        lengthscale: ℓ, shape ``(d,)``.
        signal: Signal variance σ².
        noise: Noise variance τ².
        rotation: R, orthogonal, shape ``(d, d)``, where the lengthscales are those of the
            coordinates ``R x``; None where they are those of ``x``.
    """

    lengthscale: Array
    signal: float
    noise: float
    rotation: Array | None = None

    def to_vector(self) -> Array:
        """``θ = (log ℓ, log σ², log τ²)``, shape ``(d + 2,)``."""
        theta: Array = np.log(np.append(self.lengthscale, [self.signal, self.noise]))
        return theta

    @staticmethod
    def from_vector(theta: Array, rotation: Array | None = None) -> Hyper:
        """Hyperparameters from ``θ`` and ``R``."""
        scales = np.exp(np.asarray(theta, dtype=np.float64))
        return Hyper(scales[:-2], float(scales[-2]), float(scales[-1]), rotation)


@dataclass(frozen=True)
class Prior:
    """Independent normal prior of θ.

    log ℓ_j ~ N(log(0.35 √d), 1), log σ² ~ N(0, 1), log τ² ~ N(−6, 1.5²).

    Attributes:
        mean: Shape ``(d + 2,)``.
        sd: Standard deviations, shape ``(d + 2,)``.
    """

    mean: Array
    sd: Array

    @staticmethod
    def for_dimension(d: int) -> Prior:
        """Prior for ``d`` coordinates; lengthscales grow as typical distances do, like √d."""
        mean = np.append(np.full(d, math.log(0.35 * math.sqrt(d))), [0.0, -6.0])
        return Prior(mean, np.append(np.ones(d + 1), 1.5))


def prior_mode(d: int) -> Hyper:
    """The hyperparameters most probable before any data."""
    return Hyper.from_vector(Prior.for_dimension(d).mean)
