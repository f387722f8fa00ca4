from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fisherbo.errors import InvalidInputError, NumericalError
from fisherbo.geometry.linalg import (
    cholesky,
    conjugate_gradients,
    inverse_from_cholesky,
    kronecker_solve,
    log_determinant,
    psd_eigh,
    psd_inverse,
    psd_solve,
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
def test_factor_inverse_and_determinant_agree_with_torch(
    batch: tuple[int, ...], n: int, seed: int
) -> None:
    matrix = positive(batch, n, seed)
    factor = cholesky(matrix)
    assert_close(factor @ factor.mT, matrix)
    assert_close(inverse_from_cholesky(factor), torch.linalg.inv(matrix))
    assert_close(psd_inverse(matrix), torch.linalg.inv(matrix))
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
    scales = torch.logspace(0, -9, 40, dtype=torch.float64) - 1e-5  # beyond float32 anywhere
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


# --- solves without jitter ---


@unhurried
@given(batches, dims, seeds)
def test_psd_solve_agrees_with_torch(batch: tuple[int, ...], n: int, seed: int) -> None:
    matrix, right = positive(batch, n, seed), normal(*batch, n, seed=seed + 1)
    assert_close(psd_solve(matrix, right), torch.linalg.solve(matrix, right))


@unhurried
@given(dims, seeds)
def test_psd_solve_of_a_singular_matrix_is_the_least_norm_solution(n: int, seed: int) -> None:
    root = normal(n + 1, n, seed=seed)
    matrix, right = root @ root.T, root @ normal(n, seed=seed + 1)
    solution = psd_solve(matrix, right)
    assert_close(matrix @ solution, right, rtol=1e-6, atol=1e-6)
    least = torch.linalg.lstsq(matrix, right[:, None], rcond=1e-10, driver="gelsd").solution
    assert_close(solution, least[:, 0], rtol=1e-4, atol=1e-4)


def test_units_make_no_matrix_singular() -> None:
    unit = torch.tensor([1e-12, 1.0, 1e12], dtype=torch.float64)
    matrix, right = positive((), 3, 0), normal(3, seed=1)
    scaled = psd_solve(unit[:, None] * matrix * unit, unit * right)
    assert_close(scaled * unit, torch.linalg.solve(matrix, right))


def test_psd_solve_is_differentiable() -> None:
    matrix, right = positive((2,), 3, 0).requires_grad_(), normal(2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda m: psd_solve((m + m.mT) / 2, right), matrix)


@pytest.mark.parametrize(
    ("matrix", "what"),
    [
        (torch.diag(torch.tensor([1.0, -1e-3])), "an eigenvalue of -0.001"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "must be symmetric"),
        (torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]), "must be finite"),
        (torch.ones(2, 3), "square"),
    ],
)
def test_psd_solve_refuses_what_is_no_metric(matrix: Tensor, what: str) -> None:
    with pytest.raises(InvalidInputError, match=what):
        psd_solve(matrix, torch.ones(2))


# --- Kronecker products ---


@unhurried
@given(batches, dims, dims, st.sampled_from([0.0, 0.3]), seeds)
def test_kronecker_solve_is_the_dense_inverse(
    batch: tuple[int, ...], d_in: int, d_out: int, damping: float, seed: int
) -> None:
    a, g = positive(batch, d_in, seed), positive(batch, d_out, seed + 1)
    right = normal(*batch, d_out, d_in, seed=seed + 2)
    solution = kronecker_solve(a, g, right, damping)
    dense = torch.einsum("...ij,...kl->...ikjl", g, a).flatten(-4, -3).flatten(-2, -1)
    dense = dense + damping * torch.eye(d_in * d_out, dtype=dense.dtype)
    expected = torch.linalg.solve(dense, right.flatten(-2))
    assert_close(solution.flatten(-2), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_kronecker_solve_refuses_an_indefinite_factor(damping: float) -> None:
    bad, good = torch.diag(torch.tensor([1.0, -1.0])), torch.eye(2)
    for factors in ((bad, good), (good, bad)):
        with pytest.raises(InvalidInputError, match="positive semi-definite"):
            kronecker_solve(*factors, torch.ones(2, 2), damping)


class Sizes(TorchDispatchMode):
    """Counts operations, and the numbers of the largest tensor that one of them returned."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.largest = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.operations, self.largest = self.operations + 1, max([self.largest, *sizes])
        return result


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_cost_of_kronecker_is_that_of_its_factors(damping: float) -> None:
    """As many operations at each size, on matrices of d² numbers at most: d³, not d⁶."""
    seen = []
    for d in (8, 32):
        factors = (2 * torch.eye(d, dtype=torch.float64) for _ in range(3))
        with Sizes() as sizes:
            kronecker_solve(*factors, damping)
        assert sizes.largest == d**2
        seen.append(sizes.operations)
    assert seen[0] == seen[1] > 2


# --- conjugate gradients ---


@unhurried
@given(batches, dims, seeds)
def test_conjugate_gradients_solve_every_system_of_a_batch(
    batch: tuple[int, ...], n: int, seed: int
) -> None:
    matrix, right = positive(batch, n, seed), normal(*batch, n, seed=seed + 1)
    solution = conjugate_gradients(lambda v: (matrix @ v[..., None])[..., 0], right)
    assert_close(solution, torch.linalg.solve(matrix, right), rtol=1e-6, atol=1e-6)


def test_conjugate_gradients_need_one_product_for_each_distinct_eigenvalue() -> None:
    diagonal = torch.tensor([1.0, 1.0, 1.0, 4.0, 4.0, 9.0], dtype=torch.float64)
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return diagonal * v

    solution = conjugate_gradients(product, torch.ones(6, dtype=torch.float64))
    assert_close(solution, 1 / diagonal)
    assert len(calls) == 3


def test_conjugate_gradients_stop_at_the_limit_and_at_the_tolerance() -> None:
    matrix, right = positive((), 8, 0), normal(8, seed=1)
    assert torch.equal(
        conjugate_gradients(lambda v: matrix @ v, right, max_iterations=0), 0 * right
    )
    rough = conjugate_gradients(lambda v: matrix @ v, right, tolerance=0.1)
    assert (matrix @ rough - right).norm() <= 0.1 * right.norm() * (1 + 1e-9)
    zero = conjugate_gradients(lambda v: matrix @ v, torch.zeros(8))
    assert torch.equal(zero, torch.zeros(8))


def test_conjugate_gradients_refuse_negative_curvature_and_nan() -> None:
    with pytest.raises(NumericalError, match="negative curvature"):
        conjugate_gradients(lambda v: -v, torch.ones(2))
    with pytest.raises(NumericalError, match="not finite"):
        conjugate_gradients(lambda v: v * torch.nan, torch.ones(2))


@unhurried
@given(batches, dims, seeds)
def test_psd_eigh_diagonalises(batch: tuple[int, ...], n: int, seed: int) -> None:
    root = normal(*batch, n, max(1, n // 2), seed=seed)  # singular
    matrix = root @ root.mT
    values, vectors = psd_eigh(matrix)
    assert (values >= 0).all()
    assert_close(vectors @ (values[..., None] * vectors.mT), matrix, atol=1e-12, rtol=1e-12)
    assert_close(vectors.mT @ vectors, torch.eye(n).double().expand_as(matrix))


def test_psd_eigh_of_float32_matrices_of_low_rank_and_uneven_scale() -> None:
    """LAPACK fills the eigenvectors of one in some thousands of these with NaN and says nothing."""
    for seed in range(520, 560):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(64, 1 + seed % 8, generator=generator).clamp_min(0)
        rows = rows @ torch.randn(1 + seed % 8, 33, generator=generator).clamp_min(0)
        rows = rows * 10.0 ** -torch.randint(0, 8, (33,), generator=generator).float()
        matrix = rows.mT @ rows / 64
        values, vectors = psd_eigh(matrix)
        assert_close(vectors @ (values[:, None] * vectors.mT), matrix, atol=1e-5, rtol=1e-5)
        assert_close(vectors.mT @ vectors, torch.eye(33), atol=1e-5, rtol=1e-5)


def test_psd_eigh_goes_to_float64_where_lapack_returns_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    eigh = torch.linalg.eigh

    def broken(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = eigh(matrix)
        return values, vectors * torch.nan if matrix.dtype == torch.float32 else vectors

    monkeypatch.setattr(torch.linalg, "eigh", broken)
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    values, vectors = psd_eigh(matrix)
    assert vectors.dtype == torch.float32
    assert_close(vectors @ torch.diag(values) @ vectors.mT, matrix)
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: (a[0] * torch.nan, a * torch.nan))
    with pytest.raises(NumericalError, match="not found in float64 either"):
        psd_eigh(matrix)


def test_psd_eigh_refuses_what_is_not_finite() -> None:
    with pytest.raises(NumericalError, match="not finite"):
        psd_eigh(torch.full((2, 2), torch.nan))
