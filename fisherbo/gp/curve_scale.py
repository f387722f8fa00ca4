"""The scale on which learning curves are modelled: one map for all steps, with its inverse.

Symbols: y values, larger is better; r the median of the ends of curves; w the root mean square
distance from r of the ends that are better, or a quarter of the typical distance of r from where
curves start, if that is more: where all trainings failed alike, their differences say nothing.

The scale is sign(y − r) log(1 + |y − r|/w): linear about r, logarithmic beyond w on both sides,
with a floor. Ends of trainings are many equal ones, where nothing was learned, with a long tail of
good ones and another of diverged ones; neither tail is normal. The half-rank warp of the sampler's
values is not used since it is known at ends alone, and makes much of differences between equally
bad ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.warp import finite
from fisherbo.space import Array

_FARTHEST = 1e12  # distance from r, in units of w
_PROGRESS = 0.25
_LEAST_SPREAD = 0.3  # of ends, in units of w
_FLOOR = -3.0  # log distance of the worst values, in units of w: about 20 w below r
_HUGE = 1e300


@dataclass(frozen=True)
class CurveScale:
    """A monotone map of values to a scale on which ends of curves have mean 0 and variance 1.

    Where ends hardly differ in units of w, their variance is less.

    Attributes:
        reference: r.
        width: w > 0.
        centre: Mean of the ends before they are standardised.
        spread: Their standard deviation, > 0.
    """

    reference: float
    width: float
    centre: float = 0.0
    spread: float = 1.0

    @staticmethod
    def of(ends: Array, starts: Array) -> CurveScale:
        """The scale of curves; values that are not finite count as the worst.

        Args:
            ends: Of the curves, shape ``(n,)``, one at least.
            starts: The first values of the curves, shape ``(n,)``.
        """
        values = np.clip(finite(ends), -_HUGE, _HUGE)
        reference = float(np.median(values))
        progress = np.abs(np.clip(starts[np.isfinite(starts)], -_HUGE, _HUGE) - reference)
        width = max(
            _root_mean_square((values - reference)[values >= reference]),
            _PROGRESS * float(np.median(progress)) if len(progress) else 0.0,
        )
        width = width or _root_mean_square(values - reference) or 1.0
        bare = CurveScale(reference, width)(ends)
        spread = max(float(bare.std()), _LEAST_SPREAD)
        return CurveScale(reference, width, float(bare.mean()), spread)

    def __call__(self, y: Array) -> Array:
        """Values on the scale, finite, the shape of ``y``; not finite ones are at the floor."""
        y = np.where(np.isfinite(y), np.clip(y, -_HUGE, _HUGE), -_HUGE)
        limit = _FARTHEST * self.width
        distance = np.clip(y - self.reference, -limit, limit) / self.width
        raw = np.maximum(np.sign(distance) * np.log1p(np.abs(distance)), _FLOOR)
        return (raw - self.centre) / self.spread

    def values(self, z: Array) -> Array:
        """Values for places on the scale; places below the floor count as at it."""
        raw = np.maximum(z * self.spread + self.centre, _FLOOR)
        distance = np.sign(raw) * np.expm1(np.abs(raw))
        return self.reference + self.width * distance


def _root_mean_square(deviation: Array) -> float:
    largest = float(np.abs(deviation).max(initial=0.0))  # no square under- or overflows
    return largest * float(np.sqrt(np.mean((deviation / largest) ** 2))) if largest > 0 else 0.0
