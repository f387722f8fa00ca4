"""Factorisations of small positive definite float64 arrays, by LAPACK without detours.

The sampler factorises many small matrices, where a call's overhead counts: NumPy and LAPACK here,
tensors in `linalg`. Symbols: A = L Lᵀ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri

from fisherbo.errors import NumericalError

Array = NDArray[np.float64]

_JITTERS = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def cholesky(matrix: Array) -> Array:
    """Lower Cholesky factor, Fortran order, shape ``(n, n)``, with the least jitter that works.

    Jitter is a multiple of the mean diagonal, 0, then 1e-10 to 1e-2. Above the diagonal are zeros.

    Raises:
        NumericalError: If an entry is not finite, or no jitter helps.
    """
    if not np.isfinite(matrix).all():
        raise NumericalError(
            "a covariance matrix has entries that are not finite; look for NaN or inf in the inputs"
        )
    for jitter in _JITTERS:
        factor, info = dpotrf(_shifted(matrix, jitter).T, lower=1, clean=1)
        if info == 0:
            return factor
    raise NumericalError(
        f"a matrix of shape {matrix.shape} is not positive definite, even with jitter "
        f"{_JITTERS[-1]:.0e} of its mean diagonal; look for duplicated points without noise"
    )


def _shifted(matrix: Array, jitter: float) -> Array:
    if jitter == 0:
        return matrix
    shifted: Array = matrix + jitter * matrix.diagonal().mean() * np.eye(len(matrix))
    return shifted


def solve(matrix: Array, right: Array) -> Array:
    """``matrix⁻¹ right`` of positive definite matrices ``(*b, n, n)``, shape ``(*b, n)``."""
    solution: Any = np.linalg.solve(matrix, right[..., None])[..., 0]
    return solution


def solve_identity_plus(matrix: Array, right: Array) -> Array:
    """``(I + A)⁻¹ right`` of symmetric A ⪰ 0 ``(*b, n, n)`` and right sides ``(*b, n, m)``.

    In closed form for ``n = 2``: the adjugate of I + A is (1 + tr A) I − A, by Cayley and Hamilton.
    """
    if matrix.shape[-1] != 2:
        solution: Any = np.linalg.solve(matrix + np.eye(matrix.shape[-1]), right)
        return solution
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    trace = 1 + a + c
    determinant = trace + a * c - b * b
    adjugated: Array = trace[..., None, None] * right - matrix @ right
    return adjugated / determinant[..., None, None]


def solve_lower(factor: Array, right: Array) -> Array:
    """``L⁻¹ right`` for a factor ``(n, n)`` and right sides ``(n,)`` or ``(n, m)``."""
    solution: Array = solve_triangular(factor, right, lower=True)
    return solution


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices ``(*b, n, n)``."""
    found: tuple[Array, Array] = np.linalg.eigh(matrix)
    return found


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """``U``, singular values, falling, and ``Vᵀ`` of a square matrix ``(n, n)``."""
    found: tuple[Array, Array, Array] = np.linalg.svd(matrix)
    return found


def householder(matrix: Array) -> Array:
    """LAPACK's packed QR factorisation ``(n, n)``: Householder vectors below the diagonal."""
    (packed, _), _ = qr(matrix, mode="raw")
    return packed


def full_qr(matrix: Array) -> tuple[Array, Array]:
    """Orthogonal ``Q (n, n)`` and upper triangular ``R (p, p)`` with ``Q[:, :p] R`` the matrix.

    The last ``n − p`` columns of Q span what is orthogonal to the matrix's ``p ≤ n`` columns.
    """
    orthogonal, upper = qr(matrix)
    return orthogonal, upper[: matrix.shape[1]]


def solve_upper(factor: Array, right: Array) -> Array:
    """``R⁻¹ right`` for an upper triangular ``(p, p)`` and right sides ``(p,)`` or ``(p, m)``."""
    solution: Array = solve_triangular(factor, right)
    return solution


def inverse(factor: Array) -> Array:
    """``(L Lᵀ)⁻¹``, symmetric, shape ``(n, n)``."""
    lower = dpotri(factor, lower=1)[0]  # zeros above the diagonal
    whole = lower + lower.T
    whole.flat[:: len(whole) + 1] *= 0.5
    return whole


def log_determinant(factor: Array) -> float:
    """``log det(L Lᵀ)``."""
    return 2 * float(np.log(factor.diagonal()).sum())
