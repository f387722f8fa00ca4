"""The values of a study's trials, one set of observations for each objective."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler import memory
from fisherbo.sampler.convert import to_data
from fisherbo.space import Array, Data, Integers, Space


def observed(
    space: Space,
    rows: Array,
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
) -> tuple[Data, ...]:
    """Observations of each objective at the same points, and pending points.

    With several objectives a complete trial counts with its values and one that failed by itself
    with −inf; pruned ones have no values.

    Args:
        space: The space.
        rows: Coordinates of the trials, NaN where absent, shape ``(n, d)``.
        trials: The trials.
        directions: Of the objectives.
    """
    signs = [1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions]
    if len(signs) == 1:
        return (to_data(space, rows, trials, maximize=signs[0] > 0),)
    there = ~np.isnan(rows).all(1)
    told = np.array([_is_told(t) for t in trials], dtype=bool) & there
    running = np.array([t.state == TrialState.RUNNING for t in trials], dtype=bool) & there
    x, which = np.where(np.isnan(rows), space.centre, rows), told.nonzero()[0]
    values = [trials[i].values if _is_complete(trials[i]) else None for i in which.tolist()]
    return tuple(
        Data(x[told], _column(values, j, sign), x[running], which) for j, sign in enumerate(signs)
    )


def without(data: Data, dropped: Integers) -> Data:
    """The observations less those of some of the trials that were read."""
    kept = ~np.isin(data.trial, dropped)
    return Data(data.x[kept], data.y[kept], data.pending, data.trial[kept])


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _is_told(trial: FrozenTrial) -> bool:
    return _is_complete(trial) or (
        trial.state == TrialState.FAIL and memory.FAILED in trial.system_attrs
    )


def _column(values: Sequence[Sequence[float] | None], j: int, sign: float) -> Array:
    return np.array([-math.inf if v is None else sign * v[j] for v in values], dtype=np.float64)
