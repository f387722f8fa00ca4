"""Where the trials of a study end in all of its objectives, as their learning curves let expect.

Each objective has a curve model of its own; their ends are taken as independent given the
parameters, as the sampler takes values. What an end is worth is its hypervolume improvement on the
front of the complete trials' ends, on the scale of the curves.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.acquisition.front_stopping import futures, non_dominated_probability
from fisherbo.acquisition.log_ehvi import (
    Cells,
    non_dominated,
    spread_out,
    wide_reference_point,
)
from fisherbo.acquisition.stopping import Stages, break_even
from fisherbo.sampler.categories import Categories
from fisherbo.sampler.curve_beliefs import CurveBeliefs, CurveReader, EndPrediction, Judgement
from fisherbo.sampler.learning_curves import CurveAxis
from fisherbo.sampler.reports import ObjectiveViews
from fisherbo.space import Array

_FEW = 1.0
"""Standard deviations below the least mean of the trials to come."""


@dataclass(frozen=True)
class FrontPrediction:
    """What is believed of the ends of a trial.

    Attributes:
        ends: Of each objective.
    """

    ends: tuple[EndPrediction, ...]

    @property
    def mean(self) -> Array:
        """Means, shape ``(m,)``."""
        return np.array([end.mean for end in self.ends])

    @property
    def variance(self) -> Array:
        """Variances, shape ``(m,)``."""
        return np.array([end.variance for end in self.ends])


@dataclass(frozen=True)
class FrontBeliefs:
    """The curves of a study's finished trials in each objective, and what they let expect.

    Attributes:
        parts: Of each objective.
        views: Trials in each objective.
    """

    parts: tuple[CurveBeliefs, ...]
    views: ObjectiveViews

    @property
    def axis(self) -> CurveAxis:
        """What reports mean."""
        return self.parts[0].axis

    @property
    def signs(self) -> tuple[float, ...]:
        """Of each objective, 1 where larger reports are better, −1 where smaller ones are."""
        return tuple(part.sign for part in self.parts)

    def tell_values(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether ends of curves are known to go with values in each objective.

        Args:
            trials: The trials that these beliefs are of, in the same order.
        """
        return all(part.tell_values(trials) for part in self.parts)

    def contradicted_by(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether values contradict the ends of curves in some objective.

        Args:
            trials: The trials that these beliefs are of, in the same order.
        """
        return any(part.contradicted_by(trials) for part in self.parts)

    def misled_at(self, step: int, trials: Sequence[FrozenTrial]) -> bool:
        """Whether reports up to a step contradict the ends of curves in some objective.

        Args:
            step: The step.
            trials: The trials that these beliefs are of, in the same order.
        """
        columns = self.views.columns(trials, len(self.parts))
        told = zip(self.parts, columns, strict=True)
        return any(part.misled_at(step, column) for part, column in told)

    def predict(self, trial: FrozenTrial) -> FrontPrediction:
        """What is to be expected of a running trial's ends."""
        seen = zip(self.parts, self.views.of(trial, len(self.parts)), strict=True)
        return FrontPrediction(tuple(part.predict(view) for part, view in seen))

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
        known = *self.quantiles(found), self.improvement_probability(found)
        return Judgement(gain, *known, gain < 0)

    def gain(self, found: FrontPrediction, step: int, patience: float) -> float:
        """Expected gain of going on from a step, less what a start makes of as many steps.

        Args:
            found: What is believed of the trial's ends.
            step: Its last step.
            patience: What the gain per step of a start is divided by.
        """
        known = zip(self.parts, found.ends, strict=True)
        stages = [part.stages_after(step, end) for part, end in known]
        return futures(found.mean[None], stages, self._cells).gain(self.rate / patience)

    def quantiles(self, found: FrontPrediction) -> tuple[list[float], list[float], list[float]]:
        """Low ends of the central 95 % intervals, medians and high ends, in units of reports."""
        known = zip(self.parts, found.ends, strict=True)
        low, median, high = zip(*(part.quantiles(end) for part, end in known), strict=True)
        return list(low), list(median), list(high)

    def improvement_probability(self, found: FrontPrediction) -> float:
        """Probability of an end that no complete trial's dominates."""
        return non_dominated_probability(found.mean, found.variance, self._front)

    @cached_property
    def rate(self) -> float:
        """Gain per step of starting another trial."""
        mean, stages = self._starts
        return break_even(futures(mean, stages, self._cells).gain, float(stages[0].cost[0]))

    @cached_property
    def _starts(self) -> tuple[Array, tuple[Stages, ...]]:
        """Means of the ends of trials yet to be started, ``(s, m)``, and their stages."""
        stages, means = zip(*(part.starts for part in self.parts), strict=True)
        count = min(map(len, means))
        return np.stack([each[-count:] for each in means], 1), stages

    @cached_property
    def _ends(self) -> Array:
        """Of complete trials, on the scale, shape ``(c, m)``."""
        return np.stack([part.ends for part in self.parts], 1)

    @cached_property
    def _front(self) -> Array:
        return self._ends[non_dominated(self._ends)]

    @cached_property
    def _cells(self) -> Cells:
        from fisherbo.botorch.hypervolume import decompose  # imported on first use: slow to import

        return decompose(spread_out(self._front), self._reference)

    @property
    def _reference(self) -> Array:
        """The reference point: the worst complete end, or where few of the trials to come end.

        Of one complete trial, or a few alike, the first would leave no room for trade-offs.
        """
        mean, stages = self._starts
        sd = np.sqrt([each.variance[0] for each in stages])
        return np.minimum(wide_reference_point(self._ends), mean.min(0) - _FEW * sd)


class FrontReader:
    """Reads the curves of one study of several objectives; what it keeps saves time only.

    Threads may share it.
    """

    def __init__(self) -> None:
        self.views = ObjectiveViews()
        self._lock = threading.Lock()
        self._readers: tuple[CurveReader, ...] = ()
        self._beliefs: FrontBeliefs | None = None

    def beliefs(
        self,
        study: Study,
        trial: FrozenTrial | None,
        trials: Sequence[FrozenTrial],
        max_step: int | None,
        categories: Categories,
    ) -> FrontBeliefs | None:
        """What finished trials let expect; None where some objective has no complete, finite end.

        Args:
            study: The study.
            trial: The trial that is asked about; None where nothing may be written.
            trials: The finished trials that have reports, in order of their numbers.
            max_step: The step at which curves end; the largest of complete trials if None.
            categories: Order and distances of choices, by the parameter's name.
        """
        m = len(study.directions)
        with self._lock:
            if len(self._readers) != m:
                self._readers = tuple(CurveReader(j) for j in range(m))
        asked = (None,) * m if trial is None else self.views.of(trial, m)
        columns = self.views.columns(trials, m)
        parts = []
        for reader, own, told in zip(self._readers, asked, columns, strict=True):
            part = reader.beliefs(study, own, told, max_step, categories)
            if part is None:
                return None
            parts.append(part)
        with self._lock:
            kept = self._beliefs
            if kept is None or any(a is not b for a, b in zip(kept.parts, parts, strict=True)):
                self._beliefs = kept = FrontBeliefs(tuple(parts), self.views)
            return kept
