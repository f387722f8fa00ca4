"""Checks of a sampler's arguments and of the studies that it is used for, and its warnings."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.study import Study

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.input_constraints import Rule

if TYPE_CHECKING:
    from fisherbo.botorch.surrogate import Factory

NOTHING_VARIES = "study has no parameter that varies; all its trials are alike"
EXHAUSTED = (
    "Every point of the search space was evaluated: from here on points are repeated where that "
    "helps most. Stop the study if its objective is deterministic."
)
TOO_GOOD = (
    "A value is better than all others by more than 15 orders of magnitude: the sampler takes it "
    "for a fault of the objective, as it does an infinitely good one. Raise an exception or return "
    "NaN where the objective has no value."
)

_MOST_OBJECTIVES = 4  # beyond, the cells of the hypervolume improvement are too many


def require_single_objective(study: Study) -> None:
    """Pass if a study has one objective.

    Raises:
        InvalidInputError: If it has several.
    """
    if len(study.directions) > 1:
        raise InvalidInputError(
            f"recommend needs a study with one objective, got {len(study.directions)}; "
            "see study.best_trials for several"
        )


def require_few_objectives(study: Study) -> None:
    """Pass if a study has no more objectives than the sampler can treat.

    Raises:
        InvalidInputError: If it has.
    """
    if len(study.directions) > _MOST_OBJECTIVES:
        raise InvalidInputError(
            f"FisherSampler needs a study with at most {_MOST_OBJECTIVES} objectives, got "
            f"{len(study.directions)}; use optuna.samplers.NSGAIIISampler for more"
        )


def check_arguments(
    n_startup_trials: int,
    surrogate: Factory | None,
    source_studies: Sequence[Study],
    input_constraints: Rule | None,
) -> None:
    """Pass if the arguments of a sampler are valid.

    Raises:
        InvalidInputError: If they are not.
    """
    if n_startup_trials < 0:
        raise InvalidInputError(
            f"n_startup_trials must be >= 0, got {n_startup_trials!r}; 10 is typical"
        )
    if surrogate is not None and not callable(surrogate):
        raise InvalidInputError(
            f"surrogate must be a callable (train_X, train_Y) -> model, got {surrogate!r}; "
            "pass for example botorch.models.SingleTaskGP"
        )
    if surrogate is not None and len(source_studies):
        raise InvalidInputError(
            "source_studies must be empty with a surrogate, got "
            f"{len(source_studies)}; leave one of the two out"
        )
    if input_constraints is not None and not callable(input_constraints):
        raise InvalidInputError(
            "input_constraints must be a callable (params: dict) -> bool, got "
            f"{input_constraints!r}; pass for example lambda p: p['x'] + p['y'] <= 1"
        )


def cost_settings(cost: object, budget: object) -> CostSettings | None:
    """What a sampler's arguments say of the cost of trials; None if nothing.

    Raises:
        InvalidInputError: If they are not valid.
    """
    if cost is None:
        if budget is not None:
            raise InvalidInputError(
                f"budget needs cost, which says what is spent, got budget={budget!r} alone; pass "
                'cost="seconds" for the durations of trials'
            )
        return None
    if not (isinstance(cost, str) and cost):
        raise InvalidInputError(
            f'cost must be "seconds" or the name of a user attribute of the trials, got {cost!r}'
        )
    if budget is None:
        return CostSettings(cost)
    number = float(budget) if isinstance(budget, numbers.Real) else math.nan
    if isinstance(budget, bool) or not 0 < number < math.inf:
        raise InvalidInputError(
            f"budget must be > 0 and finite, in units of the cost, got {budget!r}; leave it out "
            "for no limit"
        )
    return CostSettings(cost, number)


def no_cost(name: str) -> str:
    """A warning that no trial tells its cost."""
    return (
        f"No trial tells its cost {name!r} as a number >= 0 yet, so that costs do not matter to "
        f"the search: call trial.set_user_attr({name!r}, cost) in the objective, or pass "
        "cost='seconds' to FisherSampler for the durations of trials."
    )


def no_number(number: int, name: str, value: object) -> str:
    """A warning that a trial tells its cost wrongly."""
    return (
        f"Trial {number} tells its cost {name!r} as {value!r}: a cost is a finite number >= 0, so "
        "this one counts as not known. Such trials are not counted in what is spent."
    )
