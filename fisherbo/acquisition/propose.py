"""Maximise a utility of the posterior: pool, natural-gradient search, natural-gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from fisherbo.acquisition.utility import log_expected_improvement
from fisherbo.optimize.descent import Evaluation, Utility, natural_ascent
from fisherbo.optimize.search import Score, natural_search, neighbours
from fisherbo.space import Array, Mask, Proposal, Space, distinct
from fisherbo.surrogate.metric import score_parts
from fisherbo.surrogate.protocol import Surrogate


@dataclass(frozen=True)
class Effort:
    """How much a proposal may cost.

    Attributes:
        pool: Quasi-random points of the first batch.
        near: Points drawn around each anchor.
        starts: Starts of the ascent.
        centres: Starts of the search, in spaces with discrete coordinates.
        steps: Most steps of an ascent.
        generations: Generations of the search, in spaces with discrete coordinates.
        count: Points of a generation around each start.
        sweeps: Rounds of discrete neighbours, each with an ascent, after the search.
    """

    pool: int = 256
    near: int = 32
    starts: int = 8
    centres: int = 16
    steps: int = 30
    generations: int = 6
    count: int = 16
    sweeps: int = 2


@dataclass(frozen=True)
class _Found:
    """Points with their utilities, shapes ``(m, d)`` and ``(m,)``."""

    x: Array
    value: Array

    def __add__(self, other: _Found) -> _Found:
        return _Found(np.concatenate([self.x, other.x]), np.append(self.value, other.value))

    def best(self, count: int) -> Array:
        """The ``count`` best distinct points, shape ``(≤ count, d)``."""
        leaders = self.x[np.argsort(-self.value, kind="stable")[: 4 * count]]
        first, _ = distinct(leaders)
        return leaders[first[:count]]


def propose(
    posterior: Surrogate,
    space: Space,
    best: float,
    anchors: Array,
    rng: Generator,
    *,
    visited: Array | None = None,
    effort: Effort = Effort(),
) -> Proposal:
    """The point of largest log expected improvement that was found.

    Args:
        posterior: Posterior of the objective, larger is better.
        space: The search space.
        best: Value to improve on.
        anchors: Coordinates of good observations, shape ``(a, d)``.
        rng: Source of randomness.
        visited: Coordinates not to be chosen again, shape ``(v, d)``; heeded in spaces without
            continuous coordinates, as long as any other point was found.
        effort: How much to spend.
    """

    def score(x: Array) -> Array:
        return log_expected_improvement(*posterior.predict(x), best)[0]

    pool = _pool(space, anchors, rng, effort)
    found = _Found(pool, score(pool))
    utility = expected_improvement_utility(posterior, best)
    if space.discrete.any() or space.conditions:
        found += _search_discrete(space, score, utility, found.best(effort.centres), rng, effort)
    else:
        result = natural_ascent(
            utility, found.best(effort.starts), ~space.discrete, max_steps=effort.steps
        )
        found += _Found(result.x, result.value)
    return _choose(found, space, visited)


def expected_improvement_utility(posterior: Surrogate, best: float) -> Utility:
    """Log expected improvement with the parts of its score metric, for `natural_ascent`."""

    def utility(x: Array) -> Evaluation:
        p = posterior.predict_with_gradient(x)
        value, by_mean, by_sd = log_expected_improvement(p.mean, p.sd, best)
        gradient = by_mean[:, None] * p.mean_gradient + by_sd[:, None] * p.sd_gradient
        return Evaluation(value, gradient, *score_parts(gradient, posterior))

    return utility


def _search_discrete(
    space: Space, score: Score, utility: Utility, starts: Array, rng: Generator, effort: Effort
) -> _Found:
    """Natural-gradient search, then ascents in turn with neighbours along discrete coordinates."""
    searched = natural_search(
        space, score, starts, generations=effort.generations, count=effort.count, rng=rng
    )
    found = _Found(*searched)
    fresh = found.best(effort.starts)
    for sweep in range(effort.sweeps + 1):
        if not space.discrete.all():
            movable = ~space.discrete & space.exists(fresh)
            result = natural_ascent(utility, fresh, movable, max_steps=effort.steps)
            found += _Found(result.x, result.value)
        if sweep < effort.sweeps:
            near = np.concatenate([neighbours(space, x, rng) for x in found.best(4)])
            beside = _Found(near, score(near))
            found += beside
            fresh = beside.best(effort.starts)
    return found


def _pool(space: Space, anchors: Array, rng: Generator, effort: Effort) -> Array:
    """Shifted Sobol points of the whole space and normal ones around the anchors, on the grid."""
    d = space.dimension
    wide = space.spread((_sobol(d, effort.pool) + rng.random(d)) % 1)
    shape = (len(anchors), effort.near, d)
    noise = rng.standard_normal(shape) * rng.uniform(0, 0.1, (*shape[:2], 1))
    near = anchors[:, None] + np.where(space.categorical, 0.0, noise)
    return np.concatenate([wide, space.snap(near.reshape(-1, d))])


@lru_cache(maxsize=16)
def _sobol(d: int, count: int) -> Array:
    from scipy.stats.qmc import Sobol  # imported on first use: scipy.stats is slow to import

    return Sobol(d, rng=0).random(count)


def unvisited(space: Space, points: Array, visited: Array) -> Mask:
    """Which points ``(m, d)`` are new; all of them where any coordinate is continuous."""
    if not space.discrete.all():
        return np.ones(len(points), dtype=bool)
    seen = {tuple(row) for row in space.from_unit(visited).tolist()}
    return np.array([tuple(row) not in seen for row in space.from_unit(points).tolist()])


def _choose(found: _Found, space: Space, visited: Array | None) -> Proposal:
    allowed = found.value
    if visited is not None:
        fresh = unvisited(space, found.x, visited)
        allowed = np.where(fresh, found.value, -np.inf) if fresh.any() else found.value
    i = int(np.argmax(allowed))
    return Proposal(found.x[i], float(found.value[i]))
