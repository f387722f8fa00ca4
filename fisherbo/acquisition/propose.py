"""Maximise a utility of the posterior: pool, natural-gradient search, natural-gradient ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.random import Generator

from fisherbo.acquisition.protocol import Acquisition
from fisherbo.optimize.descent import natural_ascent
from fisherbo.optimize.search import natural_search, neighbours
from fisherbo.sobol import sobol
from fisherbo.space import Array, Mask, Proposal, Space, distinct

_GRID = 4096
_WIDEST = 0.1  # standard deviation of points around anchors


@dataclass(frozen=True)
class Effort:
    """Numbers of points and steps that one proposal takes.

    Attributes:
        pool: Quasi-random points of the first batch; half as many in continuous spaces, where an
            ascent follows at once.
        near: Points drawn around each anchor.
        starts: Starts of the ascent after a search.
        climbers: Starts of the ascent in continuous spaces.
        steps: Maximum number of steps of an ascent.
        centres: Starts of the search, in spaces with discrete coordinates.
        generations: Generations of the search.
        count: Points per generation around each start.
        neighboured: Number of best points whose discrete neighbours are tried after the search.
        finest: Points around anchors deviate by a scale between this and `_WIDEST`, uniform in its
            logarithm; None: uniform from 0.
        curved: Whether the acquisition's metric is a Gauss–Newton matrix, of which the damping
            scales D only.
    """

    pool: int = 64
    near: int = 16
    starts: int = 4
    climbers: int = 2
    steps: int = 30
    centres: int = 4
    generations: int = 2
    count: int = 24
    neighboured: int = 4
    finest: float | None = None
    curved: bool = False


CONSTRAINED = Effort(starts=8, climbers=8, steps=50, finest=1e-4, curved=True)
"""Under constraints. Beside a boundary that is known well the acquisition varies on scales far
below the lengthscales: ascents from coarse points end below its maximum by a nat or more."""


_curved_ascent = partial(
    natural_ascent, whole=False, damping=1.0, shrink=0.3, tolerance=0.003, least=1e-3
)


@dataclass(frozen=True)
class _Found:
    """Points with their utilities, shapes ``(m, d)`` and ``(m,)``."""

    x: Array
    value: Array

    def __add__(self, other: _Found) -> _Found:
        return _Found(np.concatenate([self.x, other.x]), np.append(self.value, other.value))

    def best(self, count: int) -> Array:
        """The ``count`` best distinct points, shape ``(≤ count, d)``."""
        order = np.argsort(-self.value, kind="stable")[: 4 * count]
        leaders = self.x[order[self.value[order] > -np.inf]]
        first, _ = distinct(leaders)
        return leaders[first[:count]]


def propose(
    acquisition: Acquisition,
    space: Space,
    anchors: Array,
    rng: Generator,
    *,
    visited: Array | None = None,
    further: Array | None = None,
    effort: Effort = Effort(),
) -> Proposal:
    """The point of largest acquisition that was found.

    Args:
        acquisition: What is maximised.
        space: The search space.
        anchors: Coordinates of good observations, shape ``(a, d)``.
        rng: Source of randomness.
        visited: Points that should not be chosen again, shape ``(v, d)``. Used only in spaces
            without continuous coordinates, and only while unvisited points remain.
        further: Additional initial points, shape ``(f, d)``. If the acquisition is −∞ in large
            regions, at least one of them should be outside these.
        effort: Numbers of points and steps.

    Returns:
        The point; its utility is −∞ if that of all initial points is.
    """
    mixed = bool((space.discrete & space.free).any() or space.conditions)
    pool = _pool(space, anchors, rng, effort.pool if mixed else effort.pool // 2, effort)
    pool = pool if further is None else np.concatenate([pool, further])
    if not mixed:
        found = _climbed(acquisition, pool, space.continuous, effort, climbers=effort.climbers)
        best = int(np.argmax(found.value))
        return Proposal(found.x[best], float(found.value[best]))
    found = _Found(pool, acquisition.value(pool))
    if not (found.value > -np.inf).any():
        return Proposal(pool[0], -np.inf)
    found += _searched(space, acquisition, found.best(effort.centres), rng, effort)
    if space.continuous.any():
        starts = found.best(effort.starts)
        movable = space.continuous & space.exists(starts)
        found += _climbed(acquisition, starts, movable, effort)
    return _choose(found, acquisition, space, visited, rng)


def _climbed(
    acquisition: Acquisition,
    starts: Array,
    movable: Mask,
    effort: Effort,
    climbers: int | None = None,
) -> _Found:
    """Where natural-gradient ascents from the starts end, or from the best of them."""
    ascent = _curved_ascent if effort.curved else natural_ascent
    result = ascent(
        acquisition.evaluate, starts, movable, climbers=climbers, max_steps=effort.steps
    )
    return _Found(result.x, result.value)


def _searched(
    space: Space, acquisition: Acquisition, centres: Array, rng: Generator, effort: Effort
) -> _Found:
    """Points of a natural-gradient search, and discrete neighbours of the best of them."""
    visited, value = natural_search(
        space,
        acquisition.value,
        centres,
        generations=effort.generations,
        count=effort.count,
        rng=rng,
    )
    found = _Found(visited, value)
    near = neighbours(space, found.best(effort.neighboured), rng)
    return found + _Found(near, acquisition.value(near)) if len(near) else found


def _pool(space: Space, anchors: Array, rng: Generator, count: int, effort: Effort) -> Array:
    """Shifted Sobol points of the whole space and normal ones around the anchors, on the grid."""
    d = space.dimension
    shifted = _sobol(d, count) + rng.random(d)
    wide = space.spread(np.where(shifted < 1, shifted, shifted - 1))
    shape = (len(anchors), effort.near, d)
    drawn = rng.standard_normal(shape, np.float32)
    noise = drawn * _scales(effort.finest, rng, (*shape[:2], 1))
    around = anchors[:, None] + np.where(space.categorical, 0.0, noise)
    return np.concatenate([wide, space.snap(around.reshape(-1, d))])


def _scales(finest: float | None, rng: Generator, shape: tuple[int, ...]) -> Array:
    """Standard deviations of points around anchors."""
    if finest is None:
        return rng.uniform(0, _WIDEST, shape)
    return np.exp(rng.uniform(math.log(finest), math.log(_WIDEST), shape))


@lru_cache(maxsize=16)
def _sobol(d: int, count: int) -> Array:
    return sobol(d, count, seed=0)


def unvisited(space: Space, points: Array, visited: Array) -> Mask:
    """Which points ``(m, d)`` are new; all of them where any free coordinate is continuous."""
    if space.continuous.any():
        return np.ones(len(points), dtype=bool)
    seen = {tuple(row) for row in space.from_unit(visited).tolist()}
    return np.array([tuple(row) not in seen for row in space.from_unit(points).tolist()])


def _choose(
    found: _Found, acquisition: Acquisition, space: Space, visited: Array | None, rng: Generator
) -> Proposal:
    if visited is not None and not space.continuous.any():
        fresh = _new(found, space, visited)
        if not len(fresh.x):
            everything = grid(space, rng)
            fresh = _new(_Found(everything, acquisition.value(everything)), space, visited)
        found = fresh if len(fresh.x) else found
    i = int(np.argmax(found.value))
    return Proposal(found.x[i], float(found.value[i]))


def grid(space: Space, rng: Generator) -> Array:
    """All points of a space without continuous coordinates, or many drawn ones, ``(g, d)``."""
    everything = space.every_point(_GRID)
    if everything is None:
        return space.spread(rng.random((_GRID, space.dimension)))
    return everything


def _new(found: _Found, space: Space, visited: Array) -> _Found:
    fresh = unvisited(space, found.x, visited) & (found.value > -np.inf)
    return _Found(found.x[fresh], found.value[fresh])
