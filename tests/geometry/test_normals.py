from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import fisher_rao_bounds, fisher_rao_distance, geodesic, kl

distance = fisher_rao_distance
seeds = st.integers(0, 10_000)
dims = st.integers(1, 5)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spd(seed: int, n: int) -> Tensor:
    root = normal(n, n + 1, seed=seed)
    return root @ root.mT + 0.1 * torch.eye(n, dtype=torch.float64)


def random_pair(seed: int, n: int) -> tuple[MultivariateNormal, MultivariateNormal]:
    p = MultivariateNormal(normal(n, seed=seed), spd(seed + 1, n))
    return p, MultivariateNormal(normal(n, seed=seed + 2), spd(seed + 3, n))


def test_bounds_of_the_worked_example() -> None:
    zero, identity = torch.zeros(2).double(), torch.eye(2).double()
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    bounds = fisher_rao_bounds(
        MultivariateNormal(zero, identity),
        MultivariateNormal(torch.tensor([1.0, 0.0]).double(), covariance),
    )
    assert bounds.lower.item() == pytest.approx(1.01239, abs=5e-6)
    assert bounds.upper.item() == pytest.approx(1.06904, abs=5e-6)


@given(seeds, dims)
def test_bounds_are_calvo_oller_and_jeffreys(seed: int, n: int) -> None:
    p, q = random_pair(seed, n)
    lower, upper = fisher_rao_bounds(p, q)
    assert_close(upper, (kl(p, q) + kl(q, p)).sqrt())
    embedded = [calvo_oller(d) for d in (p, q)]
    zero = torch.zeros(n + 1).double()
    assert_close(lower, distance(*(MultivariateNormal(zero, c) for c in embedded)))
    assert lower <= upper


def calvo_oller(d: MultivariateNormal) -> Tensor:
    column = d.loc[:, None]
    top = torch.cat([d.covariance_matrix + column @ column.T, column], 1)
    return torch.cat([top, torch.cat([column.T, torch.ones(1, 1).double()], 1)], 0)


@given(seeds, dims)
def test_the_distance_lies_between_its_bounds_where_it_is_known(seed: int, n: int) -> None:
    p, q = random_pair(seed, n)
    known = [
        (p, MultivariateNormal(p.loc, q.covariance_matrix)),
        (p, MultivariateNormal(q.loc, p.covariance_matrix)),
        eigenvector_pair(seed, n),
    ]
    for left, right in known:
        lower, upper = fisher_rao_bounds(left, right)
        assert lower - 1e-9 <= distance(left, right) <= upper + 1e-9


def eigenvector_pair(seed: int, n: int) -> tuple[MultivariateNormal, MultivariateNormal]:
    """A pair whose means and covariances both differ, the image of two diagonal normals."""
    scales, shift = normal(n, seed=seed).exp(), normal(1, seed=seed + 5)
    mixing = normal(n, n, seed=seed + 6) + 3 * torch.eye(n).double()
    offset = normal(n, seed=seed + 7)
    q_mean = offset + shift * mixing[:, 0]
    return (
        MultivariateNormal(offset, mixing @ mixing.T),
        MultivariateNormal(q_mean, (mixing * scales**2) @ mixing.T),
    )


@given(seeds, dims, st.floats(0, 1))
def test_a_shift_along_an_eigenvector_is_a_product_of_normals(seed: int, n: int, t: float) -> None:
    p, q = eigenvector_pair(seed, n)
    scales, shift = normal(n, seed=seed).exp(), normal(1, seed=seed + 5)
    ones = torch.ones(n).double()
    shifts = torch.cat([shift, torch.zeros(n - 1).double()])
    each = distance(Normal(torch.zeros(n).double(), ones), Normal(shifts, scales))
    assert_close(distance(p, q), each.square().sum().sqrt(), rtol=1e-6, atol=1e-6)
    middle = geodesic(p, q, t)
    assert_close(distance(p, middle), t * distance(p, q), rtol=1e-6, atol=1e-6)
    assert_close(distance(middle, q), (1 - t) * distance(p, q), rtol=1e-6, atol=1e-6)


@given(seeds)
def test_one_dimension_is_the_univariate_normal(seed: int) -> None:
    p, q = random_pair(seed, 1)
    left, right = (Normal(d.loc, d.scale_tril[:, 0]) for d in (p, q))
    assert_close(distance(p, q), distance(left, right)[0])
    middle, plain = geodesic(p, q, 0.3), geodesic(left, right, 0.3)
    assert_close(middle.loc, plain.loc)
    assert_close(middle.scale_tril[:, 0], plain.scale)


@given(seeds, dims, st.floats(0, 1))
def test_equal_means_give_the_affine_invariant_geodesic(seed: int, n: int, t: float) -> None:
    left, right = spd(seed, n), spd(seed + 1, n)
    mean = normal(n, seed=seed + 2)
    curve = geodesic(MultivariateNormal(mean, left), MultivariateNormal(mean, right), t)
    values, vectors = torch.linalg.eigh(left)
    root = (vectors * values.sqrt()) @ vectors.T
    values, vectors = torch.linalg.eigh(torch.linalg.solve(root, torch.linalg.solve(root, right).T))
    expected = root @ (vectors * values**t) @ vectors.T @ root  # A^½ (A^−½ B A^−½)^t A^½
    assert_close(curve.covariance_matrix, expected, rtol=1e-7, atol=1e-7)
    assert_close(curve.loc, mean)


def test_equal_covariances_reduce_to_the_normal_along_the_mean_difference() -> None:
    covariance = spd(3, 3)
    step = normal(3, seed=4)
    p = MultivariateNormal(torch.zeros(3).double(), covariance)
    q = MultivariateNormal(step, covariance)
    length = torch.dot(step, torch.linalg.solve(covariance, step)).sqrt()
    reduced = geodesic(Normal(0.0 * length, 1.0), Normal(length, torch.ones_like(length)), 0.4)
    middle = geodesic(p, q, 0.4)
    assert_close(middle.loc, reduced.loc / length * step)
    spread = (reduced.scale**2 - 1) * torch.outer(step, step) / length**2
    assert_close(middle.covariance_matrix, covariance + spread)


def test_a_batch_may_mix_the_cases() -> None:
    p = MultivariateNormal(torch.zeros(2, 2).double(), spd(0, 2))
    q_loc = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).double()
    q = MultivariateNormal(q_loc, torch.stack([spd(1, 2), spd(0, 2)]))
    first, second = distance(p, q)
    zero = torch.zeros(2).double()
    assert_close(
        first, distance(MultivariateNormal(zero, spd(0, 2)), MultivariateNormal(zero, spd(1, 2)))
    )
    assert_close(
        second,
        distance(MultivariateNormal(zero, spd(0, 2)), MultivariateNormal(q_loc[1], spd(0, 2))),
    )


def test_covariances_equal_to_rounding_are_equal() -> None:
    covariance, step = spd(5, 4), normal(4, seed=6)
    factor = torch.linalg.cholesky(covariance)
    p = MultivariateNormal(torch.zeros(4).double(), covariance)
    exact = distance(p, MultivariateNormal(step, covariance))
    close = distance(p, MultivariateNormal(step, precision_matrix=torch.cholesky_inverse(factor)))
    assert_close(close, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_pairs_are_sent_to_the_bounds(dtype: torch.dtype) -> None:
    p, q = random_pair(0, 3)
    p, q = (MultivariateNormal(d.loc.to(dtype), d.covariance_matrix.to(dtype)) for d in (p, q))
    for function in (distance, lambda a, b: geodesic(a, b, 0.5)):
        with pytest.raises(
            InvalidInputError, match=r"equal means, equal covariances.*fisher_rao_bounds"
        ):
            function(p, q)
    lower, upper = fisher_rao_bounds(p, q)
    assert lower.dtype == upper.dtype == dtype
    with pytest.raises(InvalidInputError, match="events of one size"):
        fisher_rao_bounds(p, random_pair(0, 2)[0])


def test_bounds_broadcast_and_keep_digits_at_near_points() -> None:
    p, _ = random_pair(2, 3)
    many = MultivariateNormal(p.loc + 1e-9 * torch.ones(4, 1, 3).double(), p.covariance_matrix)
    lower, upper = fisher_rao_bounds(p, many)
    assert lower.shape == upper.shape == (4, 1)
    exact = distance(p, many)
    assert_close(upper / exact, torch.ones(4, 1).double(), rtol=1e-6, atol=0)
