"""Utilities of a candidate: pure functions of its posterior mean and standard deviation.

Symbols: z = (μ − best)/s; φ, Φ the normal density and distribution function; m(z) = Φ(z)/φ(z);
EI = s h(z) with h(z) = φ(z) + z Φ(z) = φ(z) (1 + z m(z)).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erfcx, log_ndtr

from fisherbo.space import Array

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF_PI = math.sqrt(math.pi / 2)
_LARGE = 25.0


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
    clipped = np.minimum(np.maximum(z, -1e8), _LARGE)  # beyond 25, h(z) = z to rounding
    mills = _SQRT_HALF_PI * erfcx(-math.sqrt(0.5) * clipped)
    bracket = _one_plus_z_mills(clipped, mills)
    scaled = bracket * sd  # EI/φ
    value = np.log(scaled * np.maximum(z / _LARGE, 1)) - (0.5 * clipped**2 + _LOG_SQRT_2PI)
    by_sd = 1 / scaled  # ∂EI/∂s = φ
    return value, mills * by_sd, by_sd  # ∂EI/∂μ = Φ


def log_probability(mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """``log P[f ≥ 0] = log Φ(μ/s)`` and its derivatives in μ and s, accurate in the far tail.

    Args:
        mean: μ, shape ``(*b,)``.
        sd: s > 0, shape ``(*b,)``.
    """
    z = mean / sd
    by_z = math.sqrt(2 / math.pi) / erfcx(-math.sqrt(0.5) * np.minimum(z, _LARGE))  # φ/Φ
    return log_ndtr(z), by_z / sd, -by_z * z / sd


def _one_plus_z_mills(z: Array, mills: Array) -> Array:
    """``1 + z m(z)``; its series z⁻² − 3 z⁻⁴ + 15 z⁻⁶ where the sum would cancel."""
    far = z < -200.0
    if not far.any():
        return 1 + z * mills
    u = 1 / np.where(far, z, -200.0) ** 2
    return np.where(far, u - 3 * u**2 + 15 * u**3, 1 + z * mills)
