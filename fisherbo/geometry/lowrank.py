"""Fisher metrics that are diagonal plus low rank, on batches of points, in NumPy.

The metric of a candidate under a Gaussian process has this form; its natural gradient costs O(d r²)
by the Woodbury identity: (D + U Uᵀ)⁻¹ g = D⁻¹g − D⁻¹U (I + UᵀD⁻¹U)⁻¹ UᵀD⁻¹g.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from fisherbo.geometry.lapack import solve, solve_identity_plus
from fisherbo.geometry.trust_region import held

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LowRankMetric:
    """Metrics ``diag(diagonal) + factors factorsᵀ``, one for each of ``b`` points.

    Attributes:
        diagonal: Positive, shape ``(b, d)``, or ``(d,)`` where it is the same at all points. An
            infinite entry holds its coordinate: natural gradients are 0 there.
        factors: Shape ``(b, d, r)``, with small ``r``.
    """

    diagonal: Array
    factors: Array

    def natural(self, gradient: Array) -> Array:
        """Natural gradient ``F⁻¹ gradient``, shape ``(b, d)``."""
        scaled = self.factors / self.diagonal[..., None]
        inner = solve_identity_plus(scaled.mT @ self.factors, scaled.mT @ gradient[..., None])
        natural: Array = gradient / self.diagonal - (scaled @ inner)[..., 0]
        return natural

    def squared_length(self, step: Array) -> Array:
        """``stepᵀ F step``, shape ``(b,)``."""
        along = (step[:, None, :] @ self.factors)[:, 0]
        return np.vecdot(self.diagonal * step, step) + np.vecdot(along, along)

    def damped(self, damping: float) -> LowRankMetric:
        """The metrics ``F + damping·I``."""
        return replace(self, diagonal=self.diagonal + damping)


def natural_of_score(diagonal: Array, score: Array) -> Array:
    """``(diag(diagonal) + g gᵀ)⁻¹ g`` with ``g`` the score, by Sherman and Morrison's formula.

    The natural gradient where the metric is the score's outer product, damped.

    Args:
        diagonal: Positive, shape ``(*b, d)``.
        score: ``g``, shape ``(*b, d)``.
    """
    plain = score / diagonal
    return plain / (1 + np.vecdot(score, plain))[..., None]


def natural_where_free(metric: Array, gradient: Array, free: NDArray[np.bool_]) -> Array:
    """Natural gradients of dense metrics among the coordinates that may move, 0 along others.

    Args:
        metric: Positive definite, shape ``(d, d)`` or ``(b, d, d)``.
        gradient: Shape ``(b, d)``, 0 along coordinates that are held.
        free: Which coordinates may move, shape ``(b, d)``.
    """
    if metric.ndim == 2 and free.all():
        return dposv(metric, gradient.T)[1].T
    return solve(held(metric, free), gradient)
