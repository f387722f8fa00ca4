"""Active sets: the observations that a model of bounded size is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.kernel import turned
from fisherbo.space import Array, Integers, Mask


def active_set(x: Array, y: Array, lengthscale: Array, size: int) -> Integers:
    """Indices, ascending, of at most ``size`` observations: all of them if they are that few.

    One quarter are the best observations. One half are those nearest to the best one in units of
    the lengthscales, where the search continues. The last quarter are evenly spaced in rank among
    the others, so that the model covers the whole range of values.

    Args:
        x: Coordinates, shape ``(n, d)``.
        y: Values, larger is better, shape ``(n,)``.
        lengthscale: Kernel lengthscales, shape ``(d,)``.
        size: Most observations.
    """
    if len(y) <= size:
        return np.arange(len(y))
    order, distance = _from_the_best(x, y, lengthscale)
    distance[order[: size // 4]] = -1.0  # the best come first
    near = np.argsort(distance, kind="stable")[: size // 4 + size // 2]
    others = order[~np.isin(order, near)]
    spread = np.linspace(0, len(others) - 1, size - len(near)).round().astype(np.int64)
    return np.sort(np.concatenate([near, others[spread]]))


@dataclass(frozen=True)
class Region:
    """A ball around the best observation, in units of lengthscale.

    Attributes:
        centre: Shape ``(d,)``.
        lengthscale: Shape ``(d,)``.
        radius: Its radius.
        rotation: Of the coordinates that have these lengthscales; None: the identity.
    """

    centre: Array
    lengthscale: Array
    radius: float
    rotation: Array | None = None

    def holds(self, points: Array) -> Mask:
        """Which of the points ``(b, d)`` are inside, shape ``(b,)``."""
        scaled = turned(points - self.centre, self.rotation) / self.lengthscale
        inside: Mask = np.vecdot(scaled, scaled) <= self.radius**2
        return inside


def region_known(
    x: Array, y: Array, lengthscale: Array, size: int, rotation: Array | None = None
) -> Region | None:
    """Where an active set of that size has all observations; None if it has them everywhere.

    Farther away a model of the active set is uncertain where the data are not, and would send the
    search to where it was before.

    Args:
        x: Coordinates, shape ``(n, d)``.
        y: Values, larger is better, shape ``(n,)``.
        lengthscale: Kernel lengthscales, shape ``(d,)``.
        size: Most observations of the active set.
        rotation: Of the coordinates that have these lengthscales; None: the identity.
    """
    if len(y) <= size:
        return None
    order, distance = _from_the_best(turned(x, rotation), y, lengthscale)
    others = distance[order[size // 4 :]]
    radius = float(np.sqrt(np.partition(others, size // 2 - 1)[size // 2 - 1]))
    return Region(x[order[0]], lengthscale, radius, rotation)


def _from_the_best(x: Array, y: Array, lengthscale: Array) -> tuple[Integers, Array]:
    """Indices from the best down, and squared distances from it in units of lengthscale."""
    order = np.argsort(-y, kind="stable")
    return order, (((x - x[order[0]]) / lengthscale) ** 2).sum(1)
