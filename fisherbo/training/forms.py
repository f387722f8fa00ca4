"""The form of a Kronecker factor: dense up to a size, block-diagonal beyond it.

A dense factor of d rows takes d² scalars and d³ operations. In blocks of m it takes d·m and d·m²;
with m no larger than the other side of the layer it is no larger than the weight.

Stored are dense factors as ``(*b, d, d)``, blocks as ``(*b, k, m, m)``, diagonals as ``(*b, d)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fisherbo.geometry.block_diagonal import BlockDiagonal, Matrix, split_columns
from fisherbo.training.factors import add_second_moment

MAX_FACTOR_SIZE = 1024
LEAST_INPUT_BLOCK = 256
"""Blocks of inputs that are correlated overshoot along what they share: A ⪯ k·(its k blocks)."""
LEAST_OUTPUT_BLOCK = 128
"""G of a softmax is nearly diagonal; blocks of 128 train as the dense factor does."""


@dataclass(frozen=True)
class Form:
    """The form of a factor.

    Attributes:
        size: d.
        block: m; the size itself for a dense factor, 1 for a diagonal one.
    """

    size: int
    block: int

    @property
    def diagonal(self) -> bool:
        """Whether only the diagonal is kept."""
        return self.block == 1 < self.size

    @property
    def dense(self) -> bool:
        """Whether all is kept."""
        return self.block == self.size

    @property
    def blocks(self) -> int:
        """Number of blocks, k."""
        return math.ceil(self.size / self.block)

    @property
    def padded(self) -> int:
        """k·m, the number of eigenvalues."""
        return self.blocks * self.block

    def shape(self, batch: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Shape of the stored factor."""
        if self.dense:
            return (*batch, self.size, self.size)
        if self.diagonal:
            return (*batch, self.size)
        return (*batch, self.blocks, self.block, self.block)

    def matrix(self, stored: Tensor) -> Matrix:
        """The stored factor, or its inverse, as a matrix."""
        return self._operator(stored, self.size)

    def basis(self, stored: Tensor | None) -> Matrix | None:
        """The stored eigenvectors as a matrix with `padded` columns; ``None`` is the identity."""
        return None if stored is None else self._operator(stored, self.padded)

    def stored(self, matrix: Matrix) -> Tensor:
        """What `matrix` and `basis` read, in one layout: another one would round otherwise."""
        if isinstance(matrix, Tensor):
            return matrix.contiguous()
        return (matrix.blocks[..., 0, 0] if self.diagonal else matrix.blocks).contiguous()

    def add_second_moment(self, total: Tensor, rows: Tensor) -> None:
        """Add ``Σ r rᵀ`` over rows ``(*b, n, d)``, or the part of it that the form keeps, in place.

        Rows of ``d − 1`` get a last coordinate 1.
        """
        if self.dense:
            add_second_moment(total, rows)
            return
        rows = self.homogeneous(rows.to(total.dtype))
        if self.diagonal:
            total += rows.square().sum(-2)
            return
        parts = split_columns(rows, self.blocks, self.block)
        total += parts.mT @ parts

    def homogeneous(self, rows: Tensor) -> Tensor:
        """Rows with the last coordinate 1, if the size asks for one."""
        width = rows.shape[-1]
        return rows if width == self.size else functional.pad(rows, (0, 1), value=1.0)

    def rotated(self, rows: Tensor, stored: Tensor | None) -> Tensor:
        """Rows ``(*b, N, T, d)``, or without their last 1, in the basis, ``(*b, N, T, padded)``."""
        if stored is None:
            return self.homogeneous(rows)
        rows = rows.to(stored.dtype)
        if self.dense:
            basis, width = stored[..., None, :, :], rows.shape[-1]
            turned = rows @ basis[..., :width, :]
            return turned if width == self.size else turned + basis[..., width:, :]
        flat = self.homogeneous(rows).flatten(-3, -2) @ self._operator(stored, self.padded)
        return torch.as_tensor(flat).unflatten(-2, rows.shape[-3:-1])

    def _operator(self, stored: Tensor, columns: int) -> Matrix:
        if self.dense:
            return stored
        blocks = stored[..., None, None] if self.diagonal else stored
        return BlockDiagonal(blocks, self.size, columns)

    def __str__(self) -> str:
        if self.dense:
            return "dense"
        return "diagonal" if self.diagonal else f"in {self.blocks} blocks of {self.block:,}"


def form_of(size: int, other: int, least: int, unit: int = 1, limit: int = MAX_FACTOR_SIZE) -> Form:
    """The form of the factor of one side of a layer.

    Dense up to ``limit``; beyond it in equal blocks of at most ``limit`` and at most the larger of
    ``other`` and ``least``, so that the factor takes hardly more memory than the weight.

    Args:
        size: d, with the bias.
        other: Size of the other side.
        least: Blocks of this size are allowed, however narrow the other side.
        unit: Neighbours that stay together where they fit: the positions of a kernel.
        limit: The largest block.
    """
    if size <= limit:
        return Form(size, size)
    largest = min(limit, max(other, least))
    unit = unit if unit <= largest else 1
    units = math.ceil(size / unit)
    count = math.ceil(units / (largest // unit))
    return Form(size, unit * math.ceil(units / count))
