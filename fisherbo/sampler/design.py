"""Points of the first design, before there are enough observations for a model."""

from __future__ import annotations

import numpy as np

from fisherbo.acquisition.propose import grid, unvisited
from fisherbo.sampler.priors import design_points
from fisherbo.sampler.request import Request
from fisherbo.space import Array, Mask

_DESIGN_REPEATS = 64


def begins(request: Request, needed: int) -> bool:
    """Whether there are too few observations to rely on a model, or nothing but failures.

    Args:
        request: What is asked for.
        needed: Observations that a model needs.
    """
    observations = request.observations
    return observations.nothing_but_failures or observations.count < needed


def design_point(request: Request, seed: int, rng: np.random.Generator, first: Array) -> Array:
    """The trial's point of a scrambled Sobol design, or the next unvisited one, shape ``(d,)``.

    Of a list of candidates, the nearest to that point.

    Args:
        request: What is asked for.
        seed: Of the design.
        rng: Source of randomness.
        first: Coordinates that earlier studies choose, NaN where they choose none, shape ``(d,)``.
    """
    space, visited, rule = request.target, request.observations.evaluated, request.rule
    belief, share, number = request.belief, request.options.belief.share, request.number
    points = design_points(belief, space, visited, seed, number, _DESIGN_REPEATS, share)
    if not np.isnan(first).all():
        chosen = space.snap(np.where(np.isnan(first), points[0], first))
        points = np.concatenate([chosen[None], points])
    if request.candidates is not None:
        return request.candidates.nearest(points[0], space)
    if rule is not None:
        points = rule.require(np.concatenate([points, rule.draw(rng)]))
        points = points[_apart(points, visited)]
    fresh = unvisited(space, points, visited)
    if not fresh.any():
        others = grid(space, rng)
        others = others if rule is None else rule.require(others)
        points = np.concatenate([points, others])
        fresh = unvisited(space, points, visited)
    return points[int(np.argmax(fresh))]


def _apart(points: Array, visited: Array) -> Mask:
    """Which of the points are not among those visited; all of them if every point is."""
    far = np.abs(points[:, None] - visited).max(-1, initial=0) > 1e-9
    fresh: Mask = far.all(1)
    return fresh if fresh.any() else ~fresh
