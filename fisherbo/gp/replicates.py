"""Repeated observations of a point as one: their mean, their number and their scatter.

Symbols: point i observed m_i times with mean ȳ_i; S = Σ_i Σ_k (y_ik − ȳ_i)². Under noise of
variance τ² the means, each with variance τ²/m_i, are sufficient for f; S carries information about
τ² only:
log p(y) = log p(ȳ) − ½ Σ_i [(m_i − 1) log(2πτ²) + log m_i] − S/(2τ²).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.space import Array, distinct


@dataclass(frozen=True)
class Replicates:
    """Values observed at distinct points.

    Attributes:
        x: Coordinates, shape ``(n, d)``.
        y: Mean values, shape ``(n,)``.
        count: Number of observations at each point, shape ``(n,)``.
        scatter: Sum of squared deviations from the means.
        known: Noise variance of each mean that is known, beside τ², shape ``(n,)`` or 0.
    """

    x: Array
    y: Array
    count: Array
    scatter: float
    known: Array | float = 0.0


def merged(x: Array, y: Array, known: Array | None = None) -> Replicates:
    """Observations at the distinct points of ``x`` ``(n, d)``, in order of their first time.

    Where noise variances ``known`` ``(n,)`` are given, every observation stands for itself.
    """
    if known is not None:
        return Replicates(x, y, np.ones(len(x)), 0.0, known)
    first, group = distinct(x)
    if len(first) == len(x):
        return Replicates(x, y, np.ones(len(x)), 0.0)
    count = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, weights=y) / count
    return Replicates(x[first], mean, count, float(((y - mean[group]) ** 2).sum()))
