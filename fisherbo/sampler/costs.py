"""What trials cost, as their model sees it, and what is left of the budget.

The model is of u = (log(c + f) − m)/s with the mean m and the standard deviation s of what is
known, and the floor f, half the median cost. Without it a trial of a hundredth of the typical cost
would count as a hundred times as attractive, and the search would spend itself on what is cheap: on
development surfaces the normalised regret at the end of the budget was .04 higher. Cooling the
power of the cost as the budget is spent (Lee et al. 2020) brought nothing beside the floor.

A pruned trial counts with what it cost: what a trial is expected to cost includes that it may be
pruned. A failure tells what a trial costs at least; below the median, that is not informative.
Trials of killed workers are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.acquisition.cost import InverseCost, WithinBudget
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.gp.protocol import Surrogate
from fisherbo.sampler import checks
from fisherbo.sampler.constraints import ConstraintData
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.trials import FAILED
from fisherbo.space import Array, Mask

LABEL = "cost"
"""Of the model."""

SECONDS = "seconds"
"""The cost that trials without such a user attribute tell by their duration."""

EVALUATED = (TrialState.COMPLETE, TrialState.PRUNED)
"""Trials that tell what one costs."""

_LEAST_SPREAD = 0.01  # nats: to which the acquisition is maximised
_LEAST_TOLD = 5  # trials without a cost before a warning


@dataclass(frozen=True)
class CostData:
    """What the trials of a study cost.

    Attributes:
        settings: What is asked for.
        y: Standardised log cost ``u`` by row of the table, NaN where it is not known, ``(t,)``.
        centre: ``m``, in nats.
        scale: ``s``, in nats.
        floor: ``f``, in units of the cost.
        largest: The largest cost so far; 0 if there is none.
        spent: Sum of all costs so far.
        warning: What users should know of them.
    """

    settings: CostSettings
    y: Array
    centre: float
    scale: float
    floor: float
    largest: float
    spent: float
    warning: str | None = None

    @property
    def varies(self) -> bool:
        """Whether costs differ enough to matter to an acquisition."""
        return self.scale > _LEAST_SPREAD

    @property
    def observed(self) -> ConstraintData:
        """The observations of the model."""
        return ConstraintData(LABEL, self.y, 0.0, np.zeros(len(self.y)))

    def median(self, surrogate: Surrogate | None, x: Array) -> Array:
        """Median cost of trials at points ``(b, d)``, shape ``(b,)``.

        Args:
            surrogate: Model of ``u``; None where costs do not vary.
            x: The points.
        """
        u = np.zeros(len(x)) if surrogate is None else surrogate.mean(x)
        return np.maximum(np.exp(self.centre + self.scale * u) - self.floor, 0)

    def left(self, surrogate: Surrogate | None, pending: Array) -> float:
        """What is left of the budget, less what trials under evaluation ``(p, d)`` will cost."""
        if self.settings.budget is None:
            return math.inf
        return self.settings.budget - self.spent - float(self.median(surrogate, pending).sum())

    def factors(
        self, surrogate: Surrogate, pending: Array, options: AlgorithmOptions
    ) -> tuple[Acquisition, ...]:
        """Factors of the acquisition.

        Args:
            surrogate: Model of ``u``.
            pending: Points under evaluation, shape ``(p, d)``.
            options: Of the algorithm.
        """
        budget, left = self.settings.budget, self.left(surrogate, pending)
        power, found = options.cost_power, list[Acquisition]()
        if budget is not None and options.cost_cooling:
            power *= max(left / budget, 0.0)
        if power > 0:
            found.append(InverseCost(surrogate, power * self.scale, options.metric))
        if 0 < left < self.largest:
            limit = (math.log(left + self.floor) - self.centre) / self.scale
            found.append(WithinBudget(surrogate, limit, options.metric))
        return tuple(found)


def cost_data(
    trials: Sequence[FrozenTrial], located: Mask, settings: CostSettings, options: AlgorithmOptions
) -> CostData:
    """What the trials of a table cost, in its order.

    Args:
        trials: Of the table.
        located: Which of them have a place in the space, shape ``(t,)``.
        settings: What is asked for.
        options: Of the algorithm.
    """
    costs = costs_of(trials, settings.name)
    told = costs > 0
    evaluated = _evaluated(trials)
    failed = np.array([FAILED in t.system_attrs for t in trials], dtype=bool) & ~evaluated
    usual = costs[told & evaluated]
    typical = float(np.median(usual)) if len(usual) else 0.0
    known = located & told & (evaluated | (failed & (costs > typical)))
    floor = options.cost_floor * typical
    logs = np.log(np.where(known, costs, 1.0) + floor)
    centre = float(logs[known].mean()) if known.any() else 0.0
    scale = float(logs[known].std()) if known.any() else 0.0
    return CostData(
        settings=settings,
        y=np.where(known, (logs - centre) / (scale or 1.0), math.nan),
        centre=centre,
        scale=scale,
        floor=floor,
        largest=float(costs[known].max()) if known.any() else 0.0,
        spent=spent(trials, costs),
        warning=_warning(trials, costs, settings.name),
    )


def costs_of(trials: Sequence[FrozenTrial], name: str) -> Array:
    """Costs of finished trials, NaN where they are not known, shape ``(t,)``.

    That is the user attribute of this name, if it is a number of at least 0. For `SECONDS` the
    duration stands in; one that is not positive, as of a trial that was added as finished or of a
    clock that was set back, is not known.
    """
    return np.array([_cost(t, name) for t in trials], dtype=np.float64)


def spent(trials: Sequence[FrozenTrial], costs: Array) -> float:
    """Sum of all known costs ``(t,)`` of trials.

    A failure counts with at most the largest cost of the others: the end of a killed worker's trial
    is noticed late.
    """
    evaluated = _evaluated(trials)
    usual = costs[evaluated & ~np.isnan(costs)]
    most = usual.max() if len(usual) else math.inf
    return float(np.nansum(np.where(evaluated, costs, np.minimum(costs, most))))


def _evaluated(trials: Sequence[FrozenTrial]) -> Mask:
    return np.array([t.state in EVALUATED for t in trials], dtype=bool)


def _warning(trials: Sequence[FrozenTrial], costs: Array, name: str) -> str | None:
    """What is wrong with costs, if anything is."""
    for trial, cost in zip(trials, costs.tolist(), strict=True):
        if math.isnan(cost) and trial.state.is_finished() and name in trial.user_attrs:
            return checks.no_number(trial.number, name, trial.user_attrs[name])
    untold = _evaluated(trials).sum() >= _LEAST_TOLD and np.isnan(costs).all()
    return checks.no_cost(name) if untold else None


def _cost(trial: FrozenTrial, name: str) -> float:
    if not trial.state.is_finished():
        return math.nan
    if name in trial.user_attrs:
        return number(trial.user_attrs[name])
    if name != SECONDS or trial.duration is None:
        return math.nan
    seconds = trial.duration.total_seconds()
    return seconds if seconds > 0 else math.nan


def number(value: Any) -> float:
    """A cost as told; NaN if it is not a number of at least 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < math.inf else math.nan
