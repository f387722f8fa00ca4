"""Noise variances that an objective knows: of a cross-validated mean, of a Monte Carlo estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.space import Array

NOISE_VARIANCE = "fisherbo:noise_variance"
"""User attribute of a trial: the noise variance of its value, in squared units of the objective.

Noise that the model infers from the data comes on top, for what the variance leaves out. A
number that is no variance counts as not given.
"""


def given_noise(trials: Iterable[FrozenTrial]) -> Array:
    """Noise variances that trials tell, 0 where none is given, shape ``(n,)``."""
    given = [t.user_attrs.get(NOISE_VARIANCE) for t in trials]
    return np.array([0.0 if value is None else _variance(value) for value in given])


def known_noise(given: Array, y: Array, warped: Array) -> Array | None:
    """Noise variances in squared units of the warped values, shape ``(n,)``; None if none is given.

    Better than the median the warp is a straight line, and its slope there is used throughout.

    Args:
        given: Noise variances in squared units of the values, shape ``(n,)``.
        y: Values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    if not given.any():
        return None
    return np.minimum(given * slope(y, warped) ** 2, 1e6)


def slope(y: Array, warped: Array) -> float:
    """Slope of the warp where values are better than the median; 0 where all are equal."""
    finite = np.isfinite(y)
    if not finite.any():
        return 0.0
    raw, values = y[finite], warped[finite]
    top = raw >= np.median(raw)
    rise, run = np.ptp(values[top]), np.ptp(raw[top])
    if not run > 0:
        rise, run = np.ptp(values), np.ptp(raw)
    return float(rise / run) if run > 0 else 0.0


def _variance(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value > 0 else 0.0
