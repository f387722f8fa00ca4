"""Which row of a list of candidates a trial evaluates, so that no two workers choose the same.

A trial writes down the row that it has chosen, then looks which other trials have chosen it too. If
one has that it did not see before, it chooses again. Of two trials with the same row the one that
wrote last always sees the other, so at most one keeps it. That holds for threads, processes and
machines that share a study's storage, with any seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.errors import InvalidInputError
from fisherbo.sampler import checks
from fisherbo.sampler.candidates import Candidates
from fisherbo.sampler.fixed import given_values
from fisherbo.sampler.optuna_private import set_system_attr
from fisherbo.sampler.request import Request
from fisherbo.sampler.running import without_abandoned
from fisherbo.sampler.trials import (
    CANDIDATE,
    Status,
    other_trials_of_all_brackets,
    status_of,
)
from fisherbo.space import Array

_SEVERAL = 3
_WAITS = [min(0.01 * 2**k, 1.0) for k in range(30)]
"""Longest seconds to wait after each row that another trial chose within the same milliseconds."""

Suggest = Callable[[list[FrozenTrial]], tuple[Request | None, Array | None]]
"""From the other trials to what is asked for and a point of it."""

Draw = Callable[[Candidates, list[FrozenTrial], Mapping[str, Any]], tuple[int, bool]]
"""From the list, the other trials and the values given to a row, and whether it is a repetition."""


def claim_row(
    study: Study,
    trial: FrozenTrial,
    candidates: Candidates,
    suggest: Suggest,
    draw: Draw,
    warn: Callable[[str], None],
) -> int:
    """The row that a trial evaluates, which is noted with it.

    Args:
        study: The study.
        trial: The trial.
        candidates: The list.
        suggest: Chooses a point of the list, if the space is known.
        draw: Draws a row where it is not.
        warn: Tells the user something.

    Raises:
        InvalidInputError: If no row agrees with the values that the trial has already.
    """
    with _noted(study, trial):
        given, rng = given_values(study.sampler, trial), np.random.default_rng(trial.number)
        for wait in _WAITS:
            trials = _others(study, trial)
            request, x = suggest(trials)
            if request is not None and request.candidates is not None and x is not None:
                row, repeated = request.candidates.at(x), request.candidates.repeated
            else:
                row, repeated = draw(candidates, trials, given)
            text = candidates.text(row)
            set_system_attr(study, trial, CANDIDATE, text)
            now = _others(study, trial)
            rivals = _with_claim(now, text) - _with_claim(trials, text)
            if not rivals:
                break
            time.sleep(rng.uniform(0, wait))
        if repeated:
            warn(checks.NO_MORE_AGREE if given else checks.NO_MORE_CANDIDATES)
        if ignored := _never_asked(candidates, trials):
            warn(checks.never_asked(ignored))
        return row


def claimed_value(
    study: Study,
    trial: FrozenTrial,
    candidates: Candidates,
    name: str,
    distribution: BaseDistribution,
) -> Any:
    """The value of a parameter in a trial's row.

    Raises:
        InvalidInputError: If the row lacks the parameter, or the distribution the value.
    """
    with _noted(study, trial):
        row = candidates.chosen(trial)
        if row is None:  # chosen with another list, or by another sampler
            given = given_values(study.sampler, trial)
            row = int(np.argmax(candidates.require_agreeing(given)))
        return candidates.value(row, name, distribution)


@contextmanager
def _noted(study: Study, trial: FrozenTrial) -> Iterator[None]:
    """Note that no row fits: then the trial's failure says nothing of the objective."""
    try:
        yield
    except InvalidInputError:
        set_system_attr(study, trial, CANDIDATE, "")
        raise


def _others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    return without_abandoned(study, other_trials_of_all_brackets(study, trial))


def _with_claim(trials: Sequence[FrozenTrial], text: str) -> set[int]:
    alive = (t for t in trials if status_of(t) != Status.KILLED)
    return {t.number for t in alive if t.system_attrs.get(CANDIDATE) == text}


def _never_asked(candidates: Candidates, trials: Sequence[FrozenTrial]) -> list[str]:
    """Parameters that the rows of several complete trials have and no trial has asked for."""
    complete = [t for t in trials if status_of(t) == Status.COMPLETE][-_SEVERAL:]
    rows = [row for t in complete if (row := candidates.chosen(t)) is not None]
    if len(rows) < _SEVERAL:
        return []
    asked = {name for t in trials for name in t.params}
    shared = set.intersection(*(set(candidates.params(row)) for row in rows))
    return sorted(shared - asked)
