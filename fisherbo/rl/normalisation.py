"""Running means and variances, by which observations and rewards are brought to unit scale.

Symbols: n number of rows seen, m mean, v variance; R discounted return so far, R ← γ R + r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CLIP = 10.0
_TINY = 1e-8


@dataclass(frozen=True)
class Moments:
    """Mean and variance of all rows seen.

    Attributes:
        count: n.
        mean: m, shape ``(d,)``.
        variance: v, shape ``(d,)``.
    """

    count: float
    mean: Array
    variance: Array

    @classmethod
    def of_width(cls, width: int) -> Moments:
        """Nothing seen: m = 0, v = 1, with the weight of a ten-thousandth of a row."""
        return cls(1e-4, np.zeros(width), np.ones(width))

    def with_rows(self, rows: Array) -> Moments:
        """With further rows ``(k, d)`` (Chan, Golub & LeVeque 1983, eq. 1.5)."""
        total = self.count + len(rows)
        difference = rows.mean(0) - self.mean
        squares = self.variance * self.count + rows.var(0) * len(rows)
        between = difference**2 * self.count * len(rows) / total
        mean = self.mean + difference * len(rows) / total
        return Moments(total, mean, (squares + between) / total)

    def standardised(self, rows: Array) -> Array:
        """``(rows − m) / √v``, within ±10."""
        scaled: Array = (rows - self.mean) / np.sqrt(self.variance + _TINY)
        return scaled.clip(-_CLIP, _CLIP)

    def scaled(self, rows: Array) -> Array:
        """``rows / √v``, within ±10: a reward keeps its sign."""
        scaled: Array = rows / np.sqrt(self.variance + _TINY)
        return scaled.clip(-_CLIP, _CLIP)

    def state(self) -> list[Any]:
        """Plain numbers, for a file."""
        return [self.count, self.mean.tolist(), self.variance.tolist()]

    @classmethod
    def from_state(cls, state: list[Any]) -> Moments:
        """The moments of `state`, bit for bit."""
        return cls(state[0], np.array(state[1]), np.array(state[2]))
