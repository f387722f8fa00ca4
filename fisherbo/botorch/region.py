"""Batched trust-region ascent in a Fisher metric, with curvature learned from secants.

Symbols: a utility; coordinates z in which the Fisher metric is the identity, so that g = ∇a is the
natural gradient and ½|s|² the Kullback–Leibler length of a step s; B ≻ 0 what is known of −∇²a,
updated by y = g(z) − g(z + s) (BFGS, with Powell's damping: Nocedal & Wright 2006, eq. 18.15–16);
s = B⁻¹g on the coordinates that are not held at a bound, cut to the radius of the region. At first
B is a multiple of the metric, so that the first step is the natural gradient of the given length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.spatial.distance import cdist

from fisherbo.geometry.lapack import solve
from fisherbo.geometry.trust_region import by_agreement, free_in_box, held
from fisherbo.space import Array, Integers, Mask

Slope = Callable[[Array], tuple[Array, Array]]
"""Points of shape ``(b, n)`` to values ``(b,)`` and gradients ``(b, n)``."""

_SHORT = 1e-10  # a region that small in units of the metric holds nothing more
_TINY = 1e-300
_PATIENCE = 5  # steps until a start may be given up


@dataclass(frozen=True)
class Climb:
    """``b`` climbers, each with a region and a curvature of its own.

    Attributes:
        z: Where they are, shape ``(b, n)``.
        value: The utility there, shape ``(b,)``; −∞ where it is not a number.
        gradient: Shape ``(b, n)``.
        curvature: ``B``, shape ``(b, n, n)``.
        radius: Of the region in which ``B`` is trusted, shape ``(b,)``.
        measured: Whether a secant has given ``B`` its scale, shape ``(b,)``.
    """

    z: Array
    value: Array
    gradient: Array
    curvature: Array
    radius: Array
    measured: Mask

    @property
    def leader(self) -> int:
        """Index of the highest."""
        return int(self.value.argmax())

    def take(self, index: Mask | Integers) -> Climb:
        """Some of the climbers."""
        return Climb(*(getattr(self, f.name)[index] for f in fields(self)))

    def put(self, index: Mask | Integers, new: Climb) -> Climb:
        """All climbers, some of them replaced."""
        arrays = {f.name: getattr(self, f.name).copy() for f in fields(self)}
        for name, array in arrays.items():
            array[index] = getattr(new, name)
        return Climb(**arrays)


def begin(slope: Slope, start: Array, radius: float = 1.0) -> Climb:
    """Climbers at ``start`` ``(b, n)`` whose first steps are natural gradients of that length."""
    value, gradient = _finite(*slope(start))
    length = np.maximum(np.linalg.norm(gradient, axis=1), _TINY)
    curvature = np.eye(start.shape[1]) * (length / radius)[:, None, None]
    measured = np.zeros(len(start), dtype=bool)
    return Climb(start, value, gradient, curvature, np.full(len(start), radius), measured)


def climb(
    slope: Slope,
    here: Climb,
    low: Array,
    high: Array,
    movable: Mask,
    *,
    tolerance: float,
    max_steps: int,
    together: bool = True,
    expired: Callable[[], bool] = lambda: False,
) -> Climb:
    """The climbers after they have stopped. A step evaluates the batch of active climbers once.

    Args:
        slope: Function to maximise.
        here: Where they begin.
        low: Bounds of each coordinate, shape ``(n,)``; may be infinite.
        high: The same.
        movable: Coordinates that may move, shape ``(n,)``.
        tolerance: Predicted gain of a step below which a climber stops.
        max_steps: Limit of evaluations.
        together: Whether only the highest climber matters: others that are unlikely to overtake it,
            or that climb the same hill, are given up.
        expired: Returns whether to stop now.
    """
    for count in range(max_steps):
        step, promise = _step(here, low, high, movable)
        active = (promise > tolerance) & (here.radius > _SHORT)
        if together and count >= _PATIENCE:
            active &= _contends(here, promise)
        if not active.any() or expired():
            break
        some = here.take(active)
        there = _finite(*slope(some.z + step[active]))
        here = here.put(active, _moved(some, step[active], *there))
    return here


def _step(here: Climb, low: Array, high: Array, movable: Mask) -> tuple[Array, Array]:
    """Steps of the climbers, kept in the box, and the gains that their gradients promise."""
    free = movable & free_in_box(here.gradient, here.z, low, high)
    gradient = here.gradient * free
    step = solve(held(here.curvature, free), gradient)
    length = np.maximum(np.linalg.norm(step, axis=1), _TINY)
    target = here.z + step * np.minimum(1, here.radius / length)[:, None]
    move = np.where(free, np.clip(target, low, high) - here.z, 0.0)
    return move, (gradient * move).sum(1)


def _contends(here: Climb, promise: Array) -> Mask:
    """Which may still end highest: not those far below, nor the lower of two on one hill."""
    hopeful = here.value + 100 * promise >= here.value.max()
    gap = cdist(here.z, here.z)
    lower = here.value[:, None] < here.value
    return hopeful & ~((gap < 0.05) & lower).any(1)


def _moved(here: Climb, step: Array, value: Array, gradient: Array) -> Climb:
    """The climbers after trying ``step``: each learns from it, and takes it if it is a gain."""
    known = value > -np.inf
    learnt = _learn(here, step, here.gradient - gradient)
    here = here.put(known, learnt.take(known))
    gain = value - here.value
    expected = (here.gradient * step).sum(1)
    expected -= 0.5 * np.einsum("bi,bij,bj->b", step, here.curvature, step)
    better = gain > 0
    here = replace(here, radius=_radius(here.radius, step, gain, expected))
    return replace(
        here,
        z=np.where(better[:, None], here.z + step, here.z),
        value=np.where(better, value, here.value),
        gradient=np.where(better[:, None], gradient, here.gradient),
    )


def _radius(radius: Array, step: Array, gain: Array, expected: Array) -> Array:
    """Radii, cut where the gain is below a quarter of the prediction, doubled where it is met."""
    length = np.linalg.norm(step, axis=1)
    factor = by_agreement(gain, np.maximum(np.abs(expected), _TINY), 2.0, 0.0)
    wide = np.where(length > 0.8 * radius, factor * radius, radius)
    return np.where(factor > 0, wide, 0.35 * length)


def _learn(here: Climb, step: Array, change: Array) -> Climb:
    """The curvature after the secant that ``step`` and the ``change`` of gradients make."""
    product = (step * change).sum(1)
    size = (change * change).sum(1)
    fresh = ~here.measured & (product > 1e-12 * np.sqrt(size) * np.linalg.norm(step, axis=1))
    scale = size / np.where(fresh, product, 1.0)
    identity = np.eye(step.shape[1]) * np.maximum(scale, _TINY)[:, None, None]
    curvature = np.where(fresh[:, None, None], identity, here.curvature)
    along = np.einsum("bij,bj->bi", curvature, step)
    old = np.maximum((step * along).sum(1), _TINY)
    share = np.where(product >= 0.2 * old, 1.0, 0.8 * old / np.maximum(old - product, _TINY))
    damped = share[:, None] * change + (1 - share)[:, None] * along
    new = np.maximum((step * damped).sum(1), _TINY)
    curvature = curvature - _outer(along, old) + _outer(damped, new)
    return replace(here, curvature=curvature, measured=here.measured | fresh)


def _outer(v: Array, scale: Array) -> Array:
    return v[:, :, None] * (v / scale[:, None])[:, None, :]


def _finite(value: Array, gradient: Array) -> tuple[Array, Array]:
    """Values and gradients with −∞ and 0 where either is not a number."""
    good = np.isfinite(value) & np.isfinite(gradient).all(1)
    return np.where(good, value, -np.inf), np.where(good[:, None], gradient, 0.0)
