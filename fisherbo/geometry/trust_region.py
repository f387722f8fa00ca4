"""Step control: the ratio of actual to predicted gain, a limit on the KL divergence, and bounds.

Symbols: g gradient, d = F⁻¹g natural gradient, λ damping. A step t·d has a KL divergence of
½ t² dᵀF d = ½ t² gᵀd to second order (Amari 1998).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def by_agreement(actual: Any, predicted: Any, good: float, bad: float) -> Any:
    """What a damping or a radius is multiplied by after a step (Moré 1978; Levenberg–Marquardt).

    Args:
        actual: Gain of the step, a number or an array; NaN is bad.
        predicted: Gain that the quadratic model predicted, > 0.
        good: Factor where ``actual > ¾ predicted``.
        bad: Factor where ``actual < ¼ predicted``. Between the two it is 1.
    """
    fair = np.where(actual >= 0.25 * predicted, 1.0, bad)
    return np.where(actual > 0.75 * predicted, good, fair)


def kl_share(squared_length: float, limit: float) -> float:
    """Largest share in (0, 1] of a step for which ``share² · squared_length <= limit``.

    Args:
        squared_length: ``dᵀF d`` of the step, twice its KL divergence in nats.
        limit: Twice the divergence that is allowed.
    """
    return min(1.0, math.sqrt(limit / squared_length)) if squared_length > 0 else 1.0


def kl_step_length(slope: Tensor, radius: float) -> Tensor:
    """Longest ``t`` whose step ``t·d`` stays within ``radius`` nats: ``√(2·radius / gᵀd)``.

    Args:
        slope: ``gᵀd = dᵀF d`` for natural gradients ``d``, shape ``(*b,)``; ``inf`` is returned
            where it is not positive.
        radius: KL divergence allowed, in nats.
    """
    import torch

    return torch.where(slope > 0, torch.sqrt(2 * radius / slope), torch.inf)


def free_in_box(gradient: Array, x: Array, low: Any, high: Any) -> Mask:
    """Coordinates that an ascent may move: all but those at a bound whose gradient points outward.

    Args:
        gradient: Of the function to maximise, shape ``(*b, d)``.
        x: Points in the box, shape ``(*b, d)``.
        low: Bounds, numbers or shape ``(d,)``.
        high: The same.
    """
    return np.where(gradient > 0, x < high, x > low)


def held(metric: Array, free: Mask) -> Array:
    """The metric ``(*b, d, d)`` with the coordinates that are not free taken out of it.

    Their rows and columns are replaced by those of the identity, so that they stay where they are
    if the gradient is 0 along them.
    """
    both = free[..., :, None] & free[..., None, :]
    return np.where(both, metric, np.eye(metric.shape[-1]))
