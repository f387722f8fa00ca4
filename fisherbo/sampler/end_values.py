"""Values of the objective for ends of learning curves, with their uncertainty.

A trial may return its last report, its best one, or another quantity that goes with them, such as
the score on other data. In the latter case the ends of complete trials are mapped to their values
by a monotone curve through both, provided that nine in ten pairs of trials are in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fisherbo.sampler.agreement import same_order
from fisherbo.sampler.curve_ends import CurveEnds
from fisherbo.space import Array, Integers

_LEAST_PAIRED = 3
_SAME_ORDER = 0.9
_FARTHEST = 1.0  # above the best complete trial, in standard deviations of ends
_HUGE = 1e300
_LEAST_SPAN = 1e-6


@dataclass(frozen=True)
class PredictedValues:
    """Values that curves predict, larger is better.

    Attributes:
        row: The table's rows, shape ``(p,)``.
        value: Shape ``(p,)``; none is better than the best complete trial's.
        interval: Values one standard deviation below and above, shape ``(p, 2)``.
    """

    row: Integers
    value: Array
    interval: Array


def predicted_values(ends: CurveEnds, value: Array, x: Array) -> PredictedValues | None:
    """Values for the ends that curves predict; None where ends do not tell values.

    Trials at the point of a complete one are left out.

    Args:
        ends: What curves say.
        value: Values of all trials of the table, larger is better, not finite if bad, ``(n,)``.
        x: Coordinates of all trials, shape ``(n, d)``.
    """
    reached, returned = ends.reached, value[ends.complete]
    known = np.isfinite(reached) & np.isfinite(returned)
    reached, returned = reached[known], np.clip(returned[known], -_HUGE, _HUGE)
    to_value = _relation(ends, reached, returned)
    if to_value is None:
        return None
    done = {tuple(point) for point in x[ends.complete].tolist()}
    new = np.array([tuple(point) not in done for point in x[ends.row].tolist()])
    end, sd = ends.seen.value[new], np.sqrt(ends.seen.variance[new])
    most = float(ends.scale(reached).max()) + _FARTHEST
    low, middle, high = (to_value(np.minimum(z, most)) for z in (end - sd, end, end + sd))
    best = float(returned.max())
    return PredictedValues(
        ends.row[new], np.minimum(middle, best), np.stack([low, np.maximum(high, low)], 1)
    )


def _relation(ends: CurveEnds, reached: Array, returned: Array) -> Callable[[Array], Array] | None:
    """From places on the scale of curves to values of the objective."""
    if not len(reached):
        return None
    if np.allclose(reached, returned, rtol=1e-9, atol=0):
        return ends.scale.values
    if len(reached) < _LEAST_PAIRED or same_order(reached, returned) < _SAME_ORDER:
        return None
    knots, group = np.unique(ends.scale(reached), return_inverse=True)
    mean = np.bincount(group, returned) / np.bincount(group)
    rising, falling = np.maximum.accumulate(mean), np.minimum.accumulate(mean[::-1])[::-1]
    heights = (rising + falling) / 2
    span = float(knots[-1] - knots[0])
    slope = float(heights[-1] - heights[0]) / span if span > _LEAST_SPAN else 0.0

    def to_value(z: Array) -> Array:
        below = np.minimum(z - knots[0], 0.0) + np.maximum(z - knots[-1], 0.0)
        found: Array = np.interp(z, knots, heights) + slope * below
        return found

    return to_value
