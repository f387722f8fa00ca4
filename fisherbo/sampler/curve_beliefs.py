"""Where the trials of a study end, as their learning curves and parameters let expect."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from fisherbo.acquisition.stopping import Stages, expected_improvement, start_rate
from fisherbo.gp.curve_model import CurveModel, condition_on_ends
from fisherbo.gp.curves import end_variances
from fisherbo.sampler import curve_store
from fisherbo.sampler.agreement import contradict, tell
from fisherbo.sampler.categories import Categories, described, labels
from fisherbo.sampler.coordinates import Coordinates
from fisherbo.sampler.curve_ends import EndCache, fit_study
from fisherbo.sampler.curve_store import StudyCurves
from fisherbo.sampler.learning_curves import CurveAxis, curve_axis, curve_of, last_report
from fisherbo.sampler.recommend import QUANTILE
from fisherbo.sampler.trials import StudyReader
from fisherbo.space import Array

_GROWTH = 1.15  # of the number of curves from one fit to the next
_RECENT = 20
"""Trials whose expected ends, before they began, stand for those of trials yet to be started."""

_INFLATION = 2.0
"""Factor of the variance of ends before a trial begins. A sampler begins trials where the process
errs: given 16 or 30 trials of a study and two to eight reports, its 90 % intervals held 73, 68 and
91 % of the ends of the trials to come (lcbench, TaskSet, training shares; 8, 8 and 4 studies), with
the factor 88, 75 and 92 %, and the mean log density rose by .38, .24 and −.01."""

_GROUPS = 5
"""Groups of these by their variance. With the mean variance for all, trials that are sure to end a
little below the best would count as likely to end far above it: no trial in hand is worth as much
as such starts, and all are stopped."""

_UNLIKELY, _LIKELY = 0.05, 0.5
"""Chances of an improvement below which a trial may be stopped whatever its reports say, and from
which on it goes on."""

_STOPS = (1, 2, 4, 7, 12, 20, 30, 45, 70)  # steps from now at which a stop is considered


@dataclass(frozen=True)
class EndPrediction:
    """What is believed of the end of a trial, on the scale of the curves; larger is better.

    Attributes:
        mean: Mean.
        variance: Variance.
        prior_mean: Mean before the trial reported anything.
        prior_variance: Variance before that.
    """

    mean: float
    variance: float
    prior_mean: float
    prior_variance: float


@dataclass(frozen=True)
class Judgement:
    """What speaks for going on with a trial.

    Attributes:
        gain: Expected gain of going on, less what a start makes of as many steps.
        low: Low end of the central 95 % interval of its end, in units of reports; of several
            objectives a list, as are the next two.
        median: Median of its end.
        high: High end.
        improvement: Probability of an end better than the best, or that none dominates.
        stops: Whether the trial should stop.
    """

    gain: float
    low: float | list[float]
    median: float | list[float]
    high: float | list[float]
    improvement: float
    stops: bool


@dataclass(frozen=True)
class CurveBeliefs:
    """The curves of a study's finished trials, and what they let expect of others.

    Attributes:
        curves: The fit.
        model: Given the finished trials' curves.
        reached: Ends of complete trials, larger is better, in units of the reports, ``(c,)``.
        place: Coordinates of trials.
        sign: 1 where larger reports are better, −1 where smaller ones are.
        objective: Which of the study's objectives they are of.
    """

    curves: StudyCurves
    model: CurveModel
    reached: Array
    place: Coordinates
    sign: float
    objective: int = 0

    @cached_property
    def ends(self) -> Array:
        """Of complete trials, on the scale, shape ``(c,)``."""
        return self.curves.scale(self.reached)

    @property
    def best(self) -> float:
        """The best end of a complete trial, on the scale."""
        return float(self.ends.max())

    @property
    def axis(self) -> CurveAxis:
        """What reports mean."""
        return self.curves.axis

    @property
    def signs(self) -> tuple[float]:
        """The sign of the only objective."""
        return (self.sign,)

    def tell_values(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether ends of curves are known to go with what the complete trials returned.

        Args:
            trials: The trials that these beliefs are of, in the same order.
        """
        return tell(self.reached, self._returned(trials))

    def contradicted_by(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether what the complete trials returned contradicts where their curves ended.

        Args:
            trials: The trials that these beliefs are of, in the same order.
        """
        return contradict(self.reached, self._returned(trials))

    def _returned(self, trials: Sequence[FrozenTrial]) -> Array:
        """Values of the complete trials, larger is better, shape ``(c,)``."""
        return self.sign * np.array([t.values[self.objective] for t in trials if _complete(t)])

    def misled_at(self, step: int, trials: Sequence[FrozenTrial]) -> bool:
        """Whether reports of the complete trials up to a step contradict where their curves ended.

        Args:
            step: The step.
            trials: The trials that these beliefs are of, in the same order.
        """
        early = [self.axis.report_at(step, t, self.sign) for t in trials if _complete(t)]
        return contradict(np.array(early), self.ends)

    def predict(self, trial: FrozenTrial) -> EndPrediction:
        """What is to be expected of a running trial's end."""
        x = self.place([trial])[0]
        curve = curve_of(trial, self.curves.axis, self.curves.scale, self.sign)
        return EndPrediction(*self.model.end(x, curve), *self.model.before(x))

    def judge(self, trial: FrozenTrial, step: int, patience: float, cost: float = 1.0) -> Judgement:
        """What speaks for going on with a running trial.

        Args:
            trial: The trial.
            step: Its last step.
            patience: What the gain per step of a start is divided by.
            cost: Of a step of the trial, relative to that of others.
        """
        found = self.predict(trial)
        gain = self.gain(found, step, patience / cost)
        improvement = self.improvement_probability(found)
        told = improvement < _UNLIKELY or self.lowered(found) < 1 / patience
        stops = told and improvement < _LIKELY and gain < 0
        return Judgement(gain, *self.quantiles(found), improvement, stops)

    def gain(self, found: EndPrediction, step: int, patience: float) -> float:
        """Expected gain of going on from a step, less what a start makes of as many steps.

        Args:
            found: What is believed of the trial's end.
            step: Its last step.
            patience: What the gain per step of a start is divided by.
        """
        stages = self.stages_after(step, found)
        return float(stages.gain(np.array([found.mean]), self.rate / patience)[0])

    def lowered(self, found: EndPrediction) -> float:
        """What a trial's reports multiplied its expected improvement by."""
        now = expected_improvement(np.array([found.mean]), found.variance, self.best)
        prior = np.array([found.prior_mean])
        before = expected_improvement(prior, found.prior_variance, self.best)
        return float(now[0] / before[0]) if before[0] > 0 else 1.0

    def quantiles(self, found: EndPrediction) -> tuple[float, float, float]:
        """Low end of the central 95 % interval, median, and high end, in units of reports."""
        sd = math.sqrt(found.variance)
        ends = found.mean + QUANTILE * sd * np.array([-1.0, 0.0, 1.0])
        low, median, high = sorted((self.sign * self.curves.scale.values(ends)).tolist())
        return low, median, high

    def improvement_probability(self, found: EndPrediction) -> float:
        """Probability of an end better than the best."""
        return float(ndtr((found.mean - self.best) / math.sqrt(found.variance)))

    @cached_property
    def rate(self) -> float:
        """Gain per step of starting another trial."""
        mean, variance = self.model.starts(_RECENT)
        groups = np.array_split(np.argsort(variance, kind="stable"), min(_GROUPS, len(mean)))
        typical = [float(variance[group].mean()) for group in groups]
        stages = [self._stages(0, each, each) for each in typical]
        return start_rate([(s, mean[g]) for s, g in zip(stages, groups, strict=True)])

    @cached_property
    def starts(self) -> tuple[Stages, Array]:
        """Stages of a typical trial to be started, and means of the ends it may have, ``(s,)``."""
        mean, variance = self.model.starts(_RECENT)
        typical = float(variance.mean())
        return self._stages(0, typical, typical), mean

    def stages_after(self, step: int, found: EndPrediction) -> Stages:
        """Where a trial may be stopped that is at a step.

        Args:
            step: Its last step.
            found: What is believed of its end.
        """
        done = self.curves.axis.place(step)
        return self._stages(done, found.prior_variance, found.variance)

    def _stages(self, done: int, before: float, now: float) -> Stages:
        """Where a trial of so many reports may be stopped.

        Args:
            done: Reports so far.
            before: Variance of its end before the first.
            now: Variance of its end now.
        """
        count = self.curves.axis.count
        stops = np.array(sorted({min(done + more, count) for more in (*_STOPS, count)}))
        place = np.ceil(stops / count * len(self._known)).astype(np.int64) - 1
        later = 1 / (1 / before + 1 / self._known[place])
        variance = np.minimum.accumulate(np.append(now, later))
        return Stages(np.diff(np.append(done, stops)).astype(np.float64), variance, self.best)

    @cached_property
    def _known(self) -> Array:
        """Variance v of a curve after each of its reports, or after 100 evenly spaced ones."""
        return end_variances(self.curves.axis.regular, self.curves.fit.psi)


def _complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


class CurveReader:
    """Reads the curves of one study's finished trials; what it keeps saves time only.

    Threads may share it.

    Args:
        objective: Which of several objectives; None for the only one.
    """

    def __init__(self, objective: int | None = None) -> None:
        self._objective = objective
        self._lock = threading.Lock()
        self._reader = StudyReader()
        self._curves: StudyCurves | None = None
        self._cache = EndCache()
        self._numbers: tuple[int, ...] = ()
        self._beliefs: CurveBeliefs | None = None

    def beliefs(
        self,
        study: Study,
        trial: FrozenTrial | None,
        trials: Sequence[FrozenTrial],
        max_step: int | None,
        categories: Categories,
    ) -> CurveBeliefs | None:
        """What finished trials let expect; None where no complete one has a finite end.

        A fit is renewed, and kept with the trial that is asked about, once the curves have grown by
        15 %, or end at another step.

        Args:
            study: The study.
            trial: The trial that is asked about; None where nothing may be written.
            trials: The finished trials that have reports, in order of their numbers.
            max_step: The step at which curves end; the largest of complete trials if None.
            categories: Order and distances of choices, by the parameter's name.
        """
        direction = study.directions[self._objective or 0]
        sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
        axis = curve_axis(trials, sign, max_step)
        if axis is None:
            return None
        ends = np.array([last_report(t, axis, sign) for t in trials if _complete(t)])
        if not np.isfinite(ends).any():
            return None
        with self._lock:
            every = [*trials] if trial is None else [*trials, trial]
            parameters = self._reader.parameters(every).varying
            place = Coordinates(described(parameters, categories))
            curves = self._fitted(study, trial, trials, axis, sign, place)
            numbers = tuple(t.number for t in trials)
            if curves is not self._curves or numbers != self._numbers or self._beliefs is None:
                seen = self._cache.observed(curves, trials, sign)
                model = condition_on_ends(
                    seen, place(trials), place.kinds, curves.fit, inflation=_INFLATION
                )
                self._beliefs = CurveBeliefs(curves, model, ends, place, sign, self._objective or 0)
                self._curves, self._numbers = curves, numbers
            return self._beliefs

    def _fitted(
        self,
        study: Study,
        trial: FrozenTrial | None,
        trials: Sequence[FrozenTrial],
        axis: CurveAxis,
        sign: float,
        place: Coordinates,
    ) -> StudyCurves:
        """The last fit while it is recent enough, else a new one."""
        names = labels(place.search_space)
        key = curve_store.key_of(self._objective)
        every = [*trials] if trial is None else [*trials, trial]
        known = curve_store.latest(every, names, key)
        if known and known.axis == axis and len(trials) < _GROWTH * known.fit.count:
            return known
        start = None if known is None else known.fit
        found = fit_study(trials, axis, sign, place(trials), place.kinds, start)
        return curve_store.write(study, trial, names, found, key)
