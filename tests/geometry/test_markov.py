from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import (
    fisher_information,
    fisher_inner,
    fisher_rao_distance,
    is_congruent,
    kl,
    markov_embedding,
    push_forward,
    push_tangent,
)

seeds = st.integers(0, 10_000)
sizes = st.integers(2, 6)


def rand(*shape: int, seed: int) -> Tensor:
    return 0.01 + torch.rand(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def tangent(m: int, seed: int) -> Tensor:
    v = torch.randn(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return v - v.mean()


def embedding(m: int, seed: int) -> Tensor:
    """Each outcome is split in one, two or three."""
    parts = torch.randint(1, 4, (m,), generator=torch.Generator().manual_seed(seed))
    parts[0] = 2  # at least one is really split
    outcome = torch.repeat_interleave(torch.arange(m), parts)
    order = torch.randperm(len(outcome), generator=torch.Generator().manual_seed(seed))
    return markov_embedding(outcome[order], rand(len(outcome), seed=seed + 1))


def kernel(m: int, n: int, seed: int) -> Tensor:
    rows = rand(m, n, seed=seed)
    return rows / rows.sum(-1, keepdim=True)


@given(sizes, seeds)
def test_congruent_embeddings_preserve_the_fisher_metric(m: int, seed: int) -> None:
    p, q = Categorical(rand(m, seed=seed)), Categorical(rand(m, seed=seed + 1))
    u, v = tangent(m, seed), tangent(m, seed + 1)
    w = embedding(m, seed)
    assert is_congruent(w)
    split = push_forward(p, w)
    before, after = (
        fisher_inner(p, u, v),
        fisher_inner(split, push_tangent(u, w), push_tangent(v, w)),
    )
    assert_close(after, before, rtol=1e-12, atol=1e-12)
    distance = fisher_rao_distance(split, push_forward(q, w))
    assert_close(distance, fisher_rao_distance(p, q), rtol=1e-12, atol=1e-12)
    assert_close(kl(split, push_forward(q, w)), kl(p, q), rtol=1e-10, atol=1e-12)


@given(sizes, seeds)
def test_congruent_embeddings_do_not_preserve_the_euclidean_metric(m: int, seed: int) -> None:
    v, w = tangent(m, seed), embedding(m, seed)
    assert push_tangent(v, w).norm() < (1 - 1e-6) * v.norm()  # negative control


@given(sizes, sizes, seeds)
def test_markov_kernels_contract_the_fisher_metric(m: int, n: int, seed: int) -> None:
    p, q = Categorical(rand(m, seed=seed)), Categorical(rand(m, seed=seed + 1))
    v, w = tangent(m, seed), kernel(m, n, seed + 2)
    image = push_tangent(v, w)
    assert fisher_inner(push_forward(p, w), image, image) <= fisher_inner(p, v, v) * (1 + 1e-12)
    assert fisher_rao_distance(push_forward(p, w), push_forward(q, w)) <= (
        fisher_rao_distance(p, q) * (1 + 1e-12)
    )


def test_a_markov_kernel_can_stretch_the_euclidean_metric() -> None:
    """Outcomes 0 and 1 merge: (1, 1, −2) has length √6, its image (2, −2) has √8."""
    merge = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).double()
    v = torch.tensor([1.0, 1.0, -2.0]).double()
    assert push_tangent(v, merge).norm() > v.norm()  # negative control
    p = Categorical(torch.ones(3).double())
    image = push_tangent(v, merge)
    assert fisher_inner(push_forward(p, merge), image, image) <= fisher_inner(p, v, v) + 1e-12


@given(sizes, seeds)
def test_inner_product_is_the_fisher_information_of_the_chart(m: int, seed: int) -> None:
    p, u, v = Categorical(rand(m, seed=seed)), tangent(m, seed), tangent(m, seed + 1)
    assert_close(fisher_inner(p, u, v), u[:-1] @ fisher_information(p) @ v[:-1])


def test_batches_and_dtypes() -> None:
    weight = torch.rand(5, 1, 4) + 0.1
    w = markov_embedding(torch.tensor([0, 1, 1, 0]), weight)
    assert w.shape == (5, 1, 2, 4)
    assert w.dtype == torch.float32
    assert is_congruent(w).shape == (5, 1)
    assert push_forward(Categorical(torch.ones(3, 2)), w).batch_shape == (5, 3)
    assert not is_congruent(torch.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("outcome", "weight", "what"),
    [
        ([0, 2], [1.0, 1.0], r"each of 0 … 2"),
        ([-1, 0], [1.0, 1.0], r"each of 0 … 0"),
        ([0, 1], [1.0, 0.0], "positive and finite"),
        ([0, 1], [1.0, torch.nan], "positive and finite"),
        ([0, 1], [1.0], r"shape \(n,\)"),
    ],
)
def test_what_is_no_embedding_is_refused(outcome, weight, what) -> None:
    with pytest.raises(InvalidInputError, match=what):
        markov_embedding(torch.tensor(outcome), torch.tensor(weight))


def test_what_is_no_kernel_is_refused() -> None:
    p = Categorical(torch.ones(2))
    for rows in (
        [[0.5, 0.6], [0.5, 0.5]],
        [[1.5, -0.5], [0.5, 0.5]],
        [[torch.nan, 1.0], [0.5, 0.5]],
    ):
        with pytest.raises(
            InvalidInputError, match="rows of a Markov kernel must be probabilities"
        ):
            push_forward(p, torch.tensor(rows))
    with pytest.raises(InvalidInputError, match="acts on 3 outcomes, got 2"):
        push_forward(p, torch.eye(3))
    with pytest.raises(InvalidInputError, match="floating point"):
        push_forward(p, torch.eye(2, dtype=torch.int64))
