"""Parts of the sampler's algorithm that experiments switch off or change, in one record."""

from __future__ import annotations

from dataclasses import dataclass, field

from fisherbo.acquisition.belief import BeliefOptions
from fisherbo.acquisition.propose import CONSTRAINED, Effort
from fisherbo.gp.fisher import MetricRule, posterior_metric


@dataclass(frozen=True)
class AlgorithmOptions:
    """Options of the algorithm; the defaults are `FisherSampler`.

    Attributes:
        rotation: Whether the objectives' kernels may be rotated.
        half_rank: Whether values are warped, and not only standardised.
        prior_mean: Of the objectives' models, in standard deviations of the warped values; by the
            kind of space if None (`models.prior_mean`).
        quadratic_from: Observations for each parameter from which on every other trial may be the
            optimum of a quadratic.
        splines_from: The same for the optimum that splines expect under constraints.
        refit_after: New observations from one fit of the hyperparameters to the next; more of them
            as observations grow if None.
        plateaus: Whether points where equal values show a plateau are avoided.
        stalls: Whether known points are avoided while the best value is old.
        margin: By how much every other trial must exceed the best value, in standard deviations of
            the warped values, in the spaces of `suggest.margin_of`.
        metric: In which the acquisition is climbed.
        spread_from: Observations for each objective from which on, with three or more objectives,
            the search fills the front: every other trial improves along a random direction.
        effort: Of the search for the largest acquisition.
        constrained: The same under constraints, for a single objective.
        cost_power: Of the cost in the acquisition.
        cost_cooling: Whether the power falls to 0 with what is left of a budget.
        cost_floor: Added to all costs, in median costs.
        curve_ends: Whether learning curves predict the values of pruned and running trials.
        belief: How a user's belief about the optimum is used.
    """

    rotation: bool = True
    half_rank: bool = True
    prior_mean: float | None = None
    quadratic_from: float = 10.0
    splines_from: float = 1.5
    refit_after: int | None = None
    plateaus: bool = True
    stalls: bool = True
    margin: float = 0.3
    metric: MetricRule = posterior_metric
    spread_from: float = 10.0
    effort: Effort = field(default_factory=Effort)
    constrained: Effort = CONSTRAINED
    cost_power: float = 1.0
    cost_cooling: bool = False
    cost_floor: float = 0.5
    curve_ends: bool = True
    belief: BeliefOptions = field(default_factory=BeliefOptions)


DEFAULTS = AlgorithmOptions()
"""The sampler as it is."""
