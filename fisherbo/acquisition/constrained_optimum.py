"""The optimum under constraints that splines expect, where a search converges.

A constrained optimum lies where several constraints are about to be broken. Its precision is that
of their models there, and each trial beside it should make it better by an order of magnitude. The
acquisition does not converge so: the models' noise is bounded from below, and the probability that
all constraints hold keeps it at a distance. Here cubic splines (`fisherbo.gp.spline`) of the values
as they were told take the place of the models, and

    minimise μ_0(u)   subject to   μ_j(u) + κ s_j(u) ≤ 0,   j = 1 … m,   u in the unit cube

is solved by sequential quadratic programming (SLSQP, Kraft 1988), from the best feasible point. s_j
is 0 at the observations and grows with the distance to them, so that the step stays where the
constraints are known. Surrogates of this kind with margins are those of COBRA (Regis 2014).

Every function has the trend that predicts observations near the centre best when these are left
out. Constraints, of which some are orders of magnitude larger elsewhere, are splines of asinh of
their values where that predicts better. If no point is feasible, the sum of squares of what is
missing is minimised first.

What this gains is in experiments/results/tried.md.

References: Kraft, A software package for sequential quadratic programming, DFVLR-FB 88-28, 1988.
Regis, Constrained optimization by radial basis function interpolation for high-dimensional
expensive black-box problems with infeasible initial points, Engineering Optimization 46, 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fisherbo.errors import NumericalError
from fisherbo.gp.fit import descend
from fisherbo.gp.likelihood import Likelihood
from fisherbo.gp.spline import Splines, Trend, splines
from fisherbo.space import Array, Integers, Mask, Space, distinct

_MOST_POINTS = 128
_ENOUGH = 1.5  # nearest points for each polynomial of a quadratic, whatever their distances
_FARTHEST = 10.0  # distance from the centre of the others, in that of the 2d-th
_SPARE = 1.1  # points for each polynomial of a trend
_CAUTION = 0.5  # κ
_ROUNDING = 1e-8  # least margin and gain, in units of the values near the centre
_TOLERATED = 1e-4  # violation of the margin that the search may leave
_BETTER = 0.9  # of the violation at the centre, the most while no point is feasible
_STEPS = 30
_SEPARATION = 0.03  # of points, in distances to the centre
_NEAREST = 1e-4  # distance of two points, in that of the 2d-th from the centre
_KNOWN = 1e-10  # distance to a known point

_Local = Callable[[Array], tuple[Array, Array]]
"""From ``u`` ``(d,)`` to what is minimised, constraints that hold at 0 or less, and gradients."""


def constrained_optimum(x: Array, y: Array, told: Array, space: Space) -> Array | None:
    """The best point that holds all constraints, as splines expect it, shape ``(d,)``.

    None if the points do not determine a spline, or it expects nothing better.

    Args:
        x: Points of the unit cube, shape ``(n, d)``.
        y: Their values, finite, larger is better, shape ``(n,)``.
        told: Their constraints, finite, which hold where at most 0, shape ``(n, m)``.
        space: The search space, of numbers; some of them are continuous.
    """
    first, _ = distinct(x)
    x, told, loss = x[first], _at_most_one(told[first]), _at_most_one(-y[first])
    feasible = (told <= 0).all(1)
    told = told[:, np.ptp(told, axis=0) > 0]
    centre = int(np.argmin(np.where(feasible, loss, np.inf)))
    if not feasible.any():
        typical = np.maximum(np.median(np.abs(told), 0), _ROUNDING)
        centre = int(np.argmin(_violation(told / typical)))
    inputs = np.ptp(x, axis=0) > 0
    whole = space.discrete[inputs]
    near = _near(x[:, inputs], np.column_stack([loss - loss[centre], told]), centre)
    local = None if near is None else _local(near)
    if near is None or local is None or whole.all():
        return None

    def point(u: Array) -> Array:
        found = x[centre].copy()
        found[inputs] = np.clip(near.origin + u * near.width, 0, 1)
        return found

    def on_grid(u: Array) -> Array:
        found: Array = (space.snap(point(u)[None])[0, inputs] - near.origin) / near.width
        return found

    box = -near.origin / near.width, (1 - near.origin) / near.width
    u = _optimum(local, box, whole, on_grid) if feasible.any() else _least(local, box, whole)
    if u is None:
        return None
    found = space.snap(point(u)[None])[0]
    return None if np.abs(x - found).max(1).min() < _KNOWN else found


@dataclass(frozen=True)
class _Near:
    """Points near the centre in units of their distances, and values in units of their spread.

    Attributes:
        origin: The centre, shape ``(d,)``.
        width: Unit of the coordinates.
        u: Points relative to the centre, nearest first, shape ``(k, d)``.
        values: Of the loss, less that of the centre, and constraints, shape ``(k, 1 + m)``.
        weight: Of each point, which falls with the squared distance, shape ``(k,)``.
    """

    origin: Array
    width: float
    u: Array
    values: Array
    weight: Array


def _at_most_one(values: Array) -> Array:
    """Values divided by the largest size of their column, so that no square overflows."""
    found: Array = values / np.maximum(np.abs(values).max(0), np.finfo(float).tiny)
    return found


def _near(x: Array, values: Array, centre: int) -> _Near | None:
    """The distinct points that are nearest; None if they are too few."""
    d, distance = x.shape[1], np.sqrt(((x - x[centre]) ** 2).sum(1))
    nearest = np.argsort(distance, kind="stable")[:_MOST_POINTS]
    if len(nearest) <= d + 1:
        return None
    width = float(distance[nearest[min(2 * d, len(nearest) - 1)]])
    enough = math.ceil(_ENOUGH * Trend.QUADRATIC.size(d))
    nearest = nearest[(distance[nearest] <= _FARTHEST * width) | (np.arange(len(nearest)) < enough)]
    chosen = _separate(x, distance, nearest, _NEAREST * width)
    if len(chosen) <= d + 1:
        return None
    squared, values = distance[chosen] ** 2, values[chosen]
    weight = 1 / (squared[d] + squared)
    spread = np.sqrt(weight @ (values - values[0]) ** 2 / weight.sum())
    if not (spread > 0).all():
        return None
    u = (x[chosen] - x[centre]) / width
    return _Near(x[centre], width, u, values / spread, weight / weight.sum())


def _separate(x: Array, distance: Array, nearest: Integers, least: float) -> Integers:
    """Those of the points that are not too close to a nearer one, the centre first.

    Splines cannot use distances of all sizes at once: rounding errors of the cubes of the long ones
    exceed the cubes of the short ones.
    """
    kept = [int(nearest[0])]
    for i in nearest[1:].tolist():
        gap = np.sqrt(((x[kept] - x[i]) ** 2).sum(1).min())
        if gap > max(_SEPARATION * distance[i], least):
            kept.append(i)
    return np.array(kept)


def _local(near: _Near) -> _Local | None:
    """The loss and the constraints with their margins; None if no trend is determined."""
    found = _fitted(near)
    if not found:
        return None
    count = near.values.shape[1]
    errors = np.concatenate([_errors(near, s) for s in found])  # (2 trends, 1 + m)
    trend, warped = np.divmod(errors.argmin(0), 2)
    column = warped * (count - 1) + np.arange(count)
    margin = _CAUTION * np.stack([s.scale for s in found])[trend, column]
    margin[0] = 0.0

    @lru_cache(maxsize=2)
    def known(key: bytes) -> tuple[Array, Array]:
        u = np.frombuffer(key)
        value, gradient = np.empty(count), np.empty((count, len(u)))
        for k in set(trend.tolist()):
            mine = trend == k
            means, slopes, deviation, slope = found[k].at(u)
            value[mine] = means[column[mine]] + margin[mine] * deviation
            gradient[mine] = slopes[column[mine]] + margin[mine, None] * slope
        value[1:] += _ROUNDING
        return value, gradient

    return lambda u: known(u.tobytes())


def _errors(near: _Near, fitted: Splines) -> Array:
    """Mean squares of errors left out, by values and by warped ones, shape ``(2, 1 + m)``.

    Those of constraints are errors of asinh of the values, which counts what is far from 0 less.
    The loss is not warped.
    """
    m = near.values.shape[1] - 1
    predicted = _plain_and_warped(near.values) - fitted.left_out
    predicted[:, 1 : 1 + m] = np.arcsinh(predicted[:, 1 : 1 + m])
    loss, truth = near.values[:, :1], np.arcsinh(near.values[:, 1:])
    errors = near.weight @ (predicted - np.concatenate([loss, truth, truth], 1)) ** 2
    return np.stack([errors[: 1 + m], np.append(np.inf, errors[1 + m :])])


def _plain_and_warped(values: Array) -> Array:
    """The loss, constraints ``(k, 1 + m)``, and asinh of these side by side, ``(k, 1 + 2 m)``."""
    return np.concatenate([values, np.arcsinh(values[:, 1:])], 1)


def _fitted(near: _Near) -> list[Splines]:
    """Splines of values and of warped ones, with each trend that the points determine."""
    found, values = [], _plain_and_warped(near.values)
    for trend in Trend:
        size = trend.size(near.u.shape[1])
        if len(near.u) >= max(_SPARE * size, size + 2):
            try:
                found.append(splines(near.u, values, trend, near.weight))
            except NumericalError:
                continue
    return found


_Box = tuple[Array, Array]
"""Least and largest coordinates, shape ``(d,)`` each."""


def _optimum(
    local: _Local, box: _Box, whole: Mask, on_grid: Callable[[Array], Array]
) -> Array | None:
    """The optimum from the centre; None if nothing better than the centre is expected.

    Integers stay as they are there, or are those that the optimum among real numbers rounds to.
    """
    centre = np.zeros(len(whole))
    found = [_programmed(local, centre, _held(box, whole, centre))]
    if whole.any():
        rounded = on_grid(_programmed(local, centre, box))
        beside = _held(box, whole, rounded)
        found.append(_programmed(local, _least_violated(local, beside), beside))
    losses = [_loss_if_feasible(local, u) for u in found]
    best = int(np.argmin(losses))
    return found[best] if losses[best] < -_ROUNDING else None


def _least(local: _Local, box: _Box, whole: Mask) -> Array | None:
    """The optimum, or where least is missing if no point is feasible; None if that is not less."""
    centre = np.zeros(len(whole))
    held = _held(box, whole, centre)
    start = _least_violated(local, held)
    before, after = (_violation(local(u)[0][1:]) for u in (centre, start))
    if after > _ROUNDING**2:
        return start if after < _BETTER * before else None
    u = _programmed(local, start, held)
    return u if _loss_if_feasible(local, u) < np.inf else start


def _held(box: _Box, whole: Mask, u: Array) -> _Box:
    """The box with the coordinates of integers held at those of a point."""
    return np.where(whole, u, box[0]), np.where(whole, u, box[1])


def _loss_if_feasible(local: _Local, u: Array) -> float:
    """The loss; infinite where a constraint is broken."""
    value, _ = local(u)
    holds = np.isfinite(value).all() and value[1:].max(initial=0.0) <= _TOLERATED
    return float(value[0]) if holds else math.inf


def _violation(constraints: Array) -> Array:
    """Sum of the squares of what is above 0 over the last axis."""
    found: Array = (np.maximum(constraints, 0) ** 2).sum(-1)
    return found


def _least_violated(local: _Local, box: _Box) -> Array:
    """Where least is missing, by damped Gauss–Newton steps from the centre, kept in a box."""

    def loss(u: Array) -> Likelihood:
        value, gradient = local(u)
        missing, slope = np.maximum(value[1:], 0), gradient[1:] * (value[1:, None] > 0)
        information = 2 * slope.T @ slope
        information.flat[:: len(u) + 1] += _ROUNDING
        return Likelihood(float(missing @ missing), 2 * missing @ slope, information)

    return descend(loss, np.zeros(len(box[0])), box, _STEPS, _ROUNDING**2)[0]


def _programmed(local: _Local, start: Array, box: _Box) -> Array:
    """By SLSQP. The box is told as constraints, since with bounds it warns of rounding errors."""
    from scipy.optimize import minimize  # imported on first use: slow to import

    low, high = box
    moves = (high > low).nonzero()[0]
    u = start.copy()

    def at(free: Array) -> tuple[Array, Array]:
        u[moves] = free
        value, gradient = local(u)
        return value, gradient[:, moves].copy("C")  # SLSQP reads it as if it were contiguous

    def room(free: Array) -> Array:
        return np.concatenate([-at(free)[0][1:], free - low[moves], high[moves] - free])

    def slopes(free: Array) -> Array:
        box = np.eye(len(free))
        return np.concatenate([-at(free)[1][1:], box, -box])

    found = minimize(
        lambda free: at(free)[0][0],
        start[moves],
        jac=lambda free: at(free)[1][0],
        constraints={"type": "ineq", "fun": room, "jac": slopes},
        method="SLSQP",
        options={"maxiter": _STEPS, "ftol": 1e-10},
    )
    u[moves] = np.clip(np.where(np.isfinite(found.x), found.x, 0.0), low[moves], high[moves])
    return u
