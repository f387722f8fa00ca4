"""Output warps: monotone maps of observed values to values that a Gaussian process models well."""

from __future__ import annotations

import math

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
    known = np.isfinite(y)
    if not known.all():
        finite = y[known]
        y = np.where(known, y, finite.min() if len(finite) else 0.0)
    return y / (float(np.abs(y).max(initial=0.0)) or 1.0)


def standardize(y: Array) -> Array:
    """Values with mean 0 and variance 1, shape ``(n,)``; zeros where all values are equal."""
    deviation = y - y.mean()
    spread = _root_mean_square(deviation)
    if spread <= 1e-12 * max(float(np.abs(y).max()), 1e-12):
        return np.zeros_like(y)
    return deviation / spread


def half_rank(y: Array) -> Array:
    """Values whose worse half follows a half-normal distribution of the better half's width.

    Values at or above the median stay; those below become normal quantiles of their ranks, so that
    one catastrophic value cannot flatten the others (Song et al. 2024, Vizier GP bandit, §3).
    Finite values, larger is better, shape ``(n,)``.
    """
    ordered = np.sort(y)
    median = (ordered[(len(y) - 1) // 2] + ordered[len(y) // 2]) / 2
    below = y < median
    worse = y[below]
    if not len(worse):
        return y
    warped = y.copy()
    share = _average_rank(worse, ordered) / (2 * len(worse))
    warped[below] = median + _width_above(ordered, median) * ndtri(share)
    return warped


def _width_above(ordered: Array, median: float) -> float:
    """Root mean square distance of the better half from the median; of all values if that is 0."""
    deviation = ordered - median
    better = deviation[np.searchsorted(ordered, median) :]
    return _root_mean_square(better) or _root_mean_square(deviation)


def _root_mean_square(values: Array) -> float:
    return math.sqrt(values @ values / len(values))


def _average_rank(y: Array, ordered: Array) -> Array:
    """Ranks of values among ordered ones, 0.5 for the smallest, equal ones sharing their mean."""
    return (np.searchsorted(ordered, y, "left") + np.searchsorted(ordered, y, "right")) / 2
