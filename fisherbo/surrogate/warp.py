"""Output warps: monotone maps of observed values to values that a Gaussian process models well."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from fisherbo.space import Array


def warp(y: Array) -> Array:
    """Values for the model: bounded, half-rank warped, standardised; larger is better, ``(n,)``."""
    return standardize(half_rank(bounded(y)))


def bounded(y: Array) -> Array:
    """Values scaled into [−1, 1], infinite ones of either sign at the worst finite, ``(n,)``.

    An infinitely good value is a fault of the objective, not a success.
    """
    finite = y[np.isfinite(y)]
    if not len(finite):
        return np.zeros_like(y)
    largest = float(np.abs(finite).max())
    return np.where(np.isfinite(y), y, finite.min()) / (largest or 1.0)


def standardize(y: Array) -> Array:
    """Values with mean 0 and variance 1, shape ``(n,)``; zeros where all values are equal."""
    spread = y.std()
    if spread <= 1e-12 * max(float(np.abs(y).max()), 1e-12):
        return np.zeros_like(y)
    return (y - y.mean()) / spread


def half_rank(y: Array) -> Array:
    """Values whose worse half follows a half-normal distribution of the better half's width.

    Values at or above the median stay; those below become normal quantiles of their ranks, so that
    one catastrophic value cannot flatten the others (Song et al. 2024, Vizier GP bandit, §3).
    Finite values, larger is better, shape ``(n,)``.
    """
    median = np.median(y)
    below = y < median
    if not below.any():
        return y
    rank = _average_rank(y)[below]  # 0.5 … m − 0.5 among m values below the median
    width = _width_above(y, float(median))
    warped = y.copy()
    warped[below] = median + width * ndtri(rank / (2 * below.sum()))
    return warped


def _width_above(y: Array, median: float) -> float:
    """Root mean square distance of the better half from the median; of all values if that is 0."""
    width = float(np.sqrt(np.mean((y[y >= median] - median) ** 2)))
    return width or float(np.sqrt(np.mean((y - median) ** 2)))


def _average_rank(y: Array) -> Array:
    """Rank of each value, 0.5 for the smallest, equal values sharing the mean of their ranks."""
    ordered = np.sort(y)
    return (np.searchsorted(ordered, y, "left") + np.searchsorted(ordered, y, "right")) / 2
