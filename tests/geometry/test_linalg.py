from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fisherbo.errors import NumericalError
from fisherbo.geometry.linalg import (
    cholesky,
    cholesky_solve,
    inverse_from_cholesky,
    log_determinant,
    psd_inverse,
)

seeds = st.integers(0, 2**31 - 1)
dims = st.integers(1, 8)
batches = st.sampled_from([(), (3,), (2, 2)])
unhurried = settings(deadline=None, derandomize=True, max_examples=30)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(batch: tuple[int, ...], n: int, seed: int) -> Tensor:
    root = normal(*batch, n, n + 2, seed=seed)
    return root @ root.mT + 0.1 * torch.eye(n, dtype=root.dtype)


@unhurried
@given(batches, dims, seeds)
def test_factor_inverse_solution_and_determinant_agree_with_torch(
    batch: tuple[int, ...], n: int, seed: int
) -> None:
    matrix, right = positive(batch, n, seed), normal(*batch, n, seed=seed + 1)
    factor = cholesky(matrix)
    assert_close(factor @ factor.mT, matrix)
    assert_close(inverse_from_cholesky(factor), torch.linalg.inv(matrix))
    assert_close(psd_inverse(matrix), torch.linalg.inv(matrix))
    assert_close(cholesky_solve(factor, right), torch.linalg.solve(matrix, right))
    assert_close(log_determinant(factor), torch.linalg.slogdet(matrix).logabsdet)


def test_jitter_grows_until_a_singular_matrix_has_a_factor() -> None:
    matrix = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-9]], dtype=torch.float64)
    factor = cholesky(matrix)
    assert_close(factor @ factor.mT, matrix, atol=1e-7, rtol=0)


def test_members_of_a_batch_that_need_no_jitter_get_none() -> None:
    good = positive((), 2, 0)
    bad = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-9]], dtype=torch.float64)
    assert torch.equal(cholesky(torch.stack([good, bad]))[0], cholesky(good))


@pytest.mark.parametrize("function", [cholesky, psd_inverse])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_far_from_positive_definite_is_refused(function, dtype: torch.dtype) -> None:
    with pytest.raises(NumericalError, match=r"not positive definite.*raise the damping"):
        function(torch.diag(torch.tensor([1.0, -1.0], dtype=dtype)))


@pytest.mark.parametrize("function", [cholesky, psd_inverse])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_entries_that_are_not_finite_are_refused(function, value: float) -> None:
    with pytest.raises(NumericalError, match="not finite"):
        function(torch.tensor([[1.0, 0.0], [0.0, value]]))


def test_inverse_falls_back_to_double_precision() -> None:
    root = normal(40, 40, seed=0)
    scales = torch.logspace(0, -9, 40, dtype=torch.float64)
    basis = torch.linalg.qr(root).Q
    matrix = (basis * scales @ basis.T).float()
    matrix = (matrix + matrix.T) / 2
    assert torch.linalg.cholesky_ex(matrix).info > 0
    inverse = psd_inverse(matrix)
    assert inverse.dtype == torch.float32
    assert inverse.isfinite().all()


@unhurried
@given(batches, dims, seeds)
def test_inverse_is_symmetric_and_keeps_precision(
    batch: tuple[int, ...], n: int, seed: int
) -> None:
    inverse = psd_inverse(positive(batch, n, seed).float())
    assert inverse.dtype == torch.float32
    assert_close(inverse, inverse.mT)
