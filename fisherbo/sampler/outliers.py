"""Values that are not measurements: extreme outliers, and penalties for trials that failed."""

from __future__ import annotations

import math

import numpy as np

from fisherbo.space import Array, Mask

_LEAST_TRIALS = 8
_DECADES = 15.0  # float64 has as many digits: beyond, the other values are rounding errors of this
_TIMES = 3.0
_MOST_GOOD = 0.1  # share of the trials
_HUGE = 1e15  # a density that leaps from 1e-200 to 1 has found its peak
_REPEATED = 3
_PENALTY_GAP = 3.0


def without_outliers(y: Array, *, penalties: bool) -> Array:
    """Values ``(n,)``, larger is better: +inf for implausibly good ones, −inf for penalties.

    Args:
        y: Values, NaN where there is none.
        penalties: Whether repeated worst values may be penalties. Not so for one of several
            objectives, which may be a count, and whose Pareto front may reach its worst value.
    """
    known = np.isfinite(y)
    if known.sum() < _LEAST_TRIALS:
        return y
    out_of_scale = _out_of_scale(y, known)
    bad = out_of_scale & (y < 0)
    if penalties:
        bad |= _penalty(y, known & ~bad)
    good = out_of_scale & (y > _HUGE)
    good &= good.sum() <= max(1, _MOST_GOOD * known.sum())
    if not (good.any() or bad.any()):
        return y
    return np.where(good, math.inf, np.where(bad, -math.inf, y))


def _out_of_scale(y: Array, known: Mask) -> Mask:
    """Which values exceed others by absurd orders of magnitude, shape ``(n,)``.

    The gap must be longer than 15 decades, and more than 3 times the longest gap in the larger half
    of the other values, of which there must be three. A likelihood, for example, may span hundreds
    of decades and have long gaps everywhere.
    """
    magnitude = np.abs(y)
    known = known & (magnitude > 0)
    none = np.zeros(len(y), dtype=bool)
    sizes = magnitude[known]
    if len(sizes) <= _REPEATED or sizes.max() / 10**_DECADES <= sizes.min():
        return none
    decades = np.sort(np.log10(sizes))
    gap = np.diff(decades)
    i = _REPEATED - 1 + int(gap[_REPEATED - 1 :].argmax())
    if gap[i] < _DECADES + _TIMES * gap[i // 2 : i].max(initial=0.0):
        return none
    return known & (magnitude > 10 ** (decades[i] + 0.5 * gap[i]))


def _penalty(y: Array, known: Mask) -> Mask:
    """Which values are the worst of all, one number that is repeated beyond a long gap, ``(n,)``.

    A continuous objective does not repeat a value. One that returns 1e6 again and again, separated
    from all others by more than 3 times their range, uses it to report failed trials.
    """
    worst = y[known].min()
    repeated = known & (y == worst)
    others = y[known & ~repeated]
    if repeated.sum() < _REPEATED or len(others) < _REPEATED:
        return np.zeros(len(y), dtype=bool)
    nearest, best = 0.25 * others.min(), 0.25 * others.max()  # no difference overflows
    penal = best > nearest and (nearest - 0.25 * worst) / _PENALTY_GAP > best - nearest
    return repeated & penal
