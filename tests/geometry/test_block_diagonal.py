from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fisherbo.geometry.block_diagonal import (
    BlockDiagonal,
    add_diagonal,
    diagonal_in,
    eigh,
    inverse,
    mean_diagonal,
    squared_rotation,
)
from fisherbo.geometry.metric import KroneckerMetric, natural_gradient

seeds = st.integers(0, 2**31 - 1)
small = st.integers(1, 4)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blocked(k: int, m: int, size: int, seed: int, batch: tuple[int, ...] = ()) -> BlockDiagonal:
    """Random positive semi-definite blocks, zero in the padding."""
    root = normal(*batch, k * m, m, seed=seed)
    root[..., size:, :] = 0
    root = root.unflatten(-2, (k, m))
    return BlockDiagonal(root @ root.mT, size, size)


def dense(matrix: BlockDiagonal) -> Tensor:
    full = torch.block_diag(*matrix.blocks)
    return full[: matrix.rows, : matrix.columns]


@given(seeds, small, small, small, st.data())
def test_operations_are_those_of_the_dense_matrix(
    seed: int, k: int, m: int, n: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers((k - 1) * m + 1, k * m))
    matrix = blocked(k, m, size, seed)
    full, x = dense(matrix), normal(n, size, seed=seed + 1)
    assert_close(x @ matrix, x @ full)
    assert_close(matrix @ x.mT, full @ x.mT)
    assert_close(mean_diagonal(matrix), full.trace() / size)
    damped = add_diagonal(matrix, torch.tensor(0.3).double())
    inverted = torch.linalg.inv(full + 0.3 * torch.eye(size).double())
    assert_close(x @ inverse(damped), x @ inverted)
    values, basis = eigh(matrix)
    rotated = x if basis is None else x @ basis
    assert rotated.shape[-1] == len(values)
    assert_close((rotated * values) @ rotated.mT, x @ full @ x.mT)
    assert_close(rotated @ rotated.mT, x @ x.mT)
    rotation = squared_rotation(basis, basis)
    assert rotation is None or torch.allclose(values[None] @ rotation.mT, values)


@given(seeds, small, st.integers(2, 4))
def test_the_diagonal_in_a_basis_and_what_is_outside_of_it(seed: int, k: int, m: int) -> None:
    matrix, other = blocked(k, m, k * m, seed), blocked(k, m, k * m, seed + 1)
    values, own = eigh(matrix)
    assert own is not None
    diagonal, outside = diagonal_in(matrix, own)
    assert_close(diagonal, values)
    assert outside < 1e-7
    _, basis = eigh(other)
    assert isinstance(basis, BlockDiagonal)
    rotated = dense(basis).mT @ dense(matrix) @ dense(basis)
    expected = (rotated - torch.diag(rotated.diagonal())).norm() / dense(matrix).norm()
    for form, q in ((matrix, basis), (dense(matrix), dense(basis))):
        diagonal, outside = diagonal_in(form, q)
        assert_close(diagonal, rotated.diagonal())
        assert_close(outside, expected)
    assert diagonal_in(torch.zeros(3, 3), torch.eye(3))[1] == 0


@given(seeds, small, small)
def test_batches_are_many_matrices(seed: int, k: int, m: int) -> None:
    matrix = blocked(k, m, k * m, seed, (2,))
    x = normal(2, 3, k * m, seed=seed)
    for index in range(2):
        one = BlockDiagonal(matrix.blocks[index], k * m, k * m)
        assert_close((x @ matrix)[index], x[index] @ one)
        assert_close((matrix @ x.mT)[index], one @ x[index].mT)


@given(seeds)
def test_a_kronecker_metric_of_blocks_can_be_damped(seed: int) -> None:
    a = add_diagonal(blocked(2, 3, 5, seed), torch.tensor(0.5).double())
    g = add_diagonal(blocked(4, 1, 4, seed + 1), torch.tensor(0.5).double())
    gradient = normal(4, 5, seed=seed + 2)
    found = natural_gradient(KroneckerMetric(inverse(a), inverse(g)), gradient, 0.1)
    whole = torch.kron(dense(g), dense(a)) + 0.1 * torch.eye(20).double()
    assert_close(whole @ found.flatten(), gradient.flatten())
