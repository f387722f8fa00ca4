"""What a step of a running trial costs, in units of what a step of other trials did.

Large networks take longer for a step than small ones. A gain per step of trials yet to be started
is one per cost by what recent trials cost a step on average, and what a trial's remaining steps
cost follows from those that it has behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from optuna.trial import FrozenTrial

from fisherbo.sampler.costs import SECONDS, costs_of, number
from fisherbo.sampler.learning_curves import CurveAxis
from fisherbo.sampler.reports import last_step

STEPS = "steps"
"""The cost by which every step costs alike."""

_RECENT = 20


def relative_cost(
    trial: FrozenTrial, trials: Sequence[FrozenTrial], axis: CurveAxis, name: str
) -> float:
    """Cost of a step of a trial, divided by the mean of recent ones; 1 where it is not known.

    The trial counts as having made one more step, of the mean cost: its first one may be slow.

    Args:
        trial: A running trial with reports.
        trials: Finished trials with reports, in order of their numbers.
        axis: What reports mean.
        name: `STEPS`, `SECONDS`, or a user attribute with a trial's cost so far.
    """
    if name == STEPS:
        return 1.0
    recent = trials[-_RECENT:]
    pairs = zip(costs_of(recent, name).tolist(), (_steps(t, axis) for t in recent), strict=True)
    known = [(cost, steps) for cost, steps in pairs if cost > 0]
    spent = _so_far(trial, name)
    if not known or not spent > 0:
        return 1.0
    costs, steps = map(sum, zip(*known, strict=True))
    usual = costs / steps
    return (spent / usual + 1) / (_steps(trial, axis) + 1)


def _steps(trial: FrozenTrial, axis: CurveAxis) -> int:
    return max(axis.place(last_step(trial)), 1)


def _so_far(trial: FrozenTrial, name: str) -> float:
    """What a running trial cost so far; NaN where it is not known."""
    if name in trial.user_attrs:
        return number(trial.user_attrs[name])
    if name != SECONDS or trial.datetime_start is None:
        return math.nan
    return (datetime.now() - trial.datetime_start).total_seconds()
