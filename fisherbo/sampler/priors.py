"""Beliefs about the optimum, as a user gives them: checks, the first trials, the acquisition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from fisherbo.acquisition.belief import (
    MOST_CREDENCE,
    Belief,
    BeliefFactor,
    BeliefOptions,
    chance_of_optimum,
    credences,
)
from fisherbo.acquisition.marginals import CategoryBelief, Marginal, NumberBelief
from fisherbo.errors import InvalidInputError
from fisherbo.prior import NUMERIC, LogUniform, NumericPrior, Uniform
from fisherbo.sampler.models import Models
from fisherbo.sampler.observations import Observations
from fisherbo.sampler.search_space import Parameters, SearchSpace, to_space
from fisherbo.sobol import sobol
from fisherbo.space import Array, Mask, Space

Priors = Mapping[str, NumericPrior | Mapping[Any, float]]
"""Names of parameters to beliefs: a distribution of numbers, or weights of categories."""

_EVALUATED = 32  # best points that are among those presumed to be the optimum
_ENOUGH_TRIALS = 5  # to name parameters that none of them has asked for
_DRAWN = 16  # points of the belief at which an acquisition is evaluated first


def check_priors(priors: Priors | None) -> None:
    """Pass if priors are distributions and weights.

    Raises:
        InvalidInputError: If they are not.
    """
    if priors is None:
        return
    if not isinstance(priors, Mapping):
        raise InvalidInputError(
            "priors must map names of parameters to distributions or weights of categories, got "
            f"{priors!r}; for example {{'lr': fisherbo.prior.LogNormal(1e-3, 3)}}"
        )
    for name, prior in priors.items():
        if isinstance(prior, Mapping):
            _shares(name, prior)
        elif not isinstance(prior, NUMERIC):
            raise InvalidInputError(
                f"the prior of {name!r} must be a distribution of fisherbo.prior or a mapping of "
                f"weights, got {prior!r}; for example fisherbo.prior.Normal(0.9, 0.05)"
            )


def unknown_names(priors: Priors | None, parameters: Parameters, trials: int) -> str | None:
    """A warning if priors name parameters that no trial has asked for; None if they do not.

    None also while trials are few, since a parameter may exist only under a condition.

    Args:
        priors: The user's.
        parameters: All that trials have.
        trials: Number of trials.
    """
    if trials < _ENOUGH_TRIALS:
        return None
    known = sorted({*parameters.varying, *parameters.constant})
    unknown = sorted(set(priors or ()) - set(known))
    if not unknown:
        return None
    return (
        f"priors has {', '.join(map(repr, unknown))}, which no trial has asked for yet; the study "
        f"has the parameters {', '.join(map(repr, known))}. A parameter that exists "
        "only sometimes may still come; else correct the name."
    )


def read_belief(priors: Priors | None, space: Space, search_space: SearchSpace) -> Belief | None:
    """The belief in coordinates of a space; None if it says nothing about any of them.

    Args:
        priors: The user's.
        space: The space.
        search_space: Its parameters.

    Raises:
        InvalidInputError: If a prior does not suit its parameter.
    """
    if not priors:
        return None
    marginals: dict[int, Marginal] = {}
    for j, (name, distribution) in enumerate(search_space.items()):
        if name in priors:
            found = _marginal(name, priors[name], distribution, space, j)
            if not found.flat:
                marginals[j] = found
    return Belief(space, marginals) if marginals else None


def drawn_values(
    priors: Priors | None,
    number: int,
    name: str,
    distribution: BaseDistribution,
    rng: np.random.Generator,
) -> Iterator[Array]:
    """Coordinates to try for one parameter, one after the other, each of shape ``(1,)``.

    Uniform ones without a belief about it; else drawn from the belief, in the first trial its mode.

    Args:
        priors: The user's.
        number: Of the trial.
        name: Of the parameter.
        distribution: Its distribution.
        rng: Source of randomness.

    Raises:
        InvalidInputError: If its prior does not suit the parameter.
    """
    search_space = {name: distribution}
    space = to_space(search_space)
    belief = read_belief(priors, space, search_space)
    if belief is None:
        while True:
            yield space.spread(rng.random(1))
    if number == 0:
        yield belief.mode(space.centre)
    while True:
        yield belief.points(rng.random((1, 1)))[0]


def design_points(
    belief: Belief | None,
    space: Space,
    evaluated: Array,
    seed: int,
    number: int,
    count: int,
    share: float,
) -> Array:
    """Points of a scrambled Sobol design from a trial's on, ``(≥ count, d)``.

    Where there is a belief, a share of the trials have quantiles of it in place of uniform numbers,
    and its mode comes first until it was evaluated.

    Args:
        belief: About the optimum.
        space: The space.
        evaluated: Points that were or are under evaluation, shape ``(v, d)``.
        seed: Of the sequence.
        number: Of the trial.
        count: Number of points.
        share: Of the trials that are drawn from the belief.
    """
    u = sobol(space.dimension, count, seed, number)
    if belief is None:
        return space.spread(u)
    believed = (np.arange(number, number + count) * share) % 1 < share
    points = belief.points(u, believed[:, None])
    mode = belief.mode(points[0])
    columns = np.array(belief.columns)
    compared = columns[(space.free & space.exists(mode))[columns]]
    tried = (np.abs(evaluated - mode)[:, compared] < 1e-9).all(1).any()
    return points if tried else np.concatenate([mode[None], points])


def belief_factor(
    belief: Belief,
    models: Models,
    observations: Observations,
    options: BeliefOptions,
    rng: np.random.Generator,
) -> BeliefFactor:
    """The belief as a factor of the acquisition, as far as the models do not contradict it.

    Args:
        belief: About the optimum.
        models: Of the objectives and constraints.
        observations: What the trials say.
        options: How the belief is used.
        rng: Source of randomness.
    """
    d = belief.space.dimension
    credence = np.full(d, 1 - options.doubt if options.tested else MOST_CREDENCE)
    if options.tested and models.objectives:
        points = _presumed(belief, models, observations, options.pool, rng)
        surrogates = [model.surrogate for model in models.objectives]
        chance = chance_of_optimum(surrogates, points, _feasible(models, points), rng)
        if chance is not None:
            credence = credences(belief, points, chance, options.doubt)
    return BeliefFactor(belief, credence, options.power / max(observations.count, 1))


def drawn_points(belief: Belief, rng: np.random.Generator) -> Array:
    """The belief's mode and draws of it, where to begin to maximise an acquisition, ``(k, d)``."""
    points = belief.points(rng.random((_DRAWN, belief.space.dimension)))
    return np.concatenate([belief.mode(points[0])[None], points])


def _presumed(
    belief: Belief, models: Models, observations: Observations, pool: int, rng: np.random.Generator
) -> Array:
    """Points one of which is taken for the optimum, shape ``(k, d)``."""
    u = rng.random((pool, belief.space.dimension))
    drawn = belief.points(u, rng.random(u.shape) < 0.5)
    usable = belief.space.snap(observations.x[observations.usable])
    mean = models.objectives[0].surrogate.mean(usable) if len(usable) else np.empty(0)
    best = usable[np.argsort(-mean, kind="stable")[:_EVALUATED]]
    return np.concatenate([drawn, best])


def _feasible(models: Models, points: Array) -> Mask:
    """Which of the points are expected to be feasible, shape ``(k,)``."""
    feasible = np.ones(len(points), dtype=bool)
    for model in models.constraints:
        feasible &= model.surrogate.mean(points) >= 0
    return feasible


def _marginal(
    name: str,
    prior: NumericPrior | Mapping[Any, float],
    distribution: BaseDistribution,
    space: Space,
    j: int,
) -> Marginal:
    """The belief about one coordinate."""
    categorical = isinstance(distribution, CategoricalDistribution)
    if isinstance(prior, Mapping) != categorical:
        wanted = "weights of its choices" if categorical else "a distribution of numbers"
        example = "{'adam': 0.7, 'sgd': 0.3}" if categorical else "fisherbo.prior.Uniform(2, 4)"
        raise InvalidInputError(
            f"the prior of {name!r} must be {wanted}, got {prior!r}; for example {example}"
        )
    if isinstance(prior, Mapping):
        assert isinstance(distribution, CategoricalDistribution)
        return CategoryBelief(_of_choices(name, prior, distribution))
    low, high, step = float(space.low[j]), float(space.high[j]), float(space.step[j])
    log = bool(space.log[j])
    if isinstance(prior, Uniform | LogUniform):
        prior = _within(name, prior, low, high, step, log=log)
    elif not low <= prior.mode <= high:
        raise _outside(name, prior, low, high)
    return NumberBelief(prior, low, high, step, log)


def _within(
    name: str, prior: Uniform | LogUniform, low: float, high: float, step: float, *, log: bool
) -> Uniform | LogUniform:
    """An interval's part in the range, to the half steps around its values, on the right scale."""
    first, last = max(prior.low, low), min(prior.high, high)
    if step:
        first = low + step * math.ceil((first - low) / step - 1e-9) - 0.5 * step
        last = low + step * math.floor((last - low) / step + 1e-9) + 0.5 * step
    if not first < last:
        raise _outside(name, prior, low, high)
    if log or isinstance(prior, LogUniform):
        return LogUniform(max(first, 0.5 * (first + 0.5 * step)), last)  # a half-step may reach 0
    return Uniform(first, last)


def _outside(name: str, prior: NumericPrior, low: float, high: float) -> InvalidInputError:
    return InvalidInputError(
        f"the prior of {name!r} must be within its range [{low:g}, {high:g}], got {prior!r}; "
        "widen the range, or move the prior"
    )


def _shares(name: str, weights: Mapping[Any, float]) -> Array:
    """Probabilities from weights, in their order."""
    values = list(weights.values())
    if not all(map(_is_weight, values)) or not sum(values) > 0:
        raise InvalidInputError(
            f"the weights of {name!r} must be numbers that are at least 0, not all 0, got "
            f"{dict(weights)!r}; for example {{'adam': 0.7, 'sgd': 0.3}}"
        )
    shares = np.array(values, dtype=np.float64)
    return shares / shares.sum()


def _is_weight(weight: object) -> bool:
    return isinstance(weight, Real) and 0 <= float(weight) < math.inf


def _of_choices(
    name: str, weights: Mapping[Any, float], distribution: CategoricalDistribution
) -> Array:
    """Probabilities of the choices; of those that weights do not name, 0."""
    shares = np.zeros(len(distribution.choices))
    for choice, share in zip(weights, _shares(name, weights), strict=True):
        try:
            shares[int(distribution.to_internal_repr(choice))] += share
        except ValueError:
            raise InvalidInputError(
                f"the prior of {name!r} must have weights of its choices only, got {choice!r}; "
                f"the choices are {', '.join(map(repr, distribution.choices))}"
            ) from None
    return shares
