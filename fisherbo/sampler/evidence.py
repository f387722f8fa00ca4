"""All that a study's trials say: values, slacks, and which points were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from fisherbo.gp.warp import warp
from fisherbo.sampler.noise import typical_noise
from fisherbo.sampler.objectives import observed, without
from fisherbo.sampler.reading import Reading
from fisherbo.sampler.slack import Slack, constraint_slacks, failure_slack
from fisherbo.space import Array, Data, Mask, Space, distinct


@dataclass(frozen=True)
class Taken:
    """Points that were or are under evaluation.

    Attributes:
        x: Shape ``(t, d)``.
        slack: Observed slack of each constraint, NaN where it is not known, shape ``(t, c)``.
        value: Warped values, shape ``(t,)``; NaN if there are several objectives or pending points,
            or if chance has a part in the values.
    """

    x: Array
    slack: Array
    value: Array


@dataclass(frozen=True)
class Evidence:
    """What trials say.

    Attributes:
        objectives: Observations of each objective, at the same points.
        slacks: Slack of each constraint, and of failures where they are many.
        x: Coordinates of all trials that were read, shape ``(n, d)``.
        asked: Which of them were not killed from outside, shape ``(n,)``.
        count: Number of trials that have values or failed.
        noise: Noise variances that the observations tell, 0 where none is given, shape ``(n,)``.
        faulty: Which trials have a value that is infinitely good, or too good to be true, ``(n,)``.
        own: Which observations are finite values that their trials ended with: a pruned trial's
            stands for others', shape ``(n,)``.
    """

    objectives: tuple[Data, ...]
    slacks: tuple[Slack, ...]
    x: Array
    asked: Mask
    count: int
    noise: Array
    faulty: Mask
    own: Mask

    @cached_property
    def warped(self) -> tuple[Array, ...]:
        """Values of each objective as models see them, each of shape ``(n,)``."""
        noise = typical_noise(self.noise) if len(self.objectives) == 1 else 0.0
        return tuple(warp(data.y, noise) for data in self.objectives)

    @property
    def visited(self) -> Array:
        """Points that were or are under evaluation, shape ``(v, d)``."""
        return self.x[self.asked]

    @cached_property
    def usable(self) -> Mask:
        """Which observations are finite and not known to be infeasible, shape ``(n,)``.

        An infinitely good value is a fault of the objective.
        """
        data = self.objectives[0]
        usable = np.isfinite(data.y)
        for slack in self.slacks:
            usable &= np.logical_not(slack.y[data.trial] < 0)
        return usable

    def taken(self, space: Space) -> Taken:
        """Points with values and pending ones; with coordinates that the space holds, if any."""
        data = self.objectives[0]
        points = np.concatenate([data.x, data.pending])
        slack = np.full((len(points), len(self.slacks)), np.nan)
        value = np.full(len(points), np.nan)
        if space.held is None:
            for column, s in zip(slack.T, self.slacks, strict=True):
                column[: len(data.x)] = s.y[data.trial]
            if self._tells_values():
                value = self.warped[0]
            return Taken(points, slack, value)
        points = space.snap(points)
        first, _ = distinct(points)
        return Taken(points[first], slack[first], value[first])

    def _tells_values(self) -> bool:
        data = self.objectives[0]
        alone = len(self.objectives) == 1 and not len(data.pending)
        return alone and len(data.y) > 0 and not self._noisy

    @cached_property
    def _noisy(self) -> bool:
        """Whether values of one point differ, or some trial tells its noise."""
        if self.noise.any():
            return True
        data = self.objectives[0]
        told = np.isfinite(data.y)
        y = data.y[told]
        first, group = distinct(data.x[told])
        return bool((y != y[first[group]]).any())

    def expecting(self, x: Array) -> Evidence:
        """The evidence with one more point ``(d,)`` under evaluation."""
        pending = np.concatenate([self.objectives[0].pending, x[None]])
        return replace(
            self,
            objectives=tuple(replace(d, pending=pending) for d in self.objectives),
            slacks=tuple(s.longer() for s in self.slacks),
            x=np.concatenate([self.x, x[None]]),
            asked=np.append(self.asked, True),
        )

    def merit(self) -> Array:
        """How good trials are, as far as is known: their first value, worst if none, ``(n,)``."""
        data = self.objectives[0]
        merit = np.full(len(self.x), -np.inf)
        merit[data.trial] = data.y
        return merit


def gather(
    space: Space,
    reading: Reading,
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
) -> Evidence:
    """The evidence of trials.

    Failures count as the worst values while they are few; else they are left out of the values.

    Args:
        space: The space.
        reading: What the trials say by themselves.
        trials: The trials.
        directions: Of the objectives.
    """
    objectives = observed(space, reading, trials, directions)
    count = len(objectives[0].y)
    slacks = constraint_slacks(reading)
    failed, faulty = np.zeros((2, len(trials)), dtype=bool)
    for data in objectives:
        failed[data.trial[~np.isfinite(data.y)]] = True
        faulty[data.trial[data.y == np.inf]] = True
    if failed.any():
        teaches = np.zeros(len(trials), dtype=bool)
        teaches[objectives[0].trial] = True
        failing = failure_slack(failed, teaches)
        if failing is not None:
            slacks.append(failing)
            objectives = tuple(without(data, failed.nonzero()[0]) for data in objectives)
    data = objectives[0]
    own = reading.complete[data.trial] & np.isfinite(data.y)
    x = np.where(np.isnan(reading.x), space.centre, reading.x)
    asked, noise = reading.located & ~reading.killed, reading.noise[data.trial]
    return Evidence(objectives, tuple(slacks), x, asked, count, noise, faulty, own)
