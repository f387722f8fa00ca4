"""The scale on which learning curves are modelled: one map for all steps, with its inverse.

Symbols: y values, larger is better; r the median of the ends of curves, w the root mean square
distance from r of the ends that are better. Better than r the scale is linear, worse it is
logarithmic, to a floor: what matters is where the good curves end, and a diverged loss of 1e30 says
no more than one of 10. The half-rank warp of the sampler's values has no values at steps before the
last, and makes much of differences between equally bad ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.warp import finite
from fisherbo.space import Array

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
    def of(ends: Array) -> CurveScale:
        """The scale that ends of curves ``(n,)`` give; not finite ones count as the worst."""
        values = np.clip(finite(ends), -_HUGE, _HUGE)
        reference = float(np.median(values)) if len(values) else 0.0
        width = _width(values - reference)
        bare = CurveScale(reference, width)(ends)
        spread = float(bare.std()) if len(bare) else 0.0
        centre = float(bare.mean()) if len(bare) else 0.0
        return CurveScale(reference, width, centre, spread if spread > 1e-9 else 1.0)

    def __call__(self, y: Array) -> Array:
        """Values on the scale, finite, the shape of ``y``; not finite ones are at the floor."""
        y = np.where(np.isfinite(y), np.clip(y, -_HUGE, _HUGE), -_HUGE)
        distance = (0.5 * y - 0.5 * self.reference) / self.width * 2
        raw = np.maximum(np.sign(distance) * np.log1p(np.abs(distance)), _FLOOR)
        return (raw - self.centre) / self.spread

    def inverse(self, z: Array) -> Array:
        """Values for places on the scale; places below the floor count as at it."""
        raw = np.maximum(z * self.spread + self.centre, _FLOOR)
        distance = np.sign(raw) * np.expm1(np.abs(raw))
        return self.reference + self.width * distance


def _width(deviation: Array) -> float:
    """Root mean square of the better half of deviations from their median, > 0."""
    for part in (deviation[deviation >= 0], deviation):
        largest = float(np.abs(part).max()) if len(part) else 0.0
        if largest > 0:
            return largest * float(np.sqrt(np.mean((part / largest) ** 2)))
    return 1.0
