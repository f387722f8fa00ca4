"""Labels drawn from each likelihood, and its Fisher information, against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, Poisson, StudentT
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.training.likelihoods import (
    check_likelihood,
    distribution,
    exact_gradients,
    output_inner_products,
    root_columns,
    sampled_gradients,
)


def poisson(z: Tensor) -> Poisson:
    return Poisson(z.exp())


def negative_binomial(z: Tensor) -> NegativeBinomial:
    return NegativeBinomial(3.0, logits=z)


def learned_variance(z: Tensor) -> Normal:
    return Normal(z[..., :2], (0.5 * z[..., 2:]).exp())


NAMED = ("categorical", "bernoulli", "normal", "heteroscedastic_normal")
FUNCTIONS = {"poisson": poisson, "learned variance": learned_variance}
EXACT = {name: name for name in NAMED} | FUNCTIONS
SAMPLED = EXACT | {"negative binomial": negative_binomial}
seeds = st.integers(0, 2**31 - 1)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def closed_form(z: Tensor, name: str) -> Tensor:
    """Fisher information of one row of four outputs."""
    p = z.softmax(-1)
    return {
        "categorical": torch.diag(p) - torch.outer(p, p),
        "bernoulli": torch.diag(z.sigmoid() * (1 - z.sigmoid())),
        "normal": torch.eye(4).double(),
        "heteroscedastic_normal": torch.diag(torch.cat([(-z[2:]).exp(), z.new_full((2,), 0.5)])),
        "learned variance": torch.diag(torch.cat([(-z[2:]).exp(), z.new_full((2,), 0.5)])),
        "poisson": torch.diag(z.exp()),
        "negative binomial": torch.diag(3 * z.sigmoid()),
    }[name]


@given(seeds, st.sampled_from([*EXACT]))
def test_root_columns_square_to_the_fisher(seed: int, name: str) -> None:
    z = normal(4, seed=seed)
    columns = list(root_columns(z[None], EXACT[name]))
    root = torch.cat(columns).T
    assert_close(root @ root.T, closed_form(z, name), atol=1e-12, rtol=1e-10)


@given(seeds, st.sampled_from([*EXACT]))
def test_exact_gradients_keep_the_positions_of_a_row_apart(seed: int, name: str) -> None:
    z = normal(2, 3, 4, seed=seed)
    columns = torch.stack(list(exact_gradients(z, EXACT[name]))).flatten(2)  # (columns, N, T·C)
    blocks = torch.einsum("knc,knd->ncd", columns, columns).reshape(2, 3, 4, 3, 4)
    for n in range(2):
        for t in range(3):
            fisher = closed_form(z[n, t], name)
            assert_close(blocks[n, t, :, t], fisher, atol=1e-12, rtol=1e-10)
            for other in set(range(3)) - {t}:
                assert_close(blocks[n, t, :, other], torch.zeros_like(fisher))


@given(seeds, st.sampled_from([*EXACT]))
def test_inner_products_are_those_of_the_fisher(seed: int, name: str) -> None:
    z, tangents = normal(3, 4, seed=seed), normal(2, 3, 4, seed=seed + 1)
    fisher = torch.stack([closed_form(row, name) for row in z])
    expected = torch.einsum("knc,ncd,lnd->kl", tangents, fisher, tangents)
    assert_close(output_inner_products(z, tangents, EXACT[name]), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_gradients_have_mean_zero_and_the_fisher_as_covariance(name: str) -> None:
    z = 0.5 * normal(4, seed=3)
    s = sampled_gradients(z.expand(400_000, 4), SAMPLED[name], torch.Generator().manual_seed(0))
    assert_close(s.mean(0), torch.zeros(4, dtype=s.dtype), atol=0.015, rtol=0)
    assert_close(s.T @ s / len(s), closed_form(z, name), atol=0.02, rtol=0)


@given(
    seeds, st.sampled_from([*SAMPLED]),
    st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)  # fmt: skip
def test_sampled_gradients_follow_the_seed_shape_and_dtype(
    seed: int, name: str, dtype: torch.dtype
) -> None:
    z = normal(3, 2, 4, seed=seed).to(dtype)
    before = torch.get_rng_state()
    first, second = (
        sampled_gradients(z, SAMPLED[name], torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first.shape == z.shape
    assert first.dtype == dtype
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", SAMPLED)
def test_no_rows_have_no_gradients(name: str) -> None:
    z = torch.zeros(0, 2, 4)
    assert sampled_gradients(z, SAMPLED[name], torch.Generator()).shape == z.shape


def test_the_learned_variance_is_that_of_gaussian_nll_loss() -> None:
    z, y = normal(7, 4).requires_grad_(), normal(7, 2, seed=1)
    theirs = functional.gaussian_nll_loss(z[:, :2], y, z[:, 2:].exp(), full=True, reduction="none")
    ours = -distribution(z, "heteroscedastic_normal").log_prob(y)
    assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["poisson", "learned variance"])
def test_outputs_that_are_not_finite_have_no_finite_gradients(name: str) -> None:
    z = torch.full((2, 1, 4), torch.nan)
    assert sampled_gradients(z, FUNCTIONS[name], torch.Generator()).isnan().all()
    assert torch.stack(list(exact_gradients(z, FUNCTIONS[name]))).isnan().any()


@pytest.mark.parametrize("likelihood", ["gamma", None, 3])
def test_what_is_no_likelihood_is_refused(likelihood: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"must be one of categorical.* or a function"):
        check_likelihood(likelihood)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (lambda z: z, "must return a torch.distributions.Distribution.*got Tensor"),
        (lambda z: Poisson(z - 1), "refuses the outputs of the model: Expected parameter rate"),
        (lambda z: Normal(z.mean(), 1.0), r"one distribution for each row.*batch_shape \(\)"),
    ],
)
def test_functions_that_return_something_else_are_refused(likelihood: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        sampled_gradients(torch.zeros(3, 4), likelihood, torch.Generator())


@pytest.mark.parametrize("likelihood", [negative_binomial, lambda z: StudentT(3.0, z)])
def test_the_exact_fisher_of_an_unknown_divergence_is_refused(likelihood: Any) -> None:
    with pytest.raises(InvalidInputError, match="exact Fisher of this likelihood is not known"):
        list(exact_gradients(torch.zeros(3, 1, 4), likelihood))


def test_means_without_log_variances_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"as many log variances as means.*got 3 entries"):
        sampled_gradients(torch.zeros(3, 3), "heteroscedastic_normal", torch.Generator())
