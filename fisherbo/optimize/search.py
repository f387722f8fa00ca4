"""Natural-gradient search of a mixed space by search distributions, one batch per generation.

A search distribution π has independent normal coordinates N(m_j, σ_j²), rounded to the grid if
discrete, and independent categorical coordinates with probabilities p_j. The natural gradient of
E_π[w], where w are weights by rank of the utilities, has a closed form (Ollivier et al. 2017, IGO):
    δm = Σ w_i (x_i − m),   δlog σ = ½ Σ w_i ((x_i − m)²/σ² − 1),   δp = Σ w_i (onehot(x_i) − p).
Several search distributions run side by side, one around each start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from fisherbo.space import Array, Integers, Space

Score = Callable[[Array], Array]
"""Points of shape ``(b, d)`` to utilities ``(b,)``."""


@dataclass(frozen=True)
class SearchDistribution:
    """``c`` search distributions over a space of ``d`` coordinates.

    Attributes:
        mean: Normal means, shape ``(c, d)``.
        sd: Normal standard deviations, shape ``(c, d)``.
        probability: Of each choice of the categorical coordinates, shape ``(c, categorical, k)``.
    """

    mean: Array
    sd: Array
    probability: Array


def around(
    space: Space, centres: Array, *, sd: float = 0.15, trust: float = 0.6
) -> SearchDistribution:
    """Search distributions at ``centres`` ``(c, d)``, whose choices have probability ``trust``."""
    width = np.maximum(sd, 0.7 / np.maximum(space.levels - 1, 1))
    probability = trust * _onehot(space, centres) + (1 - trust) * space.uniform
    return SearchDistribution(centres, np.broadcast_to(width, centres.shape), probability)


def sample(space: Space, pi: SearchDistribution, count: int, rng: Generator) -> Array:
    """Grid points drawn from each search distribution, shape ``(c, count, d)``."""
    c, d = pi.mean.shape
    x = _reflect(pi.mean[:, None] + pi.sd[:, None] * rng.standard_normal((c, count, d)))
    chosen = space.chosen
    if len(chosen):
        u = rng.random((c, count, len(chosen), 1))
        choice = (u > pi.probability.cumsum(-1)[:, None]).sum(-1)
        x[..., chosen] = choice / np.maximum(space.choices[chosen] - 1, 1)
    return space.snap(x)


def natural_update(
    space: Space, pi: SearchDistribution, points: Array, values: Array, rate: float = 0.5
) -> SearchDistribution:
    """One natural-gradient step of every search distribution towards its better points.

    Args:
        space: The space.
        pi: ``c`` search distributions.
        points: Shape ``(c, m, d)``.
        values: Their utilities, shape ``(c, m)``.
        rate: Step length for deviations and probabilities; means take a full step.
    """
    weight = _weights(points.shape[1])
    elite = np.argsort(-values, -1, kind="stable")[:, : len(weight)]
    best = points[np.arange(len(points))[:, None], elite]
    deviation = best - pi.mean[:, None]
    mean = pi.mean + weight @ deviation
    surprise = weight @ deviation**2 / pi.sd**2 - 1
    smallest = np.maximum(0.01, 0.35 / np.maximum(space.levels - 1, 1))
    change = np.minimum(np.maximum(surprise, -2), 2)
    sd = np.maximum(pi.sd * np.exp(0.5 * rate * change), smallest)
    target = np.einsum("q,cqjk->cjk", weight, _onehot(space, best))
    probability = pi.probability + rate * (target - pi.probability)
    return SearchDistribution(mean, sd, 0.95 * probability + 0.05 * space.uniform)


def natural_search(
    space: Space, score: Score, centres: Array, *, generations: int, count: int, rng: Generator
) -> tuple[Array, Array]:
    """Points visited from ``centres`` ``(c, d)``, their utilities: shapes ``(m, d)``, ``(m,)``."""
    pi = around(space, centres)
    visited: list[Array] = []
    values: list[Array] = []
    for generation in range(generations):
        if generation:
            pi = natural_update(space, pi, visited[-1], values[-1])
        points = sample(space, pi, count, rng)
        visited.append(points)
        values.append(score(points.reshape(-1, space.dimension)).reshape(points.shape[:2]))
    return np.concatenate(visited).reshape(-1, space.dimension), np.concatenate(values).ravel()


def neighbours(space: Space, x: Array, rng: Generator, limit: int = 32) -> Array:
    """Points that differ from one of ``x`` ``(m, d)`` in one discrete coordinate, shape ``(k, d)``.

    Ordered coordinates take the levels one below and one above; categorical ones every other
    choice, or ``limit`` random choices where there are more.
    """
    column, shift = _few(space, rng, limit)
    here = space.from_unit(x)
    moved = here[:, column] + space.step[column] * shift
    choices = np.maximum(space.choices[column], 1)
    moved = np.where(space.categorical[column], moved % choices, moved)
    slack = 1e-9 * space.step[column]
    inside = (moved >= space.low[column] - slack) & (moved <= space.high[column] + slack)
    origin, which = (inside & space.free[column]).nonzero()
    values = here[origin]
    values[np.arange(len(values)), column[which]] = moved[origin, which]
    return space.centred(np.where(space.discrete, space.to_unit(values), x[origin]))


def _few(space: Space, rng: Generator, limit: int) -> tuple[Integers, Array]:
    """The space's moves, but for a category no more than ``limit`` random ones."""
    column, shift = space.moves
    kept = np.ones(len(column), dtype=bool)
    for j in (space.choices > limit + 1).nonzero()[0].tolist():
        own = (column == j).nonzero()[0]
        kept[own] = False
        kept[rng.choice(own, limit, replace=False)] = True
    return column[kept], shift[kept]


@lru_cache(maxsize=16)
def _weights(m: int) -> Array:
    """Weights of the better quarter of ``m`` points, falling with rank, of sum 1."""
    count = max(1, m // 4)
    weight = np.log(count + 0.5) - np.log(np.arange(1, count + 1))
    return weight / weight.sum()


def _onehot(space: Space, x: Array) -> Array:
    """Choices of the categorical coordinates as one-hot rows, shape ``(*b, categorical, k)``."""
    count = np.maximum(space.choices, 1)
    chosen = space.chosen
    choice = np.rint(x[..., chosen] * (count[chosen] - 1))
    return (choice[..., None] == np.arange(count.max())).astype(np.float64)


def _reflect(x: Array) -> Array:
    """Points mirrored at the faces of the cube, so that no mass gathers on them.

    The image in [0, 1] is the distance to the nearest even number.
    """
    return np.abs(x - 2 * np.rint(x / 2))
