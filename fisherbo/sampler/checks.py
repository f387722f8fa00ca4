"""Checks of a sampler's arguments and of the studies that it is used for, and its warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler
from optuna.study import Study

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.candidates import is_frame
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
