"""Active sets: the observations that a model of bounded size is conditioned on."""

from __future__ import annotations

import numpy as np

from fisherbo.space import Array, Integers


def active_set(x: Array, y: Array, lengthscale: Array, size: int) -> Integers:
    """Indices, ascending, of at most ``size`` observations: all of them if they are that few.

    A quarter are the best, half the nearest to the best of all in units of lengthscale, where the
    search goes on; the others are evenly spaced in rank, so that the model knows the whole range.

    Args:
        x: Coordinates, shape ``(n, d)``.
        y: Values, larger is better, shape ``(n,)``.
        lengthscale: Kernel lengthscales, shape ``(d,)``.
        size: Most observations.
    """
    if len(y) <= size:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    distance = (((x - x[order[0]]) / lengthscale) ** 2).sum(1)
    distance[order[: size // 4]] = -1.0  # the best come first
    near = np.argsort(distance, kind="stable")[: size // 4 + size // 2]
    others = order[~np.isin(order, near)]
    spread = np.linspace(0, len(others) - 1, size - len(near)).round().astype(np.int64)
    return np.sort(np.concatenate([near, others[spread]]))
