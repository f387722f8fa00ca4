"""Where the next trial goes: a point of the first design, or the best that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from fisherbo.acquisition.balls import Balls, balls, stall_radius
from fisherbo.acquisition.feasibility import Restricted
from fisherbo.acquisition.propose import grid, propose, unvisited
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.sampler.aim import Aim, aim
from fisherbo.sampler.belief import Belief
from fisherbo.sampler.evidence import Evidence
from fisherbo.sampler.restriction import Restriction
from fisherbo.sampler.task import Task
from fisherbo.sampler.transfer import Teachers
from fisherbo.space import Array, Mask
from fisherbo.surrogate.active import Region, active_set
from fisherbo.surrogate.kernel import Embedding, turned
from fisherbo.surrogate.rotation import kernel_axes

_DESIGN_REPEATS = 64
_MOST_COMPARED = 512
_MOST_HALVINGS = 8
_ANYWHERE = 8  # one of so many trials may leave the region that the model knows


def design_point(
    task: Task,
    seed: int,
    rng: np.random.Generator,
    restriction: Restriction | None,
    teachers: Teachers,
) -> Array:
    """The trial's point of a Sobol design scrambled by the seed, or the next that is new, (d,)."""
    from scipy.stats.qmc import Sobol  # imported on first use: scipy.stats is slow to import

    space, evidence, number = task.target, task.evidence, task.trial.number
    engine = Sobol(space.dimension, rng=np.random.default_rng(seed))
    if number:
        engine.fast_forward(number)
    points = space.spread(engine.random(_DESIGN_REPEATS))
    points = teachers.before(points, number, space, task.search_space, evidence.objectives[0])
    if restriction is not None:
        points = restriction.require(np.concatenate([points, restriction.draw(rng)]))
        points = points[_apart(points, evidence.visited)]
    fresh = unvisited(space, points, evidence.visited)
    if not fresh.any():
        others = grid(space, rng)
        others = others if restriction is None else restriction.require(others)
        points = np.concatenate([points, others])
        fresh = unvisited(space, points, evidence.visited)
    return points[int(np.argmax(fresh))]


def best_point(
    task: Task,
    objectives: Sequence[Belief],
    constraints: Sequence[Belief],
    rng: np.random.Generator,
    restriction: Restriction | None,
) -> tuple[Array, Acquisition]:
    """The next point, shape ``(d,)``, and what it maximises: the acquisition outside known balls.

    A point outside the balls must be expected to be feasible: that the feasible region is known to
    be flat is no reason to evaluate what is known to fail.
    """
    target, evidence = task.target, task.evidence
    taken = evidence.taken(target)
    aimed, further = aim(objectives, constraints, taken, rng), None
    if restriction is not None:
        drawn = np.concatenate([restriction.draw(rng), target.snap(taken.x)])
        further = restriction.require(drawn)
        aimed = Aim(Restricted(aimed.acquisition, restriction), aimed.anchors)
    anchors = target.snap(aimed.anchors)

    def best(acquisition: Acquisition) -> tuple[Array, float]:
        visited = evidence.visited
        found = propose(acquisition, target, anchors, rng, visited=visited, further=further)
        return found.x, found.utility

    acquisition = aimed.acquisition
    region = _region(task, objectives)
    if region is not None:
        acquisition = Restricted(acquisition, region.holds)
    known = _known_balls(task, objectives)
    if known is not None:
        promising = constraints if evidence.usable.any() else ()
        for halvings in range(_MOST_HALVINGS):  # smaller balls where these leave no room
            free = partial(_is_free, known, promising, 0.5**halvings)
            outside = Restricted(acquisition, free)
            x, utility = best(outside)
            if utility > -np.inf:
                return x, outside
    x, utility = best(acquisition)
    if region is None or utility > -np.inf:
        return x, acquisition
    return best(aimed.acquisition)[0], aimed.acquisition


def _is_free(known: Balls, constraints: Sequence[Belief], share: float, points: Array) -> Mask:
    """Which points ``(b, d)`` are outside all balls and expected to be feasible, ``(b,)``."""
    free = known.outside(points, share)
    for belief in constraints:
        free &= belief.expecting.mean(points) >= 0
    return free


def _region(task: Task, objectives: Sequence[Belief]) -> Region | None:
    """Where the trial is to stay, of a single objective; every eighth trial may go anywhere."""
    anywhere = task.trial.number % _ANYWHERE == 0 or not task.target.continuous.any()
    return None if anywhere or len(objectives) != 1 else objectives[0].region


def _known_balls(task: Task, objectives: Sequence[Belief]) -> Balls | None:
    """Where another evaluation of a single objective is presumed to say little.

    Only in spaces that are not all discrete: in others no point is chosen twice as it is. While no
    point is feasible, only around points under evaluation.
    """
    if len(objectives) != 1 or not task.target.continuous.any():
        return None
    data, surrogate = task.evidence.objectives[0], objectives[0].surrogate
    searching = bool(task.evidence.usable.any())
    radius = stall_radius(_age_of_best(task.evidence)) if searching else 0.0
    own = task.evidence.own & searching
    x, y = data.x[own], data.y[own]
    if radius == 0 and not len(data.pending) and len(set(y.tolist())) == len(y):
        return None
    lengthscale, rotation = kernel_axes(surrogate)
    chosen = active_set(turned(x, rotation), y, lengthscale, _MOST_COMPARED)
    embedding = Embedding.of(lengthscale, task.space.choices, rotation)
    return balls(x[chosen], y[chosen], embedding, radius, data.pending)


def _age_of_best(evidence: Evidence) -> int:
    """Observations after the first of the best usable value."""
    y = evidence.objectives[0].y
    return len(y) - 1 - int(np.argmax(np.where(evidence.usable, y, -np.inf)))


def _apart(points: Array, visited: Array) -> Array:
    """The points that are none of those visited, all of them if there are no others."""
    far = np.abs(points[:, None] - visited).max(-1, initial=0) > 1e-9
    fresh = far.all(1)
    return fresh if fresh.any() else ~fresh
