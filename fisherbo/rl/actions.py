"""Actions of a policy as the environment takes them: scaled, within bounds, of the space's dtype.

A continuous policy begins near the standard normal. So that its first actions explore the space,
each coordinate of a Box is ``origin + scale · a`` of the policy's a, clipped to the bounds:

    two bounds             [−1, 1] becomes [low, high], as with `gymnasium.wrappers.RescaleAction`
    one bound              shifted by as little as puts the bound one deviation away, or further
    none                   a itself
    symmetric, nearly unit a itself: where high = −low is 1/2 to 2, the standard normal explores
                           it already, and a stays in the environment's own units
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherbo.rl.gymnasium_extra import spaces
from fisherbo.rl.policy import Spec

_NEARLY_UNIT = (0.5, 2.0)


def box_spec(box: spaces.Box, observations: int, hidden: tuple[int, ...]) -> Spec:
    """What a policy of a Box of floats sees and does."""
    kind: Any = box.dtype
    largest = float(np.finfo(kind).max)
    low, high = (bound.ravel().astype(np.float64) for bound in (box.low, box.high))
    low = np.where(low <= -largest, -np.inf, low)
    high = np.where(high >= largest, np.inf, high)
    origin, scale = _affine(low, high)
    changed = bool(np.any(origin != 0) or np.any(scale != 1))
    return Spec(
        observations,
        len(low),
        "normal",
        hidden,
        tuple(low.tolist()),
        tuple(high.tolist()),
        box.shape,
        origin=tuple(origin.tolist()) if changed else (),
        scale=tuple(scale.tolist()) if changed else (),
        dtype=str(box.dtype),
    )


def _affine(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin and scale of each coordinate, as the head of this module has them."""
    origin, scale = np.zeros_like(low), np.ones_like(low)
    above, below = np.isfinite(low), np.isfinite(high)
    origin[above] = np.maximum(low[above] + 1, 0)
    origin[below] = np.minimum(high[below] - 1, 0)
    both = above & below
    origin[both] = low[both] / 2 + high[both] / 2
    scale[both] = high[both] / 2 - low[both] / 2
    least, most = _NEARLY_UNIT
    unit = both & (origin == 0) & (scale >= least) & (scale <= most)
    scale[unit] = 1
    return origin, scale


def environment_actions(spec: Spec, actions: NDArray[Any]) -> NDArray[Any]:
    """A policy's actions, rows first, as the environment takes them: within bounds, in shape."""
    if spec.family == "categorical":
        return actions + spec.start
    scaled = actions.astype(np.float64)
    if spec.scale:
        scaled = np.array(spec.origin) + np.array(spec.scale) * scaled
    bounded = scaled.clip(np.array(spec.low), np.array(spec.high))  # rounding keeps to the bounds
    return bounded.astype(spec.dtype).reshape(len(actions), *spec.shape)
