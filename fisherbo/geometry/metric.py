"""The natural-gradient core: metrics that turn a gradient into a natural gradient.

Symbols: F Fisher metric at a point, g gradient, d = F⁻¹ g natural gradient.
A step t·d changes the distribution by KL ≈ ½ t² dᵀF d = ½ t² gᵀd (Amari 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """A positive definite form on tangent vectors that can be inverted."""

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``F⁻¹ gradient``, of the gradient's shape."""
        ...


@dataclass(frozen=True)
class KroneckerMetric:
    """The metric ``A ⊗ G`` on weight matrices, held by the inverses of its factors.

    Attributes:
        input_inverse: ``A⁻¹``, shape ``(*b, d_in, d_in)``.
        output_inverse: ``G⁻¹``, shape ``(*b, d_out, d_out)``.
    """

    input_inverse: Tensor
    output_inverse: Tensor

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``G⁻¹ gradient A⁻¹``, shape ``(*b, d_out, d_in)``.

        Martens & Grosse (2015), eq. 1 and (A ⊗ G)⁻¹ = A⁻¹ ⊗ G⁻¹.
        """
        return self.output_inverse @ gradient @ self.input_inverse


def kl_step_length(slope: Tensor, radius: float) -> Tensor:
    """Longest ``t`` whose step ``t·d`` stays within ``radius`` nats: ``√(2·radius / gᵀd)``.

    Args:
        slope: ``gᵀd = dᵀF d`` for natural gradients ``d``, shape ``(*b,)``; ``inf`` is returned
            where it is not positive.
        radius: KL divergence allowed, in nats.
    """
    return torch.where(slope > 0, torch.sqrt(2 * radius / slope), torch.inf)
