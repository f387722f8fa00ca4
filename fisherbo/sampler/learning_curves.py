"""Learning curves of a study: what its trials reported, as the curve model sees it.

A curve ends with the last report of its trial, or with the best one where complete trials returned
their best. Curves are compared by their reports alone: the value that a trial returns may be of
another kind. Reports that are not finite are left out; a curve whose last report is not finite, or
worse than the scale can tell, has diverged: all that counts of it is that it ended at the floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.gp.curve_kernel import log_time
from fisherbo.gp.curve_scale import CurveScale
from fisherbo.gp.curves import Curve
from fisherbo.space import Array, Integers

_MOST_ROWS = 20
"""About so many reports of a curve are used, evenly spaced in logarithmic time, and its last."""

_MOST_STAGES = 100


@dataclass(frozen=True)
class CurveAxis:
    """What the reports of all trials mean.

    Attributes:
        first: The smallest step.
        last: The step at which curves end.
        unit: Typical distance of two reports of a curve.
        best: Whether a trial's value is its best report, not its last.
    """

    first: float
    last: float
    unit: float
    best: bool

    @cached_property
    def count(self) -> int:
        """Reports of a whole curve."""
        return round((self.last - self.first) / self.unit) + 1

    def place(self, step: float) -> int:
        """How many reports of a whole curve there are up to a step."""
        return round((step - self.first) / self.unit) + 1

    def read(self, reports: Mapping[int, float], sign: float) -> tuple[Array, Array]:
        """Times and values, larger is better, ``(t,)`` each; of many reports, a few.

        Args:
            reports: Values by step.
            sign: 1 where larger reports are better, −1 where smaller ones are.
        """
        steps = np.array(sorted(reports), dtype=np.float64)
        values = sign * np.array([reports[int(step)] for step in steps])
        if self.best:
            values = np.fmax.accumulate(values)
        place = np.rint((steps - self.first) / self.unit).astype(np.int64)
        kept = np.isin(place, self._places)
        kept[-1:] = True
        return self.times(steps[kept]), values[kept]

    def report_at(self, step: int, trial: FrozenTrial, sign: float) -> float:
        """The last report of a trial up to a step, larger is better; NaN if there is none.

        Args:
            step: The step.
            trial: The trial.
            sign: 1 where larger reports are better, −1 where smaller ones are.
        """
        told = {k: v for k, v in trial.intermediate_values.items() if k <= step}
        if not told:
            return math.nan
        if self.best:
            return float(np.fmax.reduce([sign * v for v in told.values()]))
        return sign * told[max(told)]

    def times(self, steps: Array) -> Array:
        """Logarithmic time of steps, ``(t,)``."""
        return log_time(steps, self.first, self.last, self.unit)

    @cached_property
    def regular(self) -> Array:
        """Times of the reports of a whole curve, at most 100, ``(t,)``."""
        count = min(self.count, _MOST_STAGES)
        return self.times(np.linspace(self.first, self.last, count))

    @cached_property
    def _places(self) -> Integers:
        """Which reports are used, counted from 0."""
        places = np.geomspace(1, self.count, _MOST_ROWS).round().astype(np.int64)
        return np.unique(places) - 1


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
    unit = np.concatenate([np.empty(0), *gaps])
    if not len(unit):
        return None
    first = min(min(t.intermediate_values) for t in told)
    last = max(max(t.intermediate_values) for t in complete) if max_step is None else max_step
    if last <= first:
        return None
    best = _returns_best(complete, sign)
    return CurveAxis(float(first), float(last), float(np.median(unit)), best)


def last_report(trial: FrozenTrial, axis: CurveAxis, sign: float) -> float:
    """The end of a finished curve, larger is better, or what is known of it: not finite if bad."""
    return float(axis.read(trial.intermediate_values, sign)[1][-1])


def curve_of(trial: FrozenTrial, axis: CurveAxis, scale: CurveScale, sign: float) -> Curve:
    """The curve of a trial, on the scale; of distinct times, of which the last reports count.

    Args:
        trial: A trial with reports.
        axis: What they mean.
        scale: On which curves are modelled.
        sign: 1 where larger reports are better, −1 where smaller ones are.
    """
    s, values = axis.read(trial.intermediate_values, sign)
    diverged = trial.state.is_finished() and not math.isfinite(values[-1])
    if trial.state == TrialState.COMPLETE or diverged:
        s[-1] = 0.0
    known = np.isfinite(values)
    if diverged:
        known[:-1], known[-1] = False, True
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
