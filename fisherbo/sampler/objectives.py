"""The values of a study's trials, one set of observations for each objective."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.reading import Reading
from fisherbo.space import Array, Data, Integers, Space


def observed(
    space: Space,
    reading: Reading,
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
) -> tuple[Data, ...]:
    """Observations of each objective at the same points, and pending points.

    A complete trial counts with its values, one that failed by itself with −inf, which the warp
    maps to the last rank. With one objective a pruned trial counts with the value that its rank at
    its last step suggests, else it says nothing; nor do trials without any parameter of the space.

    Args:
        space: The space.
        reading: What the trials say.
        trials: The trials.
        directions: Of the objectives.
    """
    sign = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions])
    value = np.where(reading.failed[:, None], -math.inf, reading.value * sign)
    if len(sign) == 1:
        value[:, 0] = _with_pruned(value[:, 0], reading, trials, float(sign[0]))
    absent = np.isnan(reading.x)
    there = np.logical_not(absent.all(1))
    x = np.where(absent, space.centre, reading.x)
    which = (there & ~np.isnan(value[:, 0])).nonzero()[0]
    pending = x[there & reading.running]
    return tuple(Data(x[which], column, pending, which) for column in value[which].T)


def without(data: Data, dropped: Integers) -> Data:
    """The observations less those of some of the trials that were read."""
    kept = ~np.isin(data.trial, dropped)
    return Data(data.x[kept], data.y[kept], data.pending, data.trial[kept])


def _with_pruned(
    value: Array, reading: Reading, trials: Sequence[FrozenTrial], sign: float
) -> Array:
    """Values ``(n,)``, larger is better, with those that pruned trials stand for."""
    pruned = (reading.state == TrialState.PRUNED.value).nonzero()[0].tolist()
    if not pruned:
        return value
    expected, value = _FinalValue(trials, sign), value.copy()
    for i in pruned:
        value[i] = expected(trials[i])
    return value


class _FinalValue:
    """The final value, larger is better, that a pruned trial stands for; NaN if it has none.

    It is the value at the quantile that its last report has among reports of its step.
    """

    def __init__(self, trials: Sequence[FrozenTrial], sign: float) -> None:
        self._sign = sign
        self._complete = [t for t in trials if t.state == TrialState.COMPLETE]
        self._finals = sorted(sign * t.values[0] for t in self._complete)
        self._at_step: dict[int, list[float]] = {}

    def __call__(self, trial: FrozenTrial) -> float:
        if not trial.intermediate_values or not self._finals:
            return math.nan
        step = max(trial.intermediate_values)
        report = self._sign * trial.intermediate_values[step]
        peers = self._reports(step)
        if math.isnan(report) or not peers:
            return math.nan if peers else self._finals[0]
        share = bisect.bisect_left(peers, report) / len(peers)
        return self._finals[min(int(share * len(self._finals)), len(self._finals) - 1)]

    def _reports(self, step: int) -> list[float]:
        if step not in self._at_step:
            values = (t.intermediate_values.get(step) for t in self._complete)
            signed = (self._sign * v for v in values if v is not None and not math.isnan(v))
            self._at_step[step] = sorted(signed)
        return self._at_step[step]
