"""Noise variances that an objective knows: of a cross-validated mean, of a Monte Carlo estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.space import Array

NOISE_VARIANCE = "fisherbo:noise_variance"
"""User attribute of a trial: the noise variance of its value, in squared units of the objective.

Noise that the model infers from the data comes on top, for what the variance leaves out. A
number that is no variance counts as not given.
"""


def known_noise(trials: Sequence[FrozenTrial], y: Array, warped: Array) -> Array | None:
    """Noise variances in squared units of the warped values, shape ``(n,)``; None if none is given.

    Better than the median the warp is a straight line, and its slope there is used throughout.

    Args:
        trials: Trials that were observed.
        y: Their values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    given = [_variance(t.user_attrs.get(NOISE_VARIANCE)) for t in trials]
    if not any(given):
        return None
    return np.minimum(np.array(given) * slope(y, warped) ** 2, 1e6)


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
