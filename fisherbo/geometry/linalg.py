"""Factorisations and solves with positive (semi-)definite matrices; the only home of Cholesky.

Symbols:
    A, G     symmetric positive semi-definite; A ⊗ G acts on a matrix V as V ↦ G V A
    L        lower triangular with A = L Lᵀ
    A⁺       pseudo-inverse
    r, p     residual and search direction of conjugate gradients
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError, NumericalError

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


def psd_eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues >= 0, ascending, of positive semi-definite matrices, shape ``(*b, n)``."""
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values.clamp_min(0)


def orthonormal_basis(columns: Tensor) -> Tensor:
    """Orthonormal columns that span those of a matrix ``(m, n)``, shape ``(m, min(m, n))``."""
    basis: Tensor = torch.linalg.qr(columns)[0]
    return basis


def solve_lower(factor: Tensor, right: Tensor) -> Tensor:
    """``L⁻¹ right`` for lower factors ``(*b, n, n)`` and right sides ``(*b, n, m)``."""
    return torch.linalg.solve_triangular(factor, right, upper=False)


def _try_eigh(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # not in torch's stubs
        return None
    return (values, vectors) if torch.isfinite(vectors).all() else None


def psd_eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues >= 0, ascending, and eigenvectors (columns) of positive semi-definite matrices.

    Decomposed in the matrix's own precision; in float64 where that fails, by an error or by NaN, as
    LAPACK may do with matrices that are nearly of low rank. Rounding below 0 is 0.

    Args:
        matrix: Symmetric, shape ``(*b, n, n)``.

    Returns:
        Shapes ``(*b, n)`` and ``(*b, n, n)``.

    Raises:
        NumericalError: If an entry is not finite, or no eigenvalues are found.
    """
    if not torch.isfinite(matrix).all():
        raise NumericalError(
            "a covariance or curvature matrix has entries that are not finite; "
            "look for NaN or inf in the inputs"
        )
    found = _try_eigh(matrix) or _try_eigh(matrix.double())
    if found is None:
        raise NumericalError(
            "the eigenvalues of a covariance or curvature matrix were not found in float64 either; "
            "rescale the inputs, whose units may differ by too many orders of magnitude"
        )
    values, vectors = (part.to(matrix.dtype) for part in found)
    return values.clamp_min(0), vectors


def log_determinant(factor: Tensor) -> Tensor:
    """``log det(L Lᵀ)``, shape ``(*b,)``."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def psd_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solution of ``matrix x = right`` for a positive semi-definite matrix, without jitter.

    ``A⁻¹ right`` by Cholesky; ``A⁺ right``, the least-norm solution, for the whole batch where a
    member is singular to rounding. The units of the coordinates make no matrix singular.

    Args:
        matrix: Symmetric, shape ``(*b, n, n)``.
        right: Shape ``(*b, n)``.

    Raises:
        InvalidInputError: If a matrix is not finite, not symmetric or has a negative eigenvalue.
    """
    return _psd_solve_columns(matrix, right[..., None])[..., 0]


def _psd_solve_columns(matrix: Tensor, right: Tensor) -> Tensor:
    """As `psd_solve`, for the columns of ``right``, shape ``(*b, n, k)``."""
    check_symmetric(matrix)
    diagonal = matrix.detach().diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, 1.0).sqrt()[..., None]
    factor, info = _try_cholesky(matrix / scale / scale.mT)  # unit diagonal
    if not info.any() and not _is_singular(factor.detach()):
        return torch.cholesky_solve(right / scale, factor) / scale
    check_positive_semidefinite(matrix)
    return torch.linalg.pinv(matrix, rtol=_rounding(matrix), hermitian=True) @ right


def _is_singular(factor: Tensor) -> bool:
    """Whether the least eigenvalue of ``L Lᵀ``, of unit diagonal, is rounding, in any member."""
    largest = torch.linalg.matrix_norm(inverse_from_cholesky(factor))
    return bool((largest * _rounding(factor) > 1).any())


def check_symmetric(matrix: Tensor) -> None:
    """Refuse matrices that are not square, finite and symmetric to rounding.

    Raises:
        InvalidInputError: If one is not.
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InvalidInputError(
            f"a metric must be a square matrix, shape (*b, n, n), got {tuple(matrix.shape)}"
        )
    if not torch.isfinite(matrix).all():
        raise InvalidInputError(
            "a metric must be finite, got NaN or inf; look for parameters at the edge of a range"
        )
    asymmetry = (matrix - matrix.mT).abs().amax((-2, -1))
    if (asymmetry > 10 * _rounding(matrix) * matrix.abs().amax((-2, -1))).any():
        raise InvalidInputError(
            f"a metric must be symmetric, got entries that differ by {asymmetry.max().item():.1e} "
            "from their mirror image; use (F + Fᵀ) / 2 if they should not"
        )


def check_positive_semidefinite(matrix: Tensor) -> None:
    """Refuse symmetric matrices with an eigenvalue below 0, beyond rounding.

    Raises:
        InvalidInputError: If there is one.
    """
    eigenvalues = torch.linalg.eigvalsh(matrix.detach())
    if (eigenvalues[..., 0] < -10 * _rounding(matrix) * eigenvalues.abs().amax(-1)).any():
        raise InvalidInputError(
            "a metric must be positive semi-definite, got an eigenvalue of "
            f"{eigenvalues.min().item():.3g}; use a Fisher information in place of a Hessian, "
            "or raise the damping"
        )


def _rounding(matrix: Tensor) -> float:
    """Relative size of rounding in factorisations, ``16·√n·ε``: rounding errors add as noise."""
    return 16 * math.sqrt(matrix.shape[-1]) * torch.finfo(matrix.dtype).eps


def kronecker_solve(
    input_factor: Tensor, output_factor: Tensor, right: Tensor, damping: float = 0.0
) -> Tensor:
    """Solution ``V`` of ``G V A + λ V = right``, at cost d_in³ + d_out³, not (d_in d_out)³.

    Without damping (A ⊗ G)⁻¹ = A⁻¹ ⊗ G⁻¹; with it, in the eigenbases of both factors. No gradient
    flows through damped factors whose eigenvalues repeat.

    Args:
        input_factor: A, shape ``(*b, d_in, d_in)``.
        output_factor: G, shape ``(*b, d_out, d_out)``.
        right: Shape ``(*b, d_out, d_in)``.
        damping: λ >= 0.

    Raises:
        InvalidInputError: As `psd_solve`, for either factor.
    """
    if damping == 0:
        rows = _psd_solve_columns(input_factor, right.mT).mT  # right A⁻¹
        return _psd_solve_columns(output_factor, rows)
    for factor in (input_factor, output_factor):
        check_symmetric(factor)
        check_positive_semidefinite(factor)
    a, u = torch.linalg.eigh(input_factor)
    g, w = torch.linalg.eigh(output_factor)
    spectrum = g[..., :, None] * a[..., None, :] + damping
    return w @ ((w.mT @ right @ u) / spectrum) @ u.mT


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    tolerance: float = 1e-10,
    max_iterations: int | None = None,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Approximate solution ``x`` of ``A x = right`` from products ``v ↦ A v`` alone.

    Args:
        product: Product of a positive semi-definite matrix with vectors of the shape of ``right``.
        right: Shape ``(*b, n)``; each row is a system of its own.
        tolerance: A row stops where ‖r‖ <= tolerance·‖right‖.
        max_iterations: Default: 2n. The solution reached by then is returned.
        preconditioner: Vectors r to M⁻¹ r, of a positive definite M near A. Default: the identity.

    Raises:
        NumericalError: If a direction has pᵀAp < 0, or a product is not finite.
    """
    x, r = torch.zeros_like(right), right
    p = z = r if preconditioner is None else preconditioner(r)
    squared = _dot(r, r)
    goal = tolerance**2 * squared
    weight = squared if preconditioner is None else _dot(r, z)  # rᵀM⁻¹r
    for _ in range(2 * right.shape[-1] if max_iterations is None else max_iterations):
        if (squared <= goal).all():
            break
        ap = product(p)
        curvature = _dot(p, ap)
        _check_curvature(curvature, squared > goal)
        active = (squared > goal) & (curvature > 0)
        step = torch.where(active, weight / torch.where(active, curvature, 1.0), 0.0)
        x, r = x + step * p, r - step * ap  # Hestenes & Stiefel (1952), eq. 3:1
        z = r if preconditioner is None else preconditioner(r)
        fresh = _dot(r, r)
        renewed = fresh if preconditioner is None else _dot(r, z)
        ratio = torch.where(active, renewed / torch.where(active, weight, 1.0), 0.0)
        p, weight = z + ratio * p, renewed
        squared = torch.where(active, fresh, goal)
    return x


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1, keepdim=True)


def _check_curvature(curvature: Tensor, active: Tensor) -> None:
    if not torch.isfinite(curvature).all():
        raise NumericalError("a Fisher-vector product is not finite; look for NaN or inf")
    if (curvature[active] < 0).any():
        raise NumericalError(
            "conjugate gradients met a direction of negative curvature: the product is not of a "
            "positive semi-definite matrix; use a Fisher, not a Hessian, or raise the damping"
        )
