"""Values of the objectives as the models see them: of complete, pruned and failed trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from optuna.study import StudyDirection

from fisherbo.gp.warp import (
    finite,
    interval_variance,
    standardize,
    warp,
    warped_noise,
    without_gaps,
)
from fisherbo.sampler.constraints import (
    FAILURES,
    ConstraintData,
    constraint_data,
    failure_data,
)
from fisherbo.sampler.curve_ends import CurveEnds
from fisherbo.sampler.end_values import predicted_values
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.outliers import without_outliers
from fisherbo.sampler.pruned import with_pruned
from fisherbo.sampler.trials import Status, TrialTable
from fisherbo.space import Array, Integers, Mask, Space, distinct

_LINEAR_OBJECTIVES = 3  # of two, ranks model bbob-biobj better


@dataclass(frozen=True)
class KnownPoints:
    """Points that were or are under evaluation.

    Attributes:
        x: Shape ``(t, d)``.
        constraints: Observation of each constraint, NaN where it is not known, shape ``(t, c)``.
        value: Warped values, shape ``(t,)``; NaN if there are several objectives or pending points,
            or if the values are noisy.
    """

    x: Array
    constraints: Array
    value: Array


@dataclass(frozen=True)
class Observations:
    """The observations of objectives and constraints in a table of trials.

    Attributes:
        x: Coordinates of the observations, shape ``(n, d)``.
        y: Values of each objective, larger is better, shape ``(n, m)``; −inf for a failure, +inf
            for an implausibly good value.
        row: The table's row of each observation, shape ``(n,)``.
        noise: Noise variances, 0 where none is given, shape ``(n,)``.
        own: Which observations are finite final values, shape ``(n,)``. Those of pruned trials are
            not: they are derived from the values of other trials.
        pending: Coordinates under evaluation, shape ``(p, d)``.
        constraints: Observations of each constraint, and of failures where they are many.
        points: Coordinates of all rows of the table, shape ``(t, d)``.
        evaluated: Coordinates that were or are under evaluation, shape ``(v, d)``.
        count: Number of trials that have values or failed.
        too_good: Which rows have a value that is infinite or implausibly good, shape ``(t,)``.
        half_rank: Whether the values are warped, and not only standardised.
        interval: Values one standard deviation below and above those that learning curves predict,
            NaN for others, shape ``(n, m, 2)``; None if none is predicted.
    """

    x: Array
    y: Array
    row: Integers
    noise: Array
    own: Mask
    pending: Array
    constraints: tuple[ConstraintData, ...]
    points: Array
    evaluated: Array
    count: int
    too_good: Mask
    half_rank: bool = True
    interval: Array | None = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def nothing_but_failures(self) -> bool:
        """Whether all trials failed, so that a model of failures would find all points alike."""
        return not np.isfinite(self.y).any() and all(c.label == FAILURES for c in self.constraints)

    @property
    def objectives(self) -> int:
        """Number of objectives ``m``."""
        return self.y.shape[1]

    @cached_property
    def warped(self) -> tuple[Array, ...]:
        """Values of each objective as models see them, each of shape ``(n,)``.

        With three or more objectives the worse half of one holds much of the front, where the
        others are best: ranks in place of values would distort the hypervolume there. Excessive
        gaps are shortened in any case.
        """
        if not self.half_rank:
            return tuple(standardize(finite(column)) for column in self.y.T)
        if self.objectives >= _LINEAR_OBJECTIVES:
            return tuple(standardize(without_gaps(finite(column))) for column in self.y.T)
        noise = typical_noise(self.noise) if self.objectives == 1 else 0.0
        return tuple(warp(column, noise) for column in self.y.T)

    def known_noise(self, objective: int) -> Array | None:
        """Noise variances of an objective's warped values, beside the fitted one, ``(n,)``.

        None if there is none. Of several objectives only predicted values have one.
        """
        y, warped = self.y[:, objective], self.warped[objective]
        told = warped_noise(self.noise, y, warped) if self.objectives == 1 else None
        if self.interval is None:
            return told
        predicted = interval_variance(self.interval[:, objective], y, warped)
        return predicted if told is None else told + predicted

    @cached_property
    def usable(self) -> Mask:
        """Which observations are finite and not known to be infeasible, shape ``(n,)``."""
        usable = np.isfinite(self.y[:, 0])
        for constraint in self.constraints:
            usable &= np.logical_not(constraint.y[self.row] < 0)
        return usable

    @property
    def has_guesses(self) -> bool:
        """Whether some values are those that pruned or running trials stand for."""
        return bool((np.isfinite(self.y[:, 0]) & ~self.own).any())

    @property
    def told(self) -> Array | None:
        """Values of all constraints as told, feasible where at most 0, shape ``(n, c)``.

        None without constraints, or where failures are one of them.
        """
        told = [c.told[self.row] for c in self.constraints if c.told is not None]
        return np.stack(told, 1) if len(told) == len(self.constraints) > 0 else None

    @property
    def age_of_best(self) -> int:
        """Observations after the first of the best usable value."""
        usable = np.where(self.usable, self.y[:, 0], -np.inf)
        return len(self) - 1 - int(np.argmax(usable))

    @property
    def merit(self) -> Array:
        """The first objective's value in each row of the table, −inf where there is none, ``(t,)``.

        Of many trials, models keep those near the best.
        """
        merit = np.full(len(self.points), -np.inf)
        merit[self.row] = self.y[:, 0]
        return merit

    def known(self, space: Space) -> KnownPoints:
        """Points with values and pending ones, with coordinates that the space holds, if any."""
        points = np.concatenate([self.x, self.pending])
        constraints = np.full((len(points), len(self.constraints)), np.nan)
        value = np.full(len(points), np.nan)
        if space.held is None:
            for column, c in zip(constraints.T, self.constraints, strict=True):
                column[: len(self)] = c.y[self.row]
            if self._has_exact_values():
                value = self.warped[0]
            return KnownPoints(points, constraints, value)
        points = space.snap(points)
        first, _ = distinct(points)
        return KnownPoints(points[first], constraints[first], value[first])

    def _has_exact_values(self) -> bool:
        """Whether there is one objective, without noise, and its values are all known."""
        alone = self.objectives == 1 and not len(self.pending)
        return alone and len(self) > 0 and not self.noisy

    @cached_property
    def noisy(self) -> bool:
        """Whether values of one point differ, or some trial tells its noise."""
        if self.noise.any():
            return True
        known = np.isfinite(self.y[:, 0])
        y = self.y[known, 0]
        first, group = distinct(self.x[known])
        return bool((y != y[first[group]]).any())

    def with_pending(self, x: Array) -> Observations:
        """The same with one more point ``(d,)`` under evaluation."""
        return replace(
            self,
            pending=np.concatenate([self.pending, x[None]]),
            evaluated=np.concatenate([self.evaluated, x[None]]),
        )


def observe(
    space: Space,
    table: TrialTable,
    directions: Sequence[StudyDirection],
    *,
    separate_failures: bool = True,
    options: AlgorithmOptions = DEFAULTS,
    ends: Sequence[CurveEnds | None] = (),
) -> Observations:
    """The observations that a table of trials contains.

    While failures are few, they count as the worst value. Otherwise they get a model of their own
    and are left out of the values.

    Args:
        space: The space.
        table: The trials.
        directions: Of the objectives.
        separate_failures: Whether many failures have a model of their own.
        options: Of the algorithm.
        ends: What learning curves say of pruned and running trials, of each objective; none where
            they are not read.
    """
    value, points = objective_values(space, table, directions), table.points(space)
    observed, interval = ~np.isnan(value[:, 0]), None
    for j, told in enumerate(ends):
        found = None if told is None else predicted_values(told, value[:, j], points)
        if found is not None:
            interval = np.full((*value.shape, 2), np.nan) if interval is None else interval
            value[found.row, j], interval[found.row, j] = found.value, found.interval
    value[np.isnan(value).any(1)] = np.nan  # predicted in some objectives only
    row = np.logical_not(np.isnan(value[:, 0])).nonzero()[0]
    failed = observed & ~np.isfinite(value).all(1)
    constraints = constraint_data(table)
    failures = failure_data(failed, observed) if separate_failures and failed.any() else None
    if failures is not None:
        constraints.append(failures)
        row = row[~failed[row]]
    located = table.located
    return Observations(
        x=points[row],
        y=value[row],
        row=row,
        noise=table.noise[row],
        own=table.have(Status.COMPLETE)[row] & np.isfinite(value[row, 0]),
        pending=points[located & table.have(Status.RUNNING)],
        constraints=tuple(constraints),
        points=points,
        evaluated=points[located & ~table.have(Status.KILLED)],
        count=int(observed.sum()),
        too_good=observed & (value == np.inf).any(1),
        half_rank=options.half_rank,
        interval=None if interval is None else interval[row],
    )


def objective_values(
    space: Space, table: TrialTable, directions: Sequence[StudyDirection]
) -> Array:
    """Values of each objective by row, larger is better, NaN where there is none, ``(t, m)``.

    A complete trial counts with its values; −inf stands for one that failed by itself or returned a
    penalty, +inf for values too good to be true: the warp maps both to the last rank. A pruned
    trial counts with the value that its rank among the trials suggests; with several objectives,
    only if it reported something. Trials without any parameter of the space are ignored.

    Args:
        space: The space.
        table: The trials.
        directions: Of the objectives.
    """
    sign = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions])
    failed = table.have(Status.FAILED)
    value = np.where(failed[:, None], -math.inf, table.value * sign)
    value = np.stack([without_outliers(c, penalties=len(sign) == 1) for c in value.T], 1)
    points = table.points(space)
    for j, direction in enumerate(sign.tolist()):
        value[:, j] = with_pruned(value[:, j], points, table, direction, j)
    if len(sign) > 1:
        silent = np.array([not told[0] for told in table.reports], dtype=bool)
        value[table.have(Status.PRUNED) & silent] = np.nan
    return np.where(table.located[:, None], value, np.nan)


def typical_noise(noise: Array) -> float:
    """Median standard deviation of the noise that trials tell, 0 if none does."""
    told = noise[noise > 0]
    return math.sqrt(float(np.median(told))) if len(told) else 0.0
