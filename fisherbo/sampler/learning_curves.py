"""Learning curves of a study: what its trials reported, as the curve model sees it.

A curve ends with the last report of its trial, or with the best one where complete trials returned
their best. Curves are compared by their reports alone: the value that a trial returns may be of
another kind. Reports that are not finite are left out; a curve whose last report is not finite, or
worse than the scale can tell, has diverged: it is known to have ended at the floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.gp.curve_kernel import log_time
from fisherbo.gp.curve_scale import CurveScale
from fisherbo.gp.curves import Curve
from fisherbo.space import Array, Integers

_MOST_ROWS = 20
"""About so many reports of a curve are used, evenly spaced in logarithmic time, and its last."""


@dataclass(frozen=True)
class CurveAxis:
    """What the reports of all trials mean.

    Attributes:
        first: The smallest step.
        last: The step at which curves end.
        unit: Typical distance of two reports of a curve.
        sign: 1 where larger reports are better, −1 where smaller ones are.
        best: Whether a trial's value is its best report, not its last.
    """

    first: float
    last: float
    unit: float
    sign: float
    best: bool

    def read(self, reports: Mapping[int, float]) -> tuple[Array, Array]:
        """Steps and values, larger is better, ``(t,)`` each; a few of many steps."""
        steps = np.array(sorted(reports), dtype=np.float64)
        values = self.sign * np.array([reports[int(step)] for step in steps])
        if self.best:
            values = np.fmax.accumulate(values)
        place = np.rint((steps - self.first) / self.unit).astype(np.int64)
        kept = np.isin(place, self._places)
        kept[-1:] = True
        return steps[kept], values[kept]

    @property
    def _places(self) -> Integers:
        """Which reports are used, counted from 0."""
        count = max(int((self.last - self.first) / self.unit), 1) + 1
        return np.unique(np.geomspace(1, count, _MOST_ROWS).round().astype(np.int64)) - 1

    def times(self, steps: Array) -> Array:
        """Logarithmic time of steps, ``(t,)``."""
        return log_time(steps, self.first, self.last, self.unit)


@dataclass(frozen=True)
class CurveData:
    """The curves of finished trials.

    Attributes:
        axis: What their reports mean.
        scale: On which they are modelled.
        curves: One for each of the trials.
        row: Which of the trials they are, shape ``(n,)``.
        ends: Where complete trials ended, on the scale, shape ``(c,)``.
    """

    axis: CurveAxis
    scale: CurveScale
    curves: tuple[Curve, ...]
    row: Integers
    ends: Array

    def begun(self, reports: Mapping[int, float]) -> Curve:
        """The curve of a running trial, without reports that are not finite."""
        steps, values = self.axis.read(reports)
        return _curve(self.axis.times(steps), values, self.scale)


def curve_axis(
    trials: Sequence[FrozenTrial], sign: float, max_step: int | None = None
) -> CurveAxis | None:
    """What reports mean; None while no complete trial has two of them.

    Args:
        trials: Finished trials.
        sign: 1 where larger reports are better, −1 where smaller ones are.
        max_step: The step at which curves end; the largest that complete trials reported if None.
    """
    told = [t for t in trials if t.intermediate_values]
    complete = [t for t in told if t.state == TrialState.COMPLETE]
    gaps = [np.diff(sorted(t.intermediate_values)) for t in complete]
    unit = float(np.median(np.concatenate(gaps))) if gaps else 0.0
    if not unit > 0:
        return None
    first = min(min(t.intermediate_values) for t in told)
    last = max(max(t.intermediate_values) for t in complete) if max_step is None else max_step
    if last <= first:
        return None
    return CurveAxis(float(first), float(last), unit, sign, _returns_best(complete, sign))


def curve_data(trials: Sequence[FrozenTrial], axis: CurveAxis) -> CurveData | None:
    """The curves of finished trials; None where no complete one has a finite end."""
    told = [i for i, t in enumerate(trials) if t.intermediate_values]
    read = [axis.read(trials[i].intermediate_values) for i in told]
    complete = np.array([trials[i].state == TrialState.COMPLETE for i in told], dtype=bool)
    last = np.array([values[-1] for _, values in read])
    if not np.isfinite(last[complete]).any():
        return None
    scale = CurveScale.of(last)
    curves = []
    for (steps, values), whole in zip(read, complete.tolist(), strict=True):
        s = axis.times(steps)
        if whole or not math.isfinite(values[-1]):
            s[-1] = 0.0
        if not math.isfinite(values[-1]):
            s, values = s[-1:], np.array([-math.inf])
        curves.append(_curve(s, values, scale, ended=whole or s[-1] == 0))
    ends = scale(last[complete])
    return CurveData(axis, scale, tuple(curves), np.array(told, dtype=np.int64), ends)


def _curve(s: Array, values: Array, scale: CurveScale, *, ended: bool = False) -> Curve:
    """A curve of distinct times; the last of equal ones counts."""
    known = np.isfinite(values)
    if ended:
        known[-1] = True
    s, values = s[known], values[known]
    distinct = np.append(np.diff(s) < 0, True)[: len(s)]
    return Curve(s[distinct], scale(values[distinct]))


def _returns_best(complete: Sequence[FrozenTrial], sign: float) -> bool:
    """Whether more complete trials returned their best report than their last."""
    best = last = 0
    for trial in complete:
        reports, value = trial.intermediate_values, trial.value
        finite = [sign * v for v in reports.values() if math.isfinite(v)]
        if value is None or not finite:
            continue
        best += math.isclose(sign * value, max(finite), rel_tol=1e-9)
        last += math.isclose(value, reports[max(reports)], rel_tol=1e-9)
    return best > last
