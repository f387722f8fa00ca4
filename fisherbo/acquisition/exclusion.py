"""Balls around known points that the search avoids, since evaluations there would tell little.

Plateaus. A smooth function hardly ever has exactly equal values at two points. Objectives that
count (an accuracy, a tree's depth) are constant on cells. A smooth model expects gains right next
to the best point, so without this rule the search would evaluate the best cell again and again.

Stalls. If an objective is rough on scales below the model's lengthscale, or only its last digits
can still improve, trials right next to the best point gain nothing, yet the model proposes more of
them. While the best value is old, every other trial therefore keeps a distance from all known
points that grows with the age of the best value. The remaining trials are unrestricted, since a
smooth objective may converge slowly too.

Batches. No point is chosen close to one whose evaluation has not finished.

Symbols: t prior distance of two points, √3 |δ/ℓ|. The reach of a point is its distance to the
farthest point of equal value that is nearer than every point of another value. The cell is assumed
to extend to twice the reach, but at most half-way between the reach and the nearest other value.
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
    """Balls around plateaus, and of radius ``least`` around all points; None if there are none.

    Args:
        x: Evaluated points, shape ``(n, d)``.
        y: Their values, shape ``(n,)``.
        embedding: In which distances are measured.
        least: Least radius around every point.
        pending: Points under evaluation, which always get a small ball, shape ``(m, d)``.
        plateaus: Whether equal values are taken for plateaus.
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
    """Distance over which each value is presumed constant; 0 without evidence, shape ``(n,)``.

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
    """Radius around every point when the best value is ``age`` trials old; 0 every other trial."""
    late = age - _PATIENCE
    if late < 0 or late % 2:
        return 0.0
    return min(_LEAST * _GROWTH ** min(late, 50), _MOST)
