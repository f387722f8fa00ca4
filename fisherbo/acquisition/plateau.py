"""Plateaus: where equal values say that a step function is flat, another evaluation says nothing.

Values of a smooth function are never exactly equal at two points. Where an objective counts (an
accuracy, a depth, a tree's splits), it is constant on cells, and the best cell would be evaluated
again and again, since a smooth model expects gains just beside the best point.

Symbols: t prior distance of two points, √5 |δ/ℓ|. The reach of a point is its distance to the
farthest point of equal value that has no point of another value nearer. The cell is presumed to go
on as far again, but no farther than half-way to the nearest point of another value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.space import Array, Mask
from fisherbo.surrogate.kernel import Embedding, distance

_LEAST, _MOST = 0.02, 0.67  # radius, in units of t; correlations of .9999 and .92


@dataclass(frozen=True)
class Plateaus:
    """Balls in which an objective is presumed to be constant.

    Attributes:
        embedding: In which distances are measured.
        centres: Embedded points, shape ``(m, e)``.
        radius: Shape ``(m,)``.
    """

    embedding: Embedding
    centres: Array
    radius: Array

    def outside(self, x: Array, share: float = 1.0) -> Mask:
        """Which of the points ``(b, d)`` are in no ball of a share of its radius, ``(b,)``."""
        inside = distance(self.embedding(x), self.centres) <= share * self.radius
        return np.logical_not(inside.any(1))


def plateaus(x: Array, y: Array, embedding: Embedding) -> Plateaus | None:
    """The balls that observed values ``y`` ``(n,)`` at ``x`` ``(n, d)`` suggest; None if none."""
    embedded = embedding(x)
    t = distance(embedded, embedded)
    equal = y[:, None] == y
    other = np.where(equal, np.inf, t).min(1)
    beside = equal & (t < other[:, None])
    beside.flat[:: len(y) + 1] = False
    flat = beside.any(1)
    if not flat.any():
        return None
    reach = np.where(beside, t, 0.0).max(1)
    radius = np.clip(np.minimum(2 * reach, (reach + other) / 2), _LEAST, _MOST)
    return Plateaus(embedding, embedded[flat], radius[flat])
