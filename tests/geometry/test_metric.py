from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fisherbo.geometry.linalg import psd_inverse
from fisherbo.geometry.metric import KroneckerMetric

seeds = st.integers(0, 2**31 - 1)
dims = st.integers(1, 6)
batches = st.sampled_from([(), (3,), (2, 2)])
unhurried = settings(deadline=None, derandomize=True, max_examples=30)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(batch: tuple[int, ...], n: int, seed: int) -> Tensor:
    root = normal(*batch, n, n + 2, seed=seed)
    return root @ root.mT + 0.1 * torch.eye(n, dtype=root.dtype)


@unhurried
@given(dims, dims, seeds)
def test_kronecker_metric_solves_the_dense_system(d_in: int, d_out: int, seed: int) -> None:
    a, g = positive((), d_in, seed), positive((), d_out, seed + 1)
    gradient = normal(d_out, d_in, seed=seed + 2)
    natural = KroneckerMetric(psd_inverse(a), psd_inverse(g)).natural(gradient)
    dense = torch.kron(g, a)  # of weights flattened row by row
    assert_close(dense @ natural.flatten(), gradient.flatten(), atol=1e-8, rtol=1e-8)


@unhurried
@given(batches, dims, dims, seeds)
def test_kronecker_metric_of_a_batch_is_a_batch_of_metrics(
    batch: tuple[int, ...], d_in: int, d_out: int, seed: int
) -> None:
    a, g = psd_inverse(positive(batch, d_in, seed)), psd_inverse(positive(batch, d_out, seed + 1))
    gradient = normal(*batch, d_out, d_in, seed=seed + 2)
    together = KroneckerMetric(a, g).natural(gradient).reshape(-1, d_out, d_in)
    singles = [m.reshape(-1, *m.shape[-2:]) for m in (a, g, gradient)]
    for one, a1, g1, gradient1 in zip(together, *singles, strict=True):
        assert_close(one, KroneckerMetric(a1, g1).natural(gradient1))


@unhurried
@given(dims, dims, seeds)
def test_natural_gradient_ignores_linear_maps_of_inputs_and_outputs(
    d_in: int, d_out: int, seed: int
) -> None:
    """Weights W = P V Q: A_V = Q A Qᵀ, G_V = Pᵀ G P, and the step of W is P (step of V) Q."""
    a, g = positive((), d_in, seed), positive((), d_out, seed + 1)
    q, p = normal(d_in, d_in, seed=seed + 2), normal(d_out, d_out, seed=seed + 3)
    q, p = q + 4 * torch.eye(d_in).double(), p + 4 * torch.eye(d_out).double()
    gradient = normal(d_out, d_in, seed=seed + 4)
    plain = KroneckerMetric(torch.linalg.inv(a), torch.linalg.inv(g)).natural(gradient)
    mapped = KroneckerMetric(torch.linalg.inv(q @ a @ q.T), torch.linalg.inv(p.T @ g @ p))
    assert_close(p @ mapped.natural(p.T @ gradient @ q.T) @ q, plain, atol=1e-6, rtol=1e-6)
