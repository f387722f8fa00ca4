"""Values for pruned trials of which curves predict no end, by their rank among all trials.

A pruned trial has no final value, and reports of different steps are not comparable. Its last
report is ranked among the learning curves of the complete trials at that step, which are
interpolated between the steps that they reported and constant beyond. The share of those that are
worse gives its rank among the final values. Pruned trials of equal rank are ordered by their last
step, since a trial that was stopped later survived more comparisons, then by their report, and are
spread evenly between the two neighbouring final values. Those that are worse than every complete
trial, or have none to be compared with, are placed below the worst final value, at the mean
distance of final values. A trial that was pruned without any report counts as failed.

Where the values of complete trials contradict their reports (`agreement`), a report says nothing of
a value, and pruned trials that have some count for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from fisherbo.sampler.agreement import contradict
from fisherbo.sampler.trials import Status, TrialTable
from fisherbo.space import Array, Integers

_MOST_CURVES = 256


def with_pruned(
    value: Array, x: Array, table: TrialTable, sign: float, objective: int = 0
) -> Array:
    """Values of all trials with those that pruned trials stand for, larger is better, ``(n,)``.

    A pruned trial at the point of a complete one is ignored.

    Args:
        value: Values of complete trials, NaN for pruned ones, shape ``(n,)``.
        x: Coordinates, shape ``(n, d)``.
        table: The trials.
        sign: 1 where the objective is maximised, else −1.
        objective: Which one.
    """
    is_pruned, reports = table.have(Status.PRUNED), [told[objective] for told in table.reports]
    if not is_pruned.any():
        return value
    complete = table.have(Status.COMPLETE).nonzero()[0]
    done = {tuple(row) for row in x[complete].tolist()}
    pruned = [i for i in is_pruned.nonzero()[0].tolist() if tuple(x[i].tolist()) not in done]
    finals = np.sort(value[complete][np.isfinite(value[complete])])
    last = {i: _last_report(reports[i], sign) for i in pruned if reports[i]}
    compared = complete[_spread(len(complete), _MOST_CURVES)].tolist()
    peers = _curves(
        [reports[i] for i in compared], sorted({step for step, _ in last.values()}), sign
    )

    def place(i: int) -> int:
        """How many final values the trial beats."""
        step, report = last[i]
        curves = peers.get(step, np.empty(0))
        return int(np.searchsorted(curves, report)) * len(finals) // max(len(curves), 1)

    value = value.copy()
    value[[i for i in pruned if i not in last]] = -math.inf
    if _contradicted([reports[i] for i in complete.tolist()], value[complete], sign):
        return value
    ranked = sorted((place(i), last[i], i) for i in last)
    for found, group in groupby(ranked, lambda r: r[0]):
        members = [i for _, _, i in group]
        value[members] = _between(finals, found, len(members))
    return value


def _contradicted(reports: Sequence[Mapping[int, float]], value: Array, sign: float) -> bool:
    """Whether values ``(c,)`` of complete trials contradict both their last and best reports."""
    told = [i for i, curve in enumerate(reports) if curve]
    last = np.array([_last_report(reports[i], sign)[1] for i in told])
    best = np.array([np.fmax.reduce([sign * v for v in reports[i].values()]) for i in told])
    return contradict(last, value[told]) and contradict(best, value[told])


def _last_report(reports: Mapping[int, float], sign: float) -> tuple[int, float]:
    """The last step and its report, larger is better; −inf for NaN."""
    step = max(reports)
    report = sign * reports[step]
    return step, -math.inf if math.isnan(report) else report


def _curves(
    reports: Sequence[Mapping[int, float]], steps: Sequence[int], sign: float
) -> dict[int, Array]:
    """Values of learning curves at steps, larger is better, ascending: step to ``(c,)``."""
    told = [sorted((s, v) for s, v in curve.items() if math.isfinite(v)) for curve in reports]
    rows = [np.interp(steps, *np.array(curve, dtype=np.float64).T) for curve in told if curve]
    if not rows:
        return {}
    return dict(zip(steps, np.sort(sign * np.array(rows), axis=0).T, strict=True))


def _spread(n: int, most: int) -> Integers:
    """At most so many of ``n`` indices, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _between(finals: Array, place: int, count: int) -> Array:
    """``count`` ascending values above ``place`` of the final values and below the next."""
    share = np.arange(1.0, count + 1) / (count + 1)
    if place == len(finals) > 0:  # none is better than the best that is known
        return np.full(count, finals[-1])
    if place > 0:
        return finals[place - 1] * (1 - share) + finals[place] * share
    worst = finals[0] if len(finals) else 0.0
    halves = np.diff(finals * 0.5)  # no difference overflows
    distance = 2 * float(halves.mean()) if len(halves) and halves.any() else 1.0
    return np.maximum(worst - distance * np.arange(count, 0.0, -1.0), -np.finfo(np.float64).max)
