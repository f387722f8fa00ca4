"""Balls around evaluated points that a search avoids, since another evaluation there says little.

Plateaus. Values of a smooth function are never exactly equal at two points. Where an objective
counts (an accuracy, a depth, a tree's splits), it is constant on cells, and the best cell would be
evaluated again and again, since a smooth model expects gains just beside the best point.

Stalls. Where an objective is rough below the model's lengthscale, or only its last digits can still
be gained, trials just beside the best point bring nothing, and the model would propose more of
them. While the best value is old, every other trial avoids all points by a radius that grows with
the best value's age; the others are unrestricted, since a smooth objective may converge slowly too.

Batches. The value of a point under evaluation is not known yet: no other is chosen close to it.

Symbols: t prior distance of two points, √3 |δ/ℓ|. The reach of a point is its distance to the
farthest point of equal value that has no point of another value nearer. The cell is presumed to go
on as far again, but no farther than half-way to the nearest point of another value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.kernel import Embedding, distance
from fisherbo.space import Array, Mask

_LEAST, _MOST = 0.015, 0.52  # radius, in units of t; correlations of .9999 and .90
_PATIENCE = 3  # trials since the best value, from which on a search is stalled
_GROWTH = 1.5  # of the radius, with each trial


@dataclass(frozen=True)
class ExclusionZones:
    """Balls of the prior's distance.

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
        return np.all(distance(self.embedding(x), self.centres) > share * self.radius, axis=1)


def exclusion_zones(
    x: Array,
    y: Array,
    embedding: Embedding,
    least: float = 0.0,
    pending: Array | None = None,
    *,
    plateaus: bool = True,
) -> ExclusionZones | None:
    """Balls of presumed plateaus, and of a radius ``least`` around all points; None if none.

    Args:
        x: Evaluated points, shape ``(n, d)``.
        y: Their values, shape ``(n,)``.
        embedding: In which distances are measured.
        least: Radius around every point.
        pending: Points under evaluation, which have small balls at least, shape ``(m, d)``.
        plateaus: Whether plateaus are presumed at all.
    """
    embedded = embedding(x)
    radius = np.full(len(y), least)
    if plateaus:
        radius = np.maximum(plateau_radius(embedded, y), least)
    if pending is not None:
        embedded = np.concatenate([embedded, embedding(pending)])
        radius = np.append(radius, np.full(len(pending), max(least, _LEAST)))
    kept = radius > 0
    return ExclusionZones(embedding, embedded[kept], radius[kept]) if kept.any() else None


def plateau_radius(embedded: Array, y: Array) -> Array:
    """How far each point's value is presumed constant; 0 where nothing says so, shape ``(n,)``.

    Args:
        embedded: Vectors of the points, shape ``(n, e)``.
        y: Their values, shape ``(n,)``.
    """
    if len(np.unique(y)) == len(y):
        return np.zeros(len(y))
    t = distance(embedded, embedded)
    equal = y[:, None] == y
    other = np.where(equal, np.inf, t).min(1)
    beside = equal & (t < other[:, None])
    beside.flat[:: len(y) + 1] = False
    reach = np.where(beside, t, 0.0).max(1)
    radius = np.clip(np.minimum(2 * reach, (reach + other) / 2), _LEAST, _MOST)
    return np.where(beside.any(1), radius, 0.0)


def stall_radius(age: int) -> float:
    """Radius around every point, where the best value has so many trials after it."""
    late = age - _PATIENCE
    if late < 0 or late % 2:
        return 0.0
    return min(_LEAST * _GROWTH ** min(late, 50), _MOST)
