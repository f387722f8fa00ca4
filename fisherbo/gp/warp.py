"""Output warps: monotone maps of observed values to values that a Gaussian process models well.

Symbols: y_(1) ≤ … ≤ y_(n) ordered values, g_i = y_(i+1) − y_(i) the gaps between them. Sums of
gaps replace values, so that neither an offset of 1e14 nor one value of 1e300 rounds others away.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from fisherbo.space import Array

_EXCESSIVE, _KEPT = 100.0, 10.0
"""A gap of more than `_EXCESSIVE` times the spread of the values on its near side is shortened to
`_KEPT` times: beyond it lie values of another kind, such as penalties, whose size says nothing."""

_HUGE = 1e307
_ROUNDED = 1e-9  # of the widest gap: rounding errors of a slope across less are not small


def warp(y: Array, noise: float = 0.0) -> Array:
    """Values for the model: finite, half-rank warped, standardised; larger is better, ``(n,)``.

    Args:
        y: Values, shape ``(n,)``.
        noise: Standard deviation of their noise, as far as it is known.
    """
    return standardize(half_rank(without_gaps(finite(y), noise)))


def finite(y: Array) -> Array:
    """Values with infinite ones of either sign at the worst finite one, ``(n,)``.

    An infinitely good value is taken for a fault of the objective.
    """
    known = np.isfinite(y)
    if known.all():
        return y
    worst = y[known].min() if known.any() else 0.0
    return np.where(known, y, worst)


def without_gaps(y: Array, noise: float = 0.0) -> Array:
    """Finite values mapped to [−1, 0], without excessive gaps between them, shape ``(n,)``.

    Gaps are examined downwards from the third best value, and upwards from the third quartile. A
    gap is excessive if it is many times longer than the distance already covered, from the best
    value or from the median; distances below the noise count as the noise. An excessive gap is
    shortened, and the gaps beyond it are scaled by the same factor, so that values larger than
    others by orders of magnitude cannot make those look equal. Without one the map is linear.
    """
    ordered = np.sort(y)
    smallest, largest = float(ordered[0]), float(ordered[-1])
    if smallest == largest:
        return np.zeros_like(y)
    halved = 0.25 if max(-smallest, largest) > _HUGE else 1.0  # no difference overflows
    gap, median = np.diff(ordered * halved), len(y) // 2
    least = noise * halved
    gap[median:] = _shrunk(gap[median:], 3 * len(y) // 4 - median, least)
    down = _shrunk(gap[::-1], 2, least)
    depth = np.concatenate([[0.0], np.cumsum(down / down.max())])  # precise near the best
    placed: Array = -(depth / depth[-1])[len(y) - 1 - np.searchsorted(ordered, y)]
    return placed


def _shrunk(gap: Array, exempt: int, least: float) -> Array:
    """Gaps ``(g,)``, none but the exempt first ones excessive relative to the sum before it."""
    while True:
        before = np.concatenate([[0.0], np.cumsum(gap[:-1])])
        long = (gap / _EXCESSIVE > np.maximum(before, least)) & (before > 0)
        long[:exempt] = False
        if not long.any():
            return gap
        i = int(long.argmax())
        kept = _KEPT * max(float(before[i]), least)
        gap = np.concatenate([gap[:i], [kept], gap[i + 1 :] * (kept / gap[i])])
        exempt = i + 1


def standardize(y: Array) -> Array:
    """Values with mean 0 and variance 1, shape ``(n,)``; zeros where all values are equal."""
    deviation = y - y.mean()
    spread = _root_mean_square(deviation)
    if spread <= 1e-12 * float(np.abs(y).max()):
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


def slope_at_the_top(y: Array, warped: Array) -> float:
    """Slope of the warp where values are better than the median; 0 where all are equal.

    The median of the slopes between neighbouring values, since an excessive gap is shortened.

    Args:
        y: Values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    slopes, _ = _slopes_at_the_top(y, warped)
    return float(np.median(slopes)) if len(slopes) else 0.0


def _slopes_at_the_top(y: Array, warped: Array) -> tuple[Array, Array]:
    """Slopes between neighbouring values above the median, and the distances of these values."""
    finite = np.isfinite(y)
    if not finite.any():
        return np.empty(0), np.empty(0)
    raw, place = np.unique(y[finite], return_index=True)
    values = warped[finite][place]
    top = raw >= np.median(y[finite])
    rise, run = np.diff(values[top]), np.diff(raw[top] * 0.25)  # no difference overflows
    if not len(run):
        rise, run = np.diff(values), np.diff(raw * 0.25)
    rise, run = rise[run > 0], run[run > 0]
    return 0.25 * (rise / run), run


def warped_noise(noise: Array, y: Array, warped: Array) -> Array | None:
    """Noise variances in squared units of the warped values, shape ``(n,)``; None if none is given.

    Above the median the warp is linear; that slope is used for all values.

    Args:
        noise: Noise variances in squared units of the values, 0 where none is given, ``(n,)``.
        y: Values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    if not noise.any():
        return None
    deviation = np.sqrt(noise) * slope_at_the_top(y, warped)
    variance: Array = np.square(np.minimum(deviation, 1e3))
    return variance


def interval_variance(interval: Array, y: Array, warped: Array) -> Array:
    """Variances of warped values for intervals of one standard deviation to each side, ``(n,)``.

    By the warp's own differences, which are interpolated between the values, continue above the
    best with the slope at the top and end at the worst.

    Args:
        interval: Low and high ends, larger is better, NaN where none is given, shape ``(n, 2)``.
        y: Values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.

    Returns:
        0 where no interval is given.
    """
    finite = np.isfinite(y)
    knots, place = np.unique(y[finite], return_index=True)
    told = np.logical_not(np.isnan(interval[:, 0]))
    ends = np.clip(interval[told], -_HUGE, _HUGE)
    inside = np.interp(ends, knots, warped[finite][place])
    above = np.maximum(ends / 4 - knots[-1] / 4, 0.0)  # no difference overflows
    reached = inside + 4 * np.minimum(above * slope_at_the_top(y, warped), 1e3)
    variance = np.zeros(len(y))
    variance[told] = np.square((reached[:, 1] - reached[:, 0]) / 2)
    return variance


def unwarp(values: Array, y: Array, warped: Array) -> Array:
    """Values of the objective for warped ``values``, by observed pairs ``(y, warped)``.

    Interpolated between the pairs, linear above the best and constant below the worst. Above the
    best the slope is that of the steepest part of the warp. This is the slope of all parts, unless
    gaps between good values are shortened, as where a search converges to ever smaller regrets:
    then what is still to be gained is of the size of the last gains, not of the first.
    """
    finite = np.isfinite(y)
    knots, place = np.unique(warped[finite], return_index=True)
    heights = y[finite][place]
    inside = np.interp(values, knots, heights)
    slopes, run = _slopes_at_the_top(y, warped)
    told = run > _ROUNDED * run.max(initial=0)
    steepness = float(slopes[told].max(initial=0))
    beyond = np.maximum(values - knots[-1], 0.0)
    return inside + (beyond / steepness if steepness > 0 else 0.0)


def _width_above(ordered: Array, median: float) -> float:
    """Root mean square distance of the better half from the median; of all values if that is 0."""
    deviation = ordered - median
    better = deviation[np.searchsorted(ordered, median) :]
    return _root_mean_square(better) or _root_mean_square(deviation)


def _root_mean_square(values: Array) -> float:
    largest = float(np.abs(values).max()) or 1.0  # no square under- or overflows
    scaled = values / largest
    return largest * math.sqrt(scaled @ scaled / len(scaled))


def _average_rank(y: Array, ordered: Array) -> Array:
    """Ranks of values among ordered ones, 0.5 for the smallest, equal ones sharing their mean."""
    return (np.searchsorted(ordered, y, "left") + np.searchsorted(ordered, y, "right")) / 2
