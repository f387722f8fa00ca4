"""Factorisations of positive (semi-)definite matrices; the only home of Cholesky and jitter.

Symbols: A, G symmetric positive semi-definite; L lower triangular with A = L Lᵀ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fisherbo.errors import NumericalError

_JITTER_ATTEMPTS = 8


def cholesky(matrix: Tensor, *, jitter: float | None = None) -> Tensor:
    """Lower Cholesky factors of positive definite matrices, with growing jitter where needed.

    Args:
        matrix: Symmetric, shape ``(*b, n, n)``.
        jitter: First multiple of the mean diagonal that is added after a failure; ten times more at
            each further failure. Default: 1e-10 in float64, 1e-6 in float32.

    Returns:
        ``L`` with ``L Lᵀ = matrix + jitter``, shape ``(*b, n, n)``. Batch members that need no
        jitter get none.

    Raises:
        NumericalError: If an entry is not finite or no jitter up to 1e-2 helps.
    """
    factor, info = _try_cholesky(matrix)
    if not info.any():
        return factor
    if not torch.isfinite(matrix).all():
        raise NumericalError(
            "a covariance or curvature matrix has entries that are not finite; "
            "look for NaN or inf in the inputs"
        )
    scale = matrix.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(torch.finfo(matrix.dtype).tiny)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    step = jitter if jitter is not None else (1e-10 if matrix.dtype == torch.float64 else 1e-6)
    for _ in range(_JITTER_ATTEMPTS):
        added = (step * scale * (info > 0))[..., None, None] * identity
        factor, info = _try_cholesky(matrix + added)
        if not info.any():
            return factor
        if step >= 1e-2:
            break
        step *= 10
    raise NumericalError(
        f"a matrix of shape {tuple(matrix.shape)} is not positive definite, even with jitter "
        f"{step:.0e} of its mean diagonal; look for duplicated points without noise, "
        "or raise the damping"
    )


def _try_cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Lower factors, and for each batch member 0 where it is finite and positive definite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    infinite = ~factor.diagonal(dim1=-2, dim2=-1).isfinite().all(-1)
    return factor, info + infinite


def inverse_from_cholesky(factor: Tensor) -> Tensor:
    """Inverse of ``L Lᵀ``, shape ``(*b, n, n)``, symmetric to rounding."""
    return torch.cholesky_inverse(factor)


def psd_inverse(matrix: Tensor) -> Tensor:
    """Inverse of positive definite matrices, shape ``(*b, n, n)``.

    Factorised in the matrix's own precision; in float64 where float32 fails.

    Raises:
        NumericalError: As `cholesky`.
    """
    factor, info = _try_cholesky(matrix)
    if not info.any():
        return inverse_from_cholesky(factor)
    return inverse_from_cholesky(cholesky(matrix.double())).to(matrix.dtype)


def cholesky_solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solution ``x`` of ``L Lᵀ x = right`` for vectors ``(*b, n)``."""
    return torch.cholesky_solve(right[..., None], factor)[..., 0]


def log_determinant(factor: Tensor) -> Tensor:
    """``log det(L Lᵀ)``, shape ``(*b,)``."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
