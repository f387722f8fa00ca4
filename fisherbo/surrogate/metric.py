"""Fisher metrics of the posterior on the space of candidates.

A candidate x stands for the normal distribution N(μ(x), s(x)² + τ²) of its next observation. The
pull-back of the normal family's Fisher metric is (∇μ∇μᵀ + 2∇s∇sᵀ)/(s² + τ²), of rank two; the
prior's expected metric Λ = c σ² diag(ℓ⁻²) completes it to full rank (Tosi et al. 2014).
"""

from __future__ import annotations

import math

import numpy as np

from fisherbo.space import Array
from fisherbo.surrogate.fit import Hyper
from fisherbo.surrogate.kernel import CURVATURE
from fisherbo.surrogate.posterior import Prediction


def damped_parts(prediction: Prediction, hyper: Hyper) -> tuple[Array, Array]:
    """``U`` and ``D`` of the metric ``U Uᵀ + λ diag(D)``, shapes ``(b, d, 2)`` and ``(b, d)``.

    ``U Uᵀ`` is the pull-back and ``diag(D) = Λ/(s² + τ²)``.
    """
    variance = prediction.sd**2 + hyper.noise
    rows = (prediction.mean_gradient, math.sqrt(2) * prediction.sd_gradient)
    factors = np.stack(rows, -1) / np.sqrt(variance)[:, None, None]
    return factors, (CURVATURE * hyper.signal / hyper.lengthscale**2) / variance[:, None]
