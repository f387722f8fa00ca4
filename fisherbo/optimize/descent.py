"""Batched natural-gradient ascent in the unit cube with Levenberg–Marquardt damping.

Symbols: a utility; g = ∇a; M a metric with parts U Uᵀ and D; step d; predicted gain
½ gᵀd; λ shrinks where actual/predicted > ¾ and grows where it is < ¼ (Moré 1978). Every start has a
λ of its own. Three kinds of step:

    M = U Uᵀ + D         d = M⁻¹g/λ, the maximum of gᵀd − ½ λ dᵀMd, with λ the multiplier of a trust
                         region ½ dᵀMd ≤ ρ
    M = g gᵀ + λ D       where there is no U: the score's metric, damped; d = M⁻¹g
    M = U Uᵀ + λ D       U Uᵀ, a Gauss–Newton matrix, damped; d = M⁻¹g; with ``whole=False``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fisherbo.geometry.lowrank import LowRankMetric, natural_of_score, natural_where_free
from fisherbo.geometry.trust_region import by_agreement, free_in_box
from fisherbo.space import Array, Integers, Mask

_GROW = 4.0


@dataclass(frozen=True)
class LocalModel:
    """A utility around ``b`` points: value, gradient and the two parts of the metric.

    Attributes:
        value: Shape ``(b,)``, in nats.
        gradient: Shape ``(b, d)``.
        diagonal: Of ``D > 0``, shape ``(b, d)``, or ``(d,)`` where it is the same at all points.
        factors: ``U``, shape ``(b, d, r)``. If None, the metric is the score's, ``g gᵀ + λ D``.
        matrix: ``D``, shape ``(d, d)``, the same at all points; None where it is a diagonal.
    """

    value: Array
    gradient: Array
    diagonal: Array
    factors: Array | None = None
    matrix: Array | None = None


Utility = Callable[[Array], LocalModel]
"""Points of shape ``(b, d)`` to their evaluation."""


@dataclass(frozen=True)
class AscentResult:
    """Where an ascent ended.

    Attributes:
        x: Points, shape ``(b, d)``.
        value: Utilities there, shape ``(b,)``.
        steps: Batched evaluations after the first.
        stopped: Why: no start predicted a gain above the tolerance, or the steps ran out.
    """

    x: Array
    value: Array
    steps: int
    stopped: Literal["converged", "steps"]


def natural_ascent(
    utility: Utility,
    start: Array,
    movable: Mask,
    *,
    climbers: int | None = None,
    max_steps: int = 30,
    tolerance: float = 0.01,
    damping: float = 15.0,
    shrink: float = 0.7,
    whole: bool = True,
    least: float = 0.0,
) -> AscentResult:
    """The maximum of ``utility`` over the cube that a batch of starts climbs to.

    Starts that fall behind the best one are given up, so theirs need not be local maxima.

    Args:
        utility: Function to maximise.
        start: Points in the cube, shape ``(b, d)``.
        movable: Coordinates that may move, shape ``(d,)``, or ``(b, d)`` where every start climbs.
        climbers: How many of the best starts climb; all if None.
        max_steps: Limit of batched evaluations after the first.
        tolerance: Stop when no start predicts to beat the best value by more in a step, in nats.
        damping: First λ of every start. With 15, ascents of log EI take fewer steps than with 6 and
            in the median end within .01 nats of them.
        shrink: Factor of λ after a step whose gain was predicted. A smaller one ends ascents a
            step later, and higher.
        whole: Whether λ multiplies the whole metric; D alone if not.
        least: Least λ, which keeps ``U Uᵀ + λ D`` well conditioned.
    """
    x, here = start, utility(start)
    if climbers is not None:
        best = np.argsort(-here.value, kind="stable")[:climbers]
        if here.value[best[0]] == -np.inf:
            return AscentResult(x[best], here.value[best], 0, "converged")
        best = best[here.value[best] > -np.inf]
        x, here = x[best], _rows(here, best)
    lam = np.full(len(x), damping)
    for step in range(max_steps):
        there, predicted = _natural_step(here, x, movable, lam, whole)
        if not (here.value + predicted > here.value.max() + tolerance).any():
            return AscentResult(x, here.value, step, "converged")
        new = utility(there)
        gain = new.value - here.value
        lam = np.maximum(lam * by_agreement(gain, predicted, shrink, _GROW), least)
        x, here = _better(gain > 0, (there, new), (x, here))
    return AscentResult(x, here.value, max_steps, "steps")


def _natural_step(
    here: LocalModel, x: Array, movable: Mask, lam: Array, whole: bool
) -> tuple[Array, Array]:
    """Where the natural step ends, kept in the cube, and the gain it predicts.

    Coordinates at a bound whose gradient points outward are held: they leave the metric too.
    """
    free = movable & free_in_box(here.gradient, x, 0, 1)
    gradient = here.gradient * free
    natural = _natural(here, gradient, free, lam[:, None], whole)
    there = np.minimum(np.maximum(x + natural, 0), 1)
    return there, 0.5 * np.vecdot(gradient, there - x)


def _natural(here: LocalModel, gradient: Array, free: Mask, lam: Array, whole: bool) -> Array:
    """The natural gradient ``(b, d)``, with λ of shape ``(b, 1)``."""
    if here.matrix is not None:
        return _natural_of_matrix(here.matrix, here.factors, gradient, free, lam, whole)
    if here.factors is None:
        return natural_of_score(lam * here.diagonal, gradient)
    damped = here.diagonal if whole else lam * here.diagonal
    natural = LowRankMetric(np.where(free, damped, np.inf), here.factors).natural(gradient)
    return natural / lam if whole else natural


def _natural_of_matrix(
    matrix: Array, factors: Array | None, gradient: Array, free: Mask, lam: Array, whole: bool
) -> Array:
    """The same where D is a matrix."""
    if factors is None:
        plain = natural_where_free(matrix, gradient, free)
        return plain / (lam + np.vecdot(gradient, plain)[:, None])
    damped = matrix if whole else lam[..., None] * matrix
    natural = natural_where_free(factors @ factors.mT + damped, gradient, free)
    return natural / lam if whole else natural


def _rows(e: LocalModel, index: Integers) -> LocalModel:
    diagonal = e.diagonal[index] if e.diagonal.ndim > 1 else e.diagonal
    factors = None if e.factors is None else e.factors[index]
    return LocalModel(e.value[index], e.gradient[index], diagonal, factors, e.matrix)


_Climber = tuple[Array, LocalModel]
"""Points ``(b, d)`` and their evaluation."""


def _better(chosen: Mask, new: _Climber, old: _Climber) -> _Climber:
    """The new points where they are chosen, else the old ones."""
    if chosen.all():
        return new
    (x, e), (y, f) = new, old
    column = chosen[:, None]
    diagonal = e.diagonal if e.diagonal.ndim == 1 else np.where(column, e.diagonal, f.diagonal)
    factors = None
    if e.factors is not None and f.factors is not None:
        factors = np.where(column[..., None], e.factors, f.factors)
    value, gradient = np.where(chosen, e.value, f.value), np.where(column, e.gradient, f.gradient)
    return np.where(column, x, y), LocalModel(value, gradient, diagonal, factors, e.matrix)
