"""The values of a study's trials, one set of observations for each objective."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from fisherbo.sampler.faults import without_faults
from fisherbo.sampler.pruned import with_pruned
from fisherbo.sampler.reading import Reading
from fisherbo.space import Data, Integers, Space


def observed(
    space: Space,
    reading: Reading,
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
) -> tuple[Data, ...]:
    """Observations of each objective at the same points, and pending points.

    A complete trial counts with its values; −inf stands for one that failed by itself or returned a
    penalty, +inf for values too good to be true: the warp maps both to the last rank. With one
    objective a pruned trial counts with the value that its rank among the trials suggests. Trials
    without any parameter of the space say nothing.

    Args:
        space: The space.
        reading: What the trials say.
        trials: The trials.
        directions: Of the objectives.
    """
    sign = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions])
    value = np.where(reading.failed[:, None], -math.inf, reading.value * sign)
    value = np.stack([without_faults(c, penalties=len(sign) == 1) for c in value.T], 1)
    there = reading.located
    x = np.where(np.isnan(reading.x), space.centre, reading.x)
    if len(sign) == 1:
        value[:, 0] = with_pruned(value[:, 0], x, reading, trials, float(sign[0]))
    which = (there & ~np.isnan(value[:, 0])).nonzero()[0]
    pending = x[there & reading.running]
    return tuple(Data(x[which], column, pending, which) for column in value[which].T)


def without(data: Data, dropped: Integers) -> Data:
    """The observations less those of some of the trials that were read."""
    kept = ~np.isin(data.trial, dropped)
    return Data(data.x[kept], data.y[kept], data.pending, data.trial[kept])
