"""Checks of a sampler's arguments and of the studies that it is used for, and its warnings."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler
from optuna.study import Study

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.candidates import is_frame
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.input_constraints import Rule

if TYPE_CHECKING:
    from fisherbo.botorch.surrogate import Factory

NOTHING_VARIES = "study has no parameter that varies; all its trials are alike"
EXHAUSTED = (
    "Every point of the search space was evaluated: from here on points are repeated where that "
    "helps most. Stop the study if its objective is deterministic."
)
NO_MORE_CANDIDATES = (
    "Every candidate was proposed: from here on candidates are repeated where that helps most. "
    "Stop the study if its objective is deterministic."
)
NO_MORE_AGREE = (
    "Every candidate that agrees with values that are enqueued or fixed was proposed: one of them "
    "is repeated."
)
TOO_GOOD = (
    "A value is better than all others by more than 15 orders of magnitude: the sampler takes it "
    "for a fault of the objective, as it does an infinitely good one. Raise an exception or return "
    "NaN where the objective has no value."
)

_FOR_EXAMPLE = "pass for example [{'x': 0.1}, {'x': 0.5}]"
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


def never_asked(names: Sequence[str]) -> str:
    """The warning that parameters of candidates are ignored."""
    return (
        f"The objective did not ask for {', '.join(map(repr, names))} of the candidates: ignored. "
        "Rows that differ in nothing else count as one."
    )


def check_candidates(candidates: Any, independent_sampler: BaseSampler | None) -> None:
    """Pass if something is a list of candidates, or None.

    Raises:
        InvalidInputError: If it is not, or if an independent sampler is to choose too.
    """
    if candidates is None:
        return
    if independent_sampler is not None:
        raise InvalidInputError(
            "independent_sampler must be None with candidates, got "
            f"{type(independent_sampler).__name__}; leave one of the two out"
        )
    names, count, empty = _names_of(candidates)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise InvalidInputError(
            f"candidates must name parameters by texts, got the name {wrong!r}; rename it"
        )
    if len(set(names)) < len(names):
        raise InvalidInputError(
            f"candidates must have each parameter once, got columns {names}; drop one"
        )
    if not count:
        raise InvalidInputError(f"candidates must have a row, got none; {_FOR_EXAMPLE}")
    if empty is not None:
        raise InvalidInputError(
            f"candidates must have parameters in every row, got none in row {empty}; leave it out"
        )


def _names_of(candidates: Any) -> tuple[list[Any], int, int | None]:
    """Names of parameters, the number of rows, and the first row without any value."""
    if is_frame(candidates):
        empty = candidates.isna().all(axis=1).to_numpy().nonzero()[0]
        return list(candidates.columns), len(candidates), int(empty[0]) if len(empty) else None
    if isinstance(candidates, str | bytes) or not isinstance(candidates, Sequence):
        raise InvalidInputError(
            "candidates must be a pandas DataFrame or a sequence of parameters by name, got "
            f"{type(candidates).__name__}; {_FOR_EXAMPLE}"
        )
    wrong = next((i for i, row in enumerate(candidates) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise InvalidInputError(
            f"candidates must be parameters by name, got {candidates[wrong]!r} in row {wrong}; "
            f"{_FOR_EXAMPLE}"
        )
    names = dict.fromkeys(name for row in candidates for name in row)
    return list(names), len(candidates), next((i for i, r in enumerate(candidates) if not r), None)
