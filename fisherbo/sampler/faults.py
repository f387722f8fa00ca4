"""Values that are too good to be true: a fault of the objective, as an infinitely good one is."""

from __future__ import annotations

import numpy as np

from fisherbo.space import Array, Mask

_LEAST_TRIALS = 8
_DECADES = 15.0  # float64 has as many digits: beyond, the other values are rounding errors of this
_TIMES = 5.0


def too_good(y: Array) -> Mask:
    """Which values ``(n,)``, larger is better, exceed all others by absurd orders of magnitude.

    A few values, a tenth at most, whose magnitudes exceed all others by more than 15 decades, and
    by more than 5 times the longest such gap between the others: a likelihood, say, whose values
    span hundreds of decades, has gaps of that size everywhere.
    """
    magnitude = np.abs(y)
    known = np.isfinite(y) & (magnitude > 0)
    none = np.zeros(len(y), dtype=bool)
    n = int(known.sum())
    if n < _LEAST_TRIALS or not _may_be(y[known], magnitude[known]):
        return none
    decades = np.sort(np.log10(magnitude[known]))
    gap = np.diff(decades)
    first = n - 1 - max(1, n // 10)
    i = first + int(gap[first:].argmax())
    if gap[i] < _DECADES + _TIMES * gap[:i].max(initial=0.0):
        return none
    return known & (y > 0) & (magnitude > 10 ** (decades[i] + 0.5 * gap[i]))


def _may_be(y: Array, magnitude: Array) -> bool:
    """Whether the best value exceeds the median magnitude as far as it must."""
    median = np.partition(magnitude, len(y) // 2)[len(y) // 2]
    return bool(y.max() > 0 and np.log10(y.max()) - np.log10(median) > _DECADES)
