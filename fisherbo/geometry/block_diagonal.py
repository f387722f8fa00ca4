"""Matrices that are dense or block-diagonal, behind one set of operations.

Symbols: d size; k equal blocks of m rows each, k·m >= d. Rows and columns beyond d are zero padding
of the last block. m = 1 is a diagonal matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from fisherbo.geometry.linalg import psd_eigh, psd_inverse


@dataclass(frozen=True)
class BlockDiagonal:
    """The first ``rows`` rows and ``columns`` columns of a block-diagonal matrix.

    Attributes:
        blocks: Shape ``(*b, k, m, m)``.
        rows: At most k·m.
        columns: At most k·m.
    """

    blocks: Tensor
    rows: int
    columns: int

    @property
    def mT(self) -> BlockDiagonal:
        """The transpose."""
        return BlockDiagonal(self.blocks.mT, self.columns, self.rows)

    def __matmul__(self, right: Tensor) -> Tensor:
        """``self @ right``, for ``right`` of shape ``(*b, columns, n)``."""
        count, width = self.blocks.shape[-3], self.blocks.shape[-1]
        if width == 1:
            return self.blocks[..., 0] * right
        padded = functional.pad(right, (0, 0, 0, count * width - self.columns))
        product = self.blocks @ padded.unflatten(-2, (count, width))
        return product.flatten(-3, -2)[..., : self.rows, :]

    def __rmatmul__(self, left: Tensor) -> Tensor:
        """``left @ self``, for ``left`` of shape ``(*b, n, rows)``."""
        count, width = self.blocks.shape[-3], self.blocks.shape[-1]
        if width == 1:
            return left * self.blocks[..., 0, 0][..., None, :]
        parts = split_columns(left, count, width)
        return (parts @ self.blocks).transpose(-3, -2).flatten(-2)[..., : self.columns]


Matrix: TypeAlias = Tensor | BlockDiagonal
"""Dense matrices, shape ``(*b, d, d)``, or block-diagonal ones."""


def split_columns(matrix: Tensor, count: int, width: int) -> Tensor:
    """Columns of ``(*b, n, d)`` in ``count`` groups, padded by zeros, ``(*b, count, n, width)``."""
    padded = functional.pad(matrix, (0, count * width - matrix.shape[-1]))
    return padded.unflatten(-1, (count, width)).transpose(-3, -2)


def mean_diagonal(matrix: Matrix) -> Tensor:
    """``tr / d``, shape ``(*b,)``."""
    if isinstance(matrix, BlockDiagonal):
        return matrix.blocks.diagonal(dim1=-2, dim2=-1).sum((-2, -1)) / matrix.rows
    return matrix.diagonal(dim1=-2, dim2=-1).mean(-1)


def add_diagonal(matrix: Matrix, value: Tensor) -> Matrix:
    """``matrix + value·I``, ``value`` of shape ``(*b,)``; the padding becomes definite with it."""
    if isinstance(matrix, BlockDiagonal):
        blocks = matrix.blocks.clone()
        blocks.diagonal(dim1=-2, dim2=-1).add_(value[..., None, None])
        return BlockDiagonal(blocks, matrix.rows, matrix.columns)
    damped = matrix.clone()
    damped.diagonal(dim1=-2, dim2=-1).add_(value[..., None])
    return damped


def inverse(matrix: Matrix) -> Matrix:
    """Inverse of positive definite matrices.

    Raises:
        NumericalError: As `psd_inverse`.
    """
    if isinstance(matrix, Tensor):
        return psd_inverse(matrix)
    found = 1 / matrix.blocks if matrix.blocks.shape[-1] == 1 else psd_inverse(matrix.blocks)
    return BlockDiagonal(found, matrix.rows, matrix.columns)


def eigh(matrix: Matrix) -> tuple[Tensor, Matrix | None]:
    """Eigenvalues >= 0 and eigenvectors, as columns, of positive semi-definite matrices.

    Returns:
        Shapes ``(*b, d)`` and ``(*b, d, d)``; ``(*b, k·m)`` and ``(*b, d, k·m)`` for blocks; for a
        diagonal matrix its diagonal and ``None``, which stands for the identity.

    Raises:
        NumericalError: As `psd_eigh`.
    """
    if isinstance(matrix, Tensor):
        return psd_eigh(matrix)
    if matrix.blocks.shape[-1] == 1:
        return matrix.blocks[..., 0, 0].clamp_min(0), None
    values, vectors = psd_eigh(matrix.blocks)
    values = values.flatten(-2)
    return values, BlockDiagonal(vectors, matrix.rows, values.shape[-1])


def diagonal_in(matrix: Matrix, basis: Matrix) -> tuple[Tensor, Tensor]:
    """Diagonal of ``QᵀMQ`` for an orthogonal Q of the form of M, and how far M is from it.

    Returns:
        The diagonal >= 0, as the eigenvalues of `eigh`, and ``‖QᵀMQ − diag‖ / ‖M‖`` in Frobenius
        norms over all blocks, 0 for a matrix of zeros.
    """
    if isinstance(matrix, BlockDiagonal) and isinstance(basis, BlockDiagonal):
        rotated = basis.blocks.mT @ matrix.blocks @ basis.blocks
    else:
        assert isinstance(matrix, Tensor)
        assert isinstance(basis, Tensor)
        rotated = basis.mT @ matrix @ basis
    diagonal = rotated.diagonal(dim1=-2, dim2=-1)
    whole = rotated.square().sum()
    outside = (whole - diagonal.square().sum()).clamp_min(0)
    share = (outside / whole.clamp_min(torch.finfo(whole.dtype).tiny)).sqrt()
    flat = diagonal if isinstance(matrix, Tensor) else diagonal.flatten(-2)
    return flat.clamp_min(0), share


def squared_rotation(new: Matrix | None, old: Matrix | None) -> Matrix | None:
    """``(newᵀ old)²``, element by element, of two bases of one form; ``None`` for the identity."""
    if isinstance(new, BlockDiagonal) and isinstance(old, BlockDiagonal):
        return BlockDiagonal((new.blocks.mT @ old.blocks).square(), new.columns, old.columns)
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return torch.square(new.mT @ old)
    return None
