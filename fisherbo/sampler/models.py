"""Fitted models of the objectives and constraints.

They take the last fits as arguments and return new ones; `fit_store` reads and writes these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from fisherbo.gp.model import MODEL_SIZE, PRIOR_MEAN, Fit, conditioned, refit
from fisherbo.gp.posterior import Posterior, with_fantasies
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.subset import Region, region_known
from fisherbo.gp.transfer import TransferMean, TransferPosterior
from fisherbo.sampler.constraints import ConstraintData
from fisherbo.sampler.costs import CostData
from fisherbo.sampler.observations import Observations
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sobol import sobol
from fisherbo.space import Array, Space

if TYPE_CHECKING:
    from fisherbo.botorch.surrogate import Factory

_REFERENCE_POINTS = 32
_MANY_PARAMETERS = 50  # above the 38 of the largest tuning surface that 0 was measured on

LastFit = Callable[[str], Fit | None]
"""A model's label to the last fit of it."""


@dataclass(frozen=True)
class FittedModel:
    """A model given the observations, and given pending points at their means too.

    Attributes:
        surrogate: Given the observations.
        pending: Points under evaluation, shape ``(m, d)``.
        fantasize: From pending points to the model that takes them as observed at their means.
        region: Where the model contains all observations; None if it does everywhere.
    """

    surrogate: Surrogate
    pending: Array
    fantasize: Callable[[Array], Surrogate]
    region: Region | None = None

    @cached_property
    def fantasized(self) -> Surrogate:
        """The model given the observations and the pending points."""
        return self.fantasize(self.pending) if len(self.pending) else self.surrogate

    def with_pending(self, x: Array) -> FittedModel:
        """The model with one more pending point ``(d,)``."""
        return replace(self, pending=np.concatenate([self.pending, x[None]]))


@dataclass(frozen=True)
class Models:
    """Fitted models of a study.

    Attributes:
        objectives: Of each objective; none where no trial has a value.
        constraints: Of each constraint.
        fits: New fits, which no trial holds yet, by the models' labels.
        cost: Of the standardised log cost; None where costs are alike or do not matter.
    """

    objectives: tuple[FittedModel, ...]
    constraints: tuple[FittedModel, ...]
    fits: dict[str, Fit]
    cost: FittedModel | None = None

    def with_pending(self, x: Array) -> Models:
        """The models with one more pending point ``(d,)``."""
        return replace(
            self,
            objectives=tuple(m.with_pending(x) for m in self.objectives),
            constraints=tuple(m.with_pending(x) for m in self.constraints),
        )


_Fitted = tuple[FittedModel, Fit, Posterior]
"""A model, its fit, and the base of its posterior, which is worth keeping until the next trial."""


def fit_objective(
    observations: Observations,
    space: Space,
    last: Fit | None,
    kept: Posterior | None = None,
    *,
    objective: int = 0,
    transfer: TransferMean | None = None,
    options: AlgorithmOptions = DEFAULTS,
) -> _Fitted:
    """The model of an objective; it depends only on the observations and the last fit.

    Args:
        observations: Of all trials.
        space: The search space.
        last: The last fit that the study has.
        kept: The base of an earlier posterior; saves time only.
        objective: Which objective. Noise variances are used only if there is a single one.
        transfer: Prior mean that earlier studies give.
        options: Of the algorithm.
    """
    x, warped = observations.x, observations.warped[objective]
    single = observations.objectives == 1
    known = observations.known_noise(objective)
    y = warped if transfer is None else warped - transfer(x)
    given = prior_mean(space, single=single) if options.prior_mean is None else options.prior_mean
    constant = given if transfer is None else given * (1 - transfer.trust)
    rotation, after = options.rotation, options.refit_after
    fit = refit(x, y, space, last, known=known, constant=constant, rotation=rotation, after=after)
    posterior, base = conditioned(x, y, space, fit, kept, known=known, constant=constant)
    region = region_known(x, y, fit.hyper.lengthscale, MODEL_SIZE, fit.hyper.rotation)
    surrogate: Surrogate = posterior
    fantasize: Callable[[Array], Surrogate] = partial(with_fantasies, posterior)
    if transfer is not None:
        surrogate = TransferPosterior(posterior, transfer)
        fantasize = surrogate.with_fantasies
    return FittedModel(surrogate, observations.pending, fantasize, region), fit, base


def prior_mean(space: Space, *, single: bool = True) -> float:
    """Prior mean of an objective, in standard deviations of the warped values.

    Ranges of numbers are often chosen generously, and most of such a box is far from the optimum:
    regions without points are expected to be bad, so that the search does not visit the corners one
    by one. A logarithmic scale, on which a uniform prior is Jeffreys' prior of a scale parameter,
    and categories are chosen such that all values are equally plausible: there they are not.

    In spaces of 50 parameters and more regions without points are expected to be bad in any case:
    nearly all of them are, and with a mean of 0 the search visits one after another.

    Args:
        space: The search space.
        single: Whether there is one objective.
    """
    return 0.0 if single and equally_plausible(space) else PRIOR_MEAN


def equally_plausible(space: Space) -> bool:
    """Whether regions without points are as plausible as any: see `prior_mean`."""
    return bool((space.log | space.listed).any()) and space.dimension < _MANY_PARAMETERS


def fit_constraint(
    constraint: ConstraintData,
    observations: Observations,
    space: Space,
    last: Fit | None,
    kept: Posterior | None = None,
    *,
    options: AlgorithmOptions = DEFAULTS,
) -> _Fitted:
    """The model of a constraint; trials in which it is not known are left out.

    Args:
        constraint: Its observations.
        observations: What the trials say.
        space: The search space.
        last: The last fit that the study has.
        kept: The base of an earlier posterior; saves time only.
        options: Of the algorithm.
    """
    known = ~np.isnan(constraint.y)
    x, y, merit = observations.points[known], constraint.y[known], observations.merit[known]
    noise = constraint.noise[known]
    guessed = noise if noise.any() else None
    constant = constraint.prior_mean
    after = options.refit_after
    fit = refit(x, y, space, last, known=guessed, constant=constant, merit=merit, after=after)
    posterior, base = conditioned(
        x, y, space, fit, kept, known=guessed, constant=constant, merit=merit
    )
    model = FittedModel(posterior, observations.pending, partial(with_fantasies, posterior))
    return model, fit, base


class ModelFitter:
    """Fits a study's models. Its cache only saves time: it can be rebuilt from the trials.

    Copies and pickles start with an empty cache.

    Args:
        factory: Makes the objectives' models in place of ours.
        options: Of the algorithm.
    """

    def __init__(
        self, factory: Factory | None = None, *, options: AlgorithmOptions = DEFAULTS
    ) -> None:
        self._factory = factory
        self._options = options
        self._bases: dict[str, Posterior] = {}

    def __reduce__(self) -> tuple[Callable[..., ModelFitter], tuple[Factory | None]]:
        return partial(ModelFitter, options=self._options), (self._factory,)

    def fit(
        self,
        observations: Observations,
        space: Space,
        last: LastFit,
        transfer: TransferMean | None = None,
        costs: CostData | None = None,
    ) -> Models:
        """Models of each objective and constraint.

        Args:
            observations: What the trials say.
            space: The search space.
            last: The last fits.
            transfer: Prior mean of a single objective that earlier studies give.
            costs: What the trials cost, if that matters.
        """
        fits: dict[str, Fit] = {}

        def fitted(data: ConstraintData) -> FittedModel:
            fit = partial(fit_constraint, data, observations, space, options=self._options)
            return self._fitted(data.label, fit, last, fits)

        return Models(
            tuple(self._objectives(observations, space, last, transfer, fits)),
            tuple(fitted(c) for c in observations.constraints),
            fits,
            fitted(costs.observed) if costs is not None and costs.varies else None,
        )

    @contextmanager
    def isolated(self, rng: np.random.Generator) -> Iterator[None]:
        """Torch's random state from ours, where a factory uses torch."""
        if self._factory is None:
            yield
            return
        from fisherbo.botorch.surrogate import isolated  # imported on first use: torch is slow to

        with isolated(int(rng.integers(2**63))):
            yield

    def _objectives(
        self,
        observations: Observations,
        space: Space,
        last: LastFit,
        transfer: TransferMean | None,
        fits: dict[str, Fit],
    ) -> Iterator[FittedModel]:
        if not len(observations):
            return
        single = observations.objectives == 1
        for j in range(observations.objectives):
            if self._factory is not None:
                yield _fit_by(self._factory, observations, j, space)
                continue
            fit = partial(
                fit_objective,
                observations,
                space,
                objective=j,
                transfer=transfer if single else None,
                options=self._options,
            )
            yield self._fitted("" if single else str(j), fit, last, fits)

    def _fitted(
        self, label: str, fit: Callable[..., _Fitted], last: LastFit, fits: dict[str, Fit]
    ) -> FittedModel:
        """A model that starts from the last fit; a new fit is noted."""
        known = last(label)
        model, found, base = fit(last=known, kept=self._bases.get(label))
        self._bases[label] = base
        if found is not known:
            fits[label] = found
        return model


def _fit_by(
    factory: Factory, observations: Observations, objective: int, space: Space
) -> FittedModel:
    """A factory's model of an objective."""
    from fisherbo.botorch.surrogate import from_factory, with_pending

    reference = space.spread(sobol(space.dimension, _REFERENCE_POINTS, seed=0))
    x, y = observations.x, observations.warped[objective]
    surrogate = from_factory(factory, x, y, reference)
    fantasize = partial(with_pending, surrogate, factory, x, y)
    return FittedModel(surrogate, observations.pending, fantasize)
