"""The scale on which learning curves are modelled: one map for all steps, with its inverse.

Symbols: y values, larger is better; r the median of the ends of curves, w the root mean square
distance from r of the ends that are better. The scale is sign(y − r) log(1 + |y − r|/w): linear
about r, logarithmic beyond w on both sides, with a floor. Ends of trainings are many equal ones,
where nothing was learned, with a long tail of good ones and another of diverged ones, and neither
tail is normal. The half-rank warp of the sampler's values is not used since it is known at ends
alone, and makes much of differences between equally bad ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.warp import finite
from fisherbo.space import Array

_FARTHEST = 1e12  # distance from r, in units of w
_FLOOR = -3.0  # log distance of the worst values, in units of w: about 20 w below r
_HUGE = 1e300


@dataclass(frozen=True)
class CurveScale:
    """A monotone map of values to a scale on which ends of curves have mean 0 and variance 1.

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
    def of(ends: Array, reports: Array) -> CurveScale:
        """The scale of curves; values that are not finite count as the worst.

        Args:
            ends: Of the curves, shape ``(n,)``, one at least.
            reports: All values of the curves, which give w where all ends are equal, ``(r,)``.
        """
        values = np.clip(finite(ends), -_HUGE, _HUGE)
        reference = float(np.median(values))
        others = np.clip(reports[np.isfinite(reports)], -_HUGE, _HUGE)
        width = _width(values - reference) or _width(others - reference) or 1.0
        bare = CurveScale(reference, width)(ends)
        spread = float(bare.std())
        return CurveScale(reference, width, float(bare.mean()), spread if spread > 1e-9 else 1.0)

    def __call__(self, y: Array) -> Array:
        """Values on the scale, finite, the shape of ``y``; not finite ones are at the floor."""
        y = np.where(np.isfinite(y), np.clip(y, -_HUGE, _HUGE), -_HUGE)
        limit = _FARTHEST * self.width
        distance = np.clip(y - self.reference, -limit, limit) / self.width
        raw = np.maximum(np.sign(distance) * np.log1p(np.abs(distance)), _FLOOR)
        return (raw - self.centre) / self.spread

    def inverse(self, z: Array) -> Array:
        """Values for places on the scale; places below the floor count as at it."""
        raw = np.maximum(z * self.spread + self.centre, _FLOOR)
        distance = np.sign(raw) * np.expm1(np.abs(raw))
        return self.reference + self.width * distance


def _width(deviation: Array) -> float:
    """Root mean square of the better half of deviations, or of all of them if that is 0."""
    for part in (deviation[deviation >= 0], deviation):
        largest = float(np.abs(part).max(initial=0.0))
        if largest > 0:
            return largest * float(np.sqrt(np.mean((part / largest) ** 2)))
    return 0.0
