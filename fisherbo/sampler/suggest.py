"""From models to the next point: the largest acquisition found, or an expected optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import partial

import numpy as np

from fisherbo.acquisition.exclusion import ExclusionZones, exclusion_zones, stall_radius
from fisherbo.acquisition.feasibility import Feasibility, Restricted, product
from fisherbo.acquisition.log_ehvi import improvement_over, non_dominated, wide_reference_point
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.propose import propose
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.acquisition.scalarisation import improvement_along, random_direction
from fisherbo.gp.fisher import MetricRule
from fisherbo.gp.kernel import Embedding, turned
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.rotation import kernel_axes
from fisherbo.gp.subset import Region, active_set
from fisherbo.sampler.expected_optimum import expected_optimum
from fisherbo.sampler.models import FittedModel, Models, equally_plausible
from fisherbo.sampler.observations import KnownPoints
from fisherbo.sampler.options import DEFAULTS
from fisherbo.sampler.priors import belief_factor, drawn_points
from fisherbo.sampler.request import Request
from fisherbo.space import Array, Mask

_ANCHORS = 4
_SPREAD_OBJECTIVES = 3  # with two, EHVI alone does as well
_MOST_COMPARED = 512
_MOST_HALVINGS = 16  # of zones, whose least radius is wide where lengthscales are long
_MOST_CONCURRENT = 2
_ANYWHERE = 8  # one of so many trials may leave the region that the model knows


class Spread(Enum):
    """How a search of several objectives fills the front."""

    NOT_YET = auto()  # hypervolume improvement, which first moves the front as a whole
    BOUNDED = auto()  # hypervolume improvement up to the best value of each objective
    DIRECTION = auto()  # improvement along a random direction


def suggested_point(
    request: Request, models: Models, rng: np.random.Generator, concurrent: int
) -> Array:
    """The next point, shape ``(d,)``, given the points that concurrent suggestions will choose.

    Args:
        request: What is asked for.
        models: Of the objectives and constraints.
        rng: Source of randomness.
        concurrent: Earlier trials whose points are being chosen at this moment from the same data.
    """
    optimum = None if concurrent else expected_optimum(request, models)
    if optimum is not None:
        return optimum
    x, _ = best_point(request, models, rng)
    for _ in range(min(concurrent, _MOST_CONCURRENT)):
        request, models = request.with_pending(x), models.with_pending(x)
        x, _ = best_point(request, models, rng)
    return x


def next_point(
    request: Request, models: Models, rng: np.random.Generator
) -> tuple[Array, Acquisition, bool]:
    """The next point, the acquisition, and whether the point is an expected optimum instead."""
    x, acquisition = best_point(request, models, rng)
    optimum = expected_optimum(request, models)
    return (x, acquisition, False) if optimum is None else (optimum, acquisition, True)


def best_point(
    request: Request, models: Models, rng: np.random.Generator
) -> tuple[Array, Acquisition]:
    """The point of largest acquisition, shape ``(d,)``, and that acquisition.

    The acquisition is −∞ in exclusion zones and outside the region that the model knows.

    A point outside the zones must also be expected to be feasible: a plateau in the feasible region
    is no reason to evaluate points that are known to fail.
    """
    target, observations, rule = request.target, request.observations, request.rule
    known, further = observations.known(target), None
    metric, effort = request.options.metric, request.effort
    cost, spread = _cost_factors(request, models), _spread(request)
    full, anchors = acquisition_of(
        models.objectives,
        models.constraints,
        known,
        rng,
        metric,
        cost,
        spread=spread,
        curved=effort.curved,
        margin=margin_of(request),
        guesses=observations.has_guesses,
    )
    if request.belief is not None:
        factor = belief_factor(request.belief, models, observations, request.options.belief, rng)
        full, further = product((full, factor)), drawn_points(request.belief, rng)
    if rule is not None:
        drawn = [rule.draw(rng), target.snap(known.x), *([] if further is None else [further])]
        further = rule.require(np.concatenate(drawn))
        full = Restricted(full, rule)
    anchors = target.snap(anchors)

    def best(acquisition: Acquisition) -> tuple[Array, float]:
        if request.candidates is not None:
            return request.candidates.best(acquisition)
        visited = observations.evaluated
        found = propose(
            acquisition, target, anchors, rng, visited=visited, further=further, effort=effort
        )
        return found.x, found.utility

    acquisition = full
    region = _region(request, models.objectives)
    if region is not None:
        acquisition = Restricted(acquisition, region.holds)
    zones = _exclusion_zones(request, models.objectives)
    if zones is not None:
        promising = models.constraints if observations.usable.any() else ()
        for halvings in range(_MOST_HALVINGS):  # smaller zones where these leave no room
            free = partial(_is_free, zones, promising, 0.5**halvings)
            outside = Restricted(acquisition, free)
            x, utility = best(outside)
            if utility > -np.inf:
                return x, outside
    x, utility = best(acquisition)
    if region is None or utility > -np.inf:
        return x, acquisition
    return best(full)[0], full


def margin_of(request: Request) -> float:
    """What the trial must gain beyond the best value; more than 0 in every other trial.

    Expected improvement refines a basin by ever smaller gains. A margin rules such steps out, so
    that half of the trials look for a better basin and the others refine the best one (several
    targets in turn: Jones 2001, J. Global Optimization 21). It is for tuning one objective in
    spaces where unexplored regions may well be better and some parameter is a number. There is none
    where constraints, costs, a belief, a list of candidates or running trials guide the search too.
    """
    space, observations = request.target, request.observations
    guides = (request.costs, request.belief, request.candidates)
    alone = observations.objectives == 1 and all(guide is None for guide in guides)
    alone = alone and not observations.constraints and not len(observations.pending)
    chosen = (space.log | space.listed) & space.free
    numeric = space.free & ~space.categorical
    suited = equally_plausible(space) and chosen.any() and numeric.any()
    return request.options.margin if request.number % 2 and alone and suited else 0.0


def acquisition_of(
    objectives: Sequence[FittedModel],
    constraints: Sequence[FittedModel],
    known: KnownPoints,
    rng: np.random.Generator,
    metric: MetricRule = DEFAULTS.metric,
    further: tuple[Acquisition, ...] = (),
    *,
    spread: Spread = Spread.NOT_YET,
    curved: bool = False,
    margin: float = 0.0,
    guesses: bool = False,
) -> tuple[Acquisition, Array]:
    """Expected improvement on the feasible points times the probability of feasibility.

    The probability of feasibility alone if no point is feasible yet or no objective has a value.
    The incumbent is the best value if the objective is deterministic, otherwise the best posterior
    mean.

    Args:
        objectives: Models of each, larger is better.
        constraints: Models of each, feasible where they are at least 0.
        known: Points that were or are under evaluation.
        rng: Source of randomness.
        metric: In which the acquisition is climbed.
        further: Factors of the acquisition beside those.
        spread: How a search of several objectives fills the front.
        curved: Whether it is climbed in its own curvature instead; not with several objectives.
        margin: What a value must gain beyond the incumbent's, of a single objective.
        guesses: Whether some values are those that pruned trials stand for. Then the residual
            includes their errors, by which no margin can be gained.

    Returns:
        The acquisition, in nats, and anchors: points ``(a, d)`` around which to search.
    """
    feasibility = (Feasibility(c.fantasized, metric, curved) for c in constraints)
    factors = (*feasibility, *further)
    points = known.x
    holds = _holds(constraints, points, known.constraints)
    if not objectives or not holds.any():
        promise = product(tuple(Feasibility(c.surrogate) for c in constraints)).value(points)
        leaders = np.argsort(-promise, kind="stable")[:_ANCHORS]
        return product(factors), points[leaders]
    if len(objectives) > 1:
        improve = partial(_improvement, spread, metric)
        return _of_several(objectives, factors, points[holds], rng, improve)
    feasible, surrogate = points[holds], objectives[0].fantasized
    exact = not np.isnan(known.value[holds]).any()
    value = known.value[holds] if exact else objectives[0].surrogate.mean(feasible)
    noise = surrogate.noise if exact and not (guesses and margin) else 0.0
    best = float(value.max())
    improvement = ExpectedImprovement(surrogate, best, noise, metric, curved, margin)
    leaders = np.argsort(-value, kind="stable")[:_ANCHORS]
    return product((improvement, *factors)), feasible[leaders]


def _cost_factors(request: Request, models: Models) -> tuple[Acquisition, ...]:
    """What the cost adds to the acquisition; nothing where costs are alike."""
    if request.costs is None or models.cost is None:
        return ()
    pending = request.observations.pending
    return request.costs.factors(models.cost.surrogate, pending, request.options)


_Improve = Callable[[tuple[Surrogate, ...], Array, np.random.Generator], Acquisition]
"""From models and values ``(n, m)`` to the improvement on these."""


def _of_several(
    objectives: Sequence[FittedModel],
    factors: tuple[Acquisition, ...],
    feasible: Array,
    rng: np.random.Generator,
    improve: _Improve,
) -> tuple[Acquisition, Array]:
    """The acquisition of several objectives.

    Anchors are points of the front: those of largest acquisition, and some at random.
    """
    means = np.stack([o.surrogate.mean(feasible) for o in objectives], 1)
    surrogates = tuple(o.fantasized for o in objectives)
    acquisition = product((improve(surrogates, means, rng), *factors))
    front = feasible[non_dominated(means)]
    best = np.argsort(-acquisition.value(front), kind="stable")
    drawn = rng.permutation(best[_ANCHORS:])[:_ANCHORS]
    return acquisition, front[np.append(best[:_ANCHORS], drawn)]


def _improvement(
    spread: Spread,
    metric: MetricRule,
    surrogates: tuple[Surrogate, ...],
    values: Array,
    rng: np.random.Generator,
) -> Acquisition:
    """Improvement of the hypervolume, or along a random direction."""
    if spread is Spread.DIRECTION:
        reference = wide_reference_point(values)
        direction = random_direction(values.max(0) - reference, rng)
        return replace(improvement_along(surrogates, values, reference, direction), metric=metric)
    from fisherbo.botorch.hypervolume import decompose  # imported on first use: slow to import

    bounded = spread is Spread.BOUNDED
    improvement = improvement_over(surrogates, values, decompose, bounded=bounded)
    return replace(improvement, metric=metric)


def _spread(request: Request) -> Spread:
    """How the trial fills the front: not in its first trials, nor with two objectives."""
    m = request.observations.objectives
    if m < _SPREAD_OBJECTIVES or len(request.observations) < request.options.spread_from * m:
        return Spread.NOT_YET
    return Spread.BOUNDED if request.number % 2 else Spread.DIRECTION


def _holds(constraints: Sequence[FittedModel], points: Array, observed: Array) -> Mask:
    """Which points are feasible: as observed, or as expected where that is not known."""
    holds = np.ones(len(points), dtype=bool)
    for model, seen in zip(constraints, observed.T, strict=True):
        expected = model.surrogate.mean(points)
        holds &= np.where(np.isnan(seen), expected, seen) >= 0
    return holds


def _is_free(
    zones: ExclusionZones, constraints: Sequence[FittedModel], share: float, points: Array
) -> Mask:
    """Which points ``(b, d)`` are outside all zones and expected to be feasible, ``(b,)``."""
    free = zones.outside(points, share)
    for model in constraints:
        free &= model.fantasized.mean(points) >= 0
    return free


def _region(request: Request, objectives: Sequence[FittedModel]) -> Region | None:
    """The region that the trial stays in, for a single objective; every eighth may go anywhere."""
    anywhere = request.number % _ANYWHERE == 0 or not request.target.continuous.any()
    return None if anywhere or len(objectives) != 1 else objectives[0].region


def _exclusion_zones(request: Request, objectives: Sequence[FittedModel]) -> ExclusionZones | None:
    """Where another evaluation of a single objective is presumed to tell little.

    None in spaces that are all discrete, where no point is chosen twice anyway. While no point is
    feasible, only around points under evaluation.
    """
    if len(objectives) != 1 or not request.target.continuous.any():
        return None
    observations, surrogate = request.observations, objectives[0].surrogate
    searching = bool(observations.usable.any())
    options = request.options
    radius = stall_radius(observations.age_of_best) if searching and options.stalls else 0.0
    own = observations.own & searching
    x, y, pending = observations.x[own], observations.y[own, 0], observations.pending
    if radius == 0 and not len(pending) and len(set(y.tolist())) == len(y):
        return None
    lengthscale, rotation = kernel_axes(surrogate)
    chosen = active_set(turned(x, rotation), y, lengthscale, _MOST_COMPARED)
    embedding = Embedding.of(lengthscale, request.space.kinds, rotation)
    return exclusion_zones(
        x[chosen], y[chosen], embedding, radius, pending, plateaus=options.plateaus
    )
