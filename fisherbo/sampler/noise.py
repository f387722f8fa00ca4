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


def typical_noise(given: Array) -> float:
    """Median standard deviation of the noise that trials tell, 0 if none does."""
    told = given[given > 0]
    return math.sqrt(float(np.median(told))) if len(told) else 0.0


def known_noise(given: Array, y: Array, warped: Array) -> Array | None:
    """Noise variances in squared units of the warped values, shape ``(n,)``; None if none is given.

    Above the median the warp is linear; that slope is used for all values.

    Args:
        given: Noise variances in squared units of the values, shape ``(n,)``.
        y: Values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    if not given.any():
        return None
    in_warped_units: Array = np.square(np.minimum(np.sqrt(given) * slope(y, warped), 1e3))
    return in_warped_units


def slope(y: Array, warped: Array) -> float:
    """Slope of the warp where values are better than the median; 0 where all are equal.

    The median of the slopes between neighbouring values, since an excessive gap is shortened.
    """
    finite = np.isfinite(y)
    if not finite.any():
        return 0.0
    raw, place = np.unique(y[finite], return_index=True)
    values = warped[finite][place]
    top = raw >= np.median(y[finite])
    rise, run = np.diff(values[top]), np.diff(raw[top] * 0.25)  # no difference overflows
    if not len(run):
        rise, run = np.diff(values), np.diff(raw * 0.25)
    rise, run = rise[run > 0], run[run > 0]
    return 0.25 * float(np.median(rise / run)) if len(run) else 0.0


def _variance(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value > 0 else 0.0
