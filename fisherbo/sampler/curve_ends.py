"""What learning curves say of the ends of trials, from one fit of the curve model to the next.

`FisherPruner` keeps its fits with the trials (`curve_store`). With other pruners there are none:
then the model is fitted to the first of the finished trials, as many as the last power of 1.3
tells, so that the study's trials alone decide, whichever process reads them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import NumericalError
from fisherbo.gp.curve_model import WORST, CurveFit, fit_curves
from fisherbo.gp.curve_scale import CurveScale
from fisherbo.gp.curves import EndObservations, end_observations, grouped
from fisherbo.kinds import Kinds
from fisherbo.sampler import curve_store
from fisherbo.sampler.curve_store import StudyCurves
from fisherbo.sampler.learning_curves import CurveAxis, curve_axis, curve_of, last_report
from fisherbo.sampler.reports import ObjectiveViews
from fisherbo.sampler.trials import Status, TrialTable
from fisherbo.space import Array, Integers, Mask, Space

_GROWTH = 1.3
_LEAST_COMPLETE = 2  # with fewer, neither the scale nor the model is known
_LEAST_REPORTS, _LEAST_OF_RUNNING = 2, 3
_MOST_VARIANCE = 1.0  # of all ends


@dataclass(frozen=True)
class CurveEnds:
    """What curves say of the ends of pruned and running trials, on the scale of the curves.

    Attributes:
        row: The table's rows of these trials, shape ``(p,)``.
        seen: What each curve says of its end.
        scale: The scale.
        complete: Rows of complete trials that have a curve, shape ``(c,)``.
        reached: Their ends, larger is better, in units of the reports, ``(c,)``; NaN or infinite
            for a curve that diverged.
    """

    row: Integers
    seen: EndObservations
    scale: CurveScale
    complete: Integers
    reached: Array


def fit_study(
    trials: Sequence[FrozenTrial],
    axis: CurveAxis,
    sign: float,
    x: Array,
    kinds: Kinds,
    start: CurveFit | None = None,
) -> StudyCurves:
    """The curve model fitted to finished trials with reports, one of them complete at least.

    Args:
        trials: The trials.
        axis: What their reports mean.
        sign: 1 where larger reports are better, −1 where smaller ones are.
        x: Their coordinates, shape ``(n, d)``.
        kinds: What the coordinates are.
        start: An earlier fit to start from.
    """
    read = [axis.read(t.intermediate_values, sign)[1] for t in trials]
    scale = CurveScale.of(*(np.array([v[k] for v in read]) for k in (-1, 0)))
    curves = [curve_of(t, axis, scale, sign) for t in trials]
    whole = np.array([t.state == TrialState.COMPLETE for t in trials])
    return StudyCurves(axis, scale, fit_curves(curves, x, kinds, whole, start))


class EndCache:
    """What curves of finished trials say of their ends; each is read once for each fit."""

    def __init__(self) -> None:
        self._curves: StudyCurves | None = None
        self._ends: dict[int, tuple[float, float]] = {}

    def observed(
        self, curves: StudyCurves, trials: Sequence[FrozenTrial], sign: float
    ) -> EndObservations:
        """What the trials' curves, which have reports, say of their ends."""
        if curves is not self._curves:
            self._curves, self._ends = curves, {}
        new = [t for t in trials if t.number not in self._ends]
        read = [curve_of(t, curves.axis, curves.scale, sign) for t in new]
        seen = end_observations(grouped(read), curves.fit.psi).at_least(WORST)
        pairs = zip(seen.value.tolist(), seen.variance.tolist(), strict=True)
        found = dict(zip((t.number for t in new), pairs, strict=True))
        self._ends.update({t.number: found[t.number] for t in new if t.state.is_finished()})
        both = np.array([self._ends.get(t.number) or found[t.number] for t in trials])
        return EndObservations(both[:, 0], both[:, 1])


class ObjectiveEnds:
    """Reads what the curves of one study say of its trials' ends in one of its objectives.

    What it keeps saves time only. Threads may share it.

    Args:
        objective: Which of several objectives; None for the only one.
    """

    def __init__(self, objective: int | None = None) -> None:
        self._key_of_fit = curve_store.key_of(objective)
        self._lock = threading.Lock()
        self._cache = EndCache()
        self._key: tuple[object, ...] = ()
        self._fitted: StudyCurves | None = None
        self._axis: CurveAxis | None = None
        self._reached: dict[int, float] = {}

    def ends(
        self,
        trials: Sequence[FrozenTrial],
        table: TrialTable,
        space: Space,
        names: Sequence[str],
        direction: StudyDirection,
    ) -> CurveEnds | None:
        """What curves say of pruned and running trials; None where they say nothing.

        They say nothing before two trials with reports are complete, of a
        trial with fewer than two reports, or three if it runs, of one whose last report is not
        finite or that speaks for an end below what the model can tell (it got worse than at its
        start), and where they leave more doubt than there is about any trial.

        Args:
            trials: The trials of the study in this objective, in order of their numbers.
            table: The same trials.
            space: Their space.
            names: Names of the parameters, in the order of the coordinates.
            direction: Of the objective.
        """
        asked = _asked(trials, table)
        if not asked.any():
            return None
        sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
        known = table.located & table.have(Status.COMPLETE, Status.PRUNED)
        known &= np.array([bool(t.intermediate_values) for t in trials])
        finished, complete = known.nonzero()[0], (known & table.have(Status.COMPLETE)).nonzero()[0]
        told = [trials[i] for i in finished.tolist()]
        axis = curve_axis(told, sign)
        if len(complete) < _LEAST_COMPLETE or axis is None:
            return None
        x, row = table.points(space)[finished], asked.nonzero()[0]
        try:
            with self._lock:
                fit = self._latest(told, x, space.kinds, names, axis, sign)
                seen = self._cache.observed(fit, [trials[i] for i in row.tolist()], sign)
                reached = self._ends_of([trials[i] for i in complete.tolist()], fit.axis, sign)
        except NumericalError:
            return None
        sure = (seen.variance <= _MOST_VARIANCE) & (seen.value > WORST)
        seen = EndObservations(seen.value[sure], seen.variance[sure])
        return CurveEnds(row[sure], seen, fit.scale, complete, reached) if sure.any() else None

    def _latest(
        self,
        trials: Sequence[FrozenTrial],
        x: Array,
        kinds: Kinds,
        names: Sequence[str],
        axis: CurveAxis,
        sign: float,
    ) -> StudyCurves:
        """The pruner's last fit while it is recent enough, else our own to the first trials."""
        kept = curve_store.latest(trials, names, self._key_of_fit)
        if kept is not None and len(trials) < _GROWTH * kept.fit.count:
            if kept.axis.best == axis.best and kept.axis.last >= axis.last:
                return kept
        count = _power(len(trials))
        part = curve_axis(trials[:count], sign)
        if part is None:
            count, part = len(trials), axis
        axis = replace(part, last=axis.last, best=axis.best)
        key = (tuple(t.number for t in trials[:count]), tuple(names), axis, x[:count].tobytes())
        if self._fitted is None or key != self._key:
            self._fitted = fit_study(trials[:count], axis, sign, x[:count], kinds)
            self._key = key
        return self._fitted

    def _ends_of(self, trials: Sequence[FrozenTrial], axis: CurveAxis, sign: float) -> Array:
        """Ends of complete trials, each read once."""
        if axis != self._axis:
            self._axis, self._reached = axis, {}
        for trial in trials:
            if trial.number not in self._reached:
                self._reached[trial.number] = last_report(trial, axis, sign)
        return np.array([self._reached[t.number] for t in trials])


class EndReader:
    """Reads what the curves of one study say of its trials' ends; what it keeps saves time only.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views = ObjectiveViews()
        self._parts: tuple[ObjectiveEnds, ...] = ()

    def ends(
        self,
        trials: Sequence[FrozenTrial],
        table: TrialTable,
        space: Space,
        names: Sequence[str],
        directions: Sequence[StudyDirection],
    ) -> tuple[CurveEnds | None, ...]:
        """What curves say of pruned and running trials in each objective.

        Args:
            trials: The trials of the study, in order of their numbers.
            table: The same trials.
            space: Their space.
            names: Names of the parameters, in the order of the coordinates.
            directions: Of the objectives.
        """
        m = len(directions)
        with self._lock:
            if len(self._parts) != m:
                self._parts = tuple(ObjectiveEnds(j if m > 1 else None) for j in range(m))
        read = zip(self._parts, self._views.columns(trials, m), directions, strict=True)
        return tuple(part.ends(told, table, space, names, way) for part, told, way in read)


def _asked(trials: Sequence[FrozenTrial], table: TrialTable) -> Mask:
    """Which trials are pruned or running and have enough reports, the last one finite."""
    running = table.have(Status.RUNNING)
    asked = table.located & (running | table.have(Status.PRUNED))
    for i in asked.nonzero()[0].tolist():
        reports = trials[i].intermediate_values
        least = _LEAST_OF_RUNNING if running[i] else _LEAST_REPORTS
        asked[i] = len(reports) >= least and math.isfinite(reports[max(reports)])
    return asked


def _power(n: int) -> int:
    """The largest whole part of a power of 1.3 up to ``n``."""
    size = 1.0
    while size * _GROWTH < n + 1:
        size *= _GROWTH
    return int(size)
