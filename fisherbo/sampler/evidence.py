"""All that a study's trials say: values, slacks, and which points were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler import memory
from fisherbo.sampler.noise import given_noise
from fisherbo.sampler.objectives import observed, without
from fisherbo.sampler.slack import Slack, constraint_slacks, failure_slack
from fisherbo.space import Array, Data, Mask, Space, distinct
from fisherbo.surrogate.replicates import merged
from fisherbo.surrogate.warp import warp


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
    """

    objectives: tuple[Data, ...]
    slacks: tuple[Slack, ...]
    x: Array
    asked: Mask
    count: int
    noise: Array

    @cached_property
    def warped(self) -> tuple[Array, ...]:
        """Values of each objective as models see them, each of shape ``(n,)``."""
        return tuple(warp(data.y) for data in self.objectives)

    @property
    def visited(self) -> Array:
        """Points that were or are under evaluation, shape ``(v, d)``."""
        return self.x[self.asked]

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
        data = self.objectives[0]
        told = np.isfinite(data.y)
        return bool(self.noise.any()) or merged(data.x[told], data.y[told]).scatter > 0

    def expecting(self, x: Array) -> Evidence:
        """The evidence with one more point ``(d,)`` under evaluation."""
        return Evidence(
            tuple(
                replace(d, pending=np.concatenate([d.pending, x[None]])) for d in self.objectives
            ),
            tuple(replace(s, y=np.append(s.y, np.nan)) for s in self.slacks),
            np.concatenate([self.x, x[None]]),
            np.append(self.asked, True),
            self.count,
            self.noise,
        )

    def merit(self) -> Array:
        """How good trials are, as far as is known: their first value, worst if none, ``(n,)``."""
        data = self.objectives[0]
        merit = np.full(len(self.x), -np.inf)
        merit[data.trial] = data.y
        return merit


def gather(
    space: Space,
    rows: Array,
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    constraints: Mapping[int, Mapping[str, float]],
) -> Evidence:
    """The evidence of trials.

    Failures count as the worst values while they are few; else they are left out of the values.

    Args:
        space: The space.
        rows: Coordinates of the trials, NaN where absent, shape ``(n, d)``.
        trials: The trials.
        directions: Of the objectives.
        constraints: Values of named constraints of finished trials, by the trial's number.
    """
    objectives = observed(space, rows, trials, directions)
    count = len(objectives[0].y)
    there = np.logical_not(np.isnan(rows).all(1))
    slacks = [_within(s, there) for s in constraint_slacks(trials, constraints)]
    failed = np.zeros(len(trials), dtype=bool)
    for data in objectives:
        failed[data.trial[~np.isfinite(data.y)]] = True
    if failed.any():
        teaches = np.zeros(len(trials), dtype=bool)
        teaches[objectives[0].trial] = True
        failing = failure_slack(failed, teaches)
        if failing is not None:
            slacks.append(failing)
            objectives = tuple(without(data, failed.nonzero()[0]) for data in objectives)
    x = np.where(np.isnan(rows), space.centre, rows)
    killed = np.array([_is_killed(t) for t in trials], dtype=bool)
    noise = given_noise(trials[i] for i in objectives[0].trial.tolist())
    return Evidence(objectives, tuple(slacks), x, there & ~killed, count, noise)


def _within(slack: Slack, there: Mask) -> Slack:
    return Slack(slack.key, np.where(there, slack.y, np.nan), slack.constant)


def _is_killed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and memory.FAILED not in trial.system_attrs
