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
_FARTHEST = 1e8  # z² is still precise to rounding
_VANISHING = 37.0  # φ(z)/φ(0) = 5e-298 there: derivatives in s are 0 to any precision beyond


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
    near = np.minimum(np.maximum(z, -_FARTHEST), _LARGE)
    beyond = np.maximum(z / _LARGE, 1)  # h(z) = z and Φ(z) = 1 to rounding where it is above 1
    mills = _SQRT_HALF_PI * erfcx(-math.sqrt(0.5) * near)
    bracket = _one_plus_z_mills(near, mills)
    scaled = bracket * sd  # EI/φ
    value = np.log(scaled * beyond) - (0.5 * near**2 + _LOG_SQRT_2PI)
    by_sd = 1 / (scaled * beyond)  # ∂EI/∂s = φ; relative to φ(25) beyond
    by_mean = mills * by_sd  # ∂EI/∂μ = Φ
    if not (beyond > 1).any():
        return value, by_mean, by_sd
    return value, by_mean, by_sd * np.exp(-0.5 * (np.clip(z, _LARGE, _VANISHING) ** 2 - _LARGE**2))


def log_probability(mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """``log P[f ≥ 0] = log Φ(μ/s)`` and its derivatives in μ and s, accurate in the far tail.

    Args:
        mean: μ, shape ``(*b,)``.
        sd: s > 0, shape ``(*b,)``.
    """
    z = mean / sd
    by_z = math.sqrt(2 / math.pi) / erfcx(-math.sqrt(0.5) * np.minimum(z, _VANISHING))  # φ/Φ
    return log_ndtr(z), by_z / sd, -by_z * (z / sd)


def _one_plus_z_mills(z: Array, mills: Array) -> Array:
    """``1 + z m(z)``; its series z⁻² − 3 z⁻⁴ + 15 z⁻⁶ where the sum would cancel."""
    far = z < -200.0
    if not far.any():
        return 1 + z * mills
    u = 1 / np.where(far, z, -200.0) ** 2
    return np.where(far, u - 3 * u**2 + 15 * u**3, 1 + z * mills)
