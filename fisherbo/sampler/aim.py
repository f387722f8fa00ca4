"""What the next trial is for: an acquisition made of beliefs, and where to begin its search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fisherbo.acquisition.feasibility import Feasibility, product
from fisherbo.acquisition.improvement import ExpectedImprovement
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.sampler.belief import Belief
from fisherbo.sampler.evidence import Taken
from fisherbo.space import Array, Mask

_ANCHORS = 4


@dataclass(frozen=True)
class Aim:
    """What the next trial should maximise.

    Attributes:
        acquisition: In nats.
        anchors: Points around which to search, shape ``(a, d)``.
    """

    acquisition: Acquisition
    anchors: Array


def aim(
    objectives: Sequence[Belief],
    constraints: Sequence[Belief],
    taken: Taken,
    rng: np.random.Generator,
) -> Aim:
    """Improvement on the feasible points times the probability to be feasible.

    Where no point is feasible yet, or no objective has a value, feasibility alone. What is to be
    improved on is the best value where a point's value is always the same, and otherwise the best
    expectation.

    Args:
        objectives: Beliefs about each, larger is better.
        constraints: Beliefs about the slack of each.
        taken: Points that were or are under evaluation.
        rng: Source of randomness.
    """
    factors: tuple[Acquisition, ...] = tuple(Feasibility(c.expecting) for c in constraints)
    points = taken.x
    holds = _holds(constraints, points, taken.slack)
    if not objectives or not holds.any():
        promise = product(tuple(Feasibility(c.surrogate) for c in constraints)).value(points)
        leaders = np.argsort(-promise, kind="stable")[:_ANCHORS]
        return Aim(product(factors), points[leaders])
    if len(objectives) == 1:
        feasible, expecting = points[holds], objectives[0].expecting
        known = not np.isnan(taken.value[holds]).any()
        value = taken.value[holds] if known else objectives[0].surrogate.mean(feasible)
        noise = expecting.noise if known else 0.0
        improvement = ExpectedImprovement(expecting, float(value.max()), noise)
        leaders = np.argsort(-value, kind="stable")[:_ANCHORS]
        return Aim(product((improvement, *factors)), feasible[leaders])
    return _aim_at_front(objectives, factors, points[holds], rng)


def _aim_at_front(
    objectives: Sequence[Belief],
    factors: tuple[Acquisition, ...],
    feasible: Array,
    rng: np.random.Generator,
) -> Aim:
    """Hypervolume improvement, begun at points of the front: its best, and some at random."""
    from fisherbo.acquisition.pareto import improvement_over, non_dominated

    means = np.stack([o.surrogate.mean(feasible) for o in objectives], 1)
    improvement = improvement_over(tuple(o.expecting for o in objectives), means)
    acquisition = product((improvement, *factors))
    front = feasible[non_dominated(means)]
    best = np.argsort(-acquisition.value(front), kind="stable")
    drawn = rng.permutation(best[_ANCHORS:])[:_ANCHORS]
    return Aim(acquisition, front[np.append(best[:_ANCHORS], drawn)])


def _holds(constraints: Sequence[Belief], taken: Array, slack: Array) -> Mask:
    """Which points are feasible: as observed, or as expected where that is not known."""
    holds = np.ones(len(taken), dtype=bool)
    for belief, seen in zip(constraints, slack.T, strict=True):
        expected = belief.surrogate.mean(taken)
        holds &= np.where(np.isnan(seen), expected, seen) >= 0
    return holds
