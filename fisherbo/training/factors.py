"""Pure K-FAC mathematics: Kronecker factors, damping, averaging and clipping.

Symbols (Martens & Grosse 2015; Grosse & Martens 2016; Eschenhagen et al. 2023, setting "expand"):
    a, ḡ     one layer's input (with a last coordinate 1 for the bias) and its output gradient
    A, G     Kronecker factors E[a aᵀ] and E[ḡ ḡᵀ]; the layer's Fisher block is A ⊗ G
    λ, π     damping and its split: A + π√λ I and G + √λ/π I
    ε        weight of the old factor in the moving average
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fisherbo.geometry.block_diagonal import Matrix, add_diagonal, inverse, mean_diagonal
from fisherbo.geometry.metric import KroneckerMetric


def add_second_moment(total: Tensor, rows: Tensor) -> None:
    """Add ``Σ r rᵀ`` over the rows ``r``, shape ``(*b, n, d)``, to ``total``, in place.

    Where ``total``, shape ``(*b, d, d)``, is one wider than the rows, they get a last coordinate 1.
    """
    rows = rows.to(total.dtype)
    width = rows.shape[-1]
    corner = total[..., :width, :width]
    if rows.ndim == 2:
        corner.addmm_(rows.mT, rows)
    else:
        corner.add_(rows.mT @ rows)
    if total.shape[-1] > width:
        first_moment = rows.sum(-2)
        total[..., width, :width] += first_moment
        total[..., :width, width] += first_moment
        total[..., width, width] += rows.shape[-2]


def average_weight(update: int, decay: float) -> float:
    """Weight ``ε = min(1 − 1/k, decay)`` of the old factor at update k >= 1 (M&G 2015, § 5)."""
    return min(1 - 1 / update, decay)


def damped_factors(
    input_factor: Matrix, output_factor: Matrix, damping: float
) -> tuple[Matrix, Matrix]:
    """Damped ``A + π√λ I`` and ``G + √λ/π I`` (M&G 2015, § 6.3), in the factors' own forms.

    π = √((tr A / d_A) / (tr G / d_G)), and 1 where a trace is 0.
    """
    balance = trace_balance(input_factor, output_factor)
    root = math.sqrt(damping)
    return add_diagonal(input_factor, root * balance), add_diagonal(output_factor, root / balance)


def trace_balance(input_factor: Matrix, output_factor: Matrix) -> Tensor:
    """π of the factored damping, shape ``(*b,)``."""
    ratio = mean_diagonal(input_factor) / mean_diagonal(output_factor)
    return torch.where((ratio > 0) & ratio.isfinite(), ratio, 1.0).sqrt()


def damped_metric(input_factor: Matrix, output_factor: Matrix, damping: float) -> KroneckerMetric:
    """The metric ``(A + π√λ I) ⊗ (G + √λ/π I)``, ready to be applied.

    Raises:
        NumericalError: If a factor is not finite or cannot be made positive definite.
    """
    damped_input, damped_output = damped_factors(input_factor, output_factor, damping)
    return KroneckerMetric(inverse(damped_input), inverse(damped_output))
