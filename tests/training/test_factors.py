from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fisherbo.training.factors import (
    add_second_moment,
    average_weight,
    damped_factors,
    damped_metric,
    trace_balance,
)

seeds = st.integers(0, 2**31 - 1)
dims = st.integers(1, 6)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(seeds, dims, dims, st.booleans())
def test_second_moments_add_up(seed: int, n: int, d: int, homogeneous: bool) -> None:
    rows = normal(n, d, seed=seed)
    full = torch.cat([rows, torch.ones(n, 1, dtype=rows.dtype)], 1) if homogeneous else rows
    total = torch.zeros(full.shape[1], full.shape[1], dtype=rows.dtype)
    add_second_moment(total, rows[: n // 2])
    add_second_moment(total, rows[n // 2 :])
    assert_close(total, full.T @ full)


def test_average_weight_starts_at_zero_and_saturates() -> None:
    assert average_weight(1, 0.95) == 0
    assert average_weight(2, 0.95) == 0.5
    assert average_weight(1000, 0.95) == 0.95


@given(seeds, dims, dims, st.floats(1e-6, 10), st.floats(0.1, 10))
def test_damping_is_balanced_whatever_the_scale_of_the_factors(
    seed: int, d_in: int, d_out: int, damping: float, scale: float
) -> None:
    a, g = normal(d_in, d_in, seed=seed), normal(d_out, d_out, seed=seed + 1)
    a, g = a @ a.T + torch.eye(d_in), g @ g.T + torch.eye(d_out)
    plain = damped_factors(a, g, damping)
    scaled = damped_factors(a * scale, g / scale, damping)
    assert_close(torch.kron(*plain), torch.kron(*scaled))
    added = [damped - factor for damped, factor in zip(plain, (a, g), strict=True)]
    assert_close(torch.kron(*added), damping * torch.eye(d_in * d_out, dtype=a.dtype))
    pi = trace_balance(a, g).item()
    assert math.isclose(pi**2, (a.trace() / d_in / (g.trace() / d_out)).item())


@pytest.mark.parametrize("zero", ["input", "output", "both"])
def test_damping_of_a_zero_factor_is_split_evenly(zero: str) -> None:
    a = torch.zeros(3, 3) if zero != "output" else torch.eye(3)
    g = torch.zeros(2, 2) if zero != "input" else torch.eye(2)
    damped_a, damped_g = damped_factors(a, g, 0.04)
    assert_close(damped_a, a + 0.2 * torch.eye(3))
    assert_close(damped_g, g + 0.2 * torch.eye(2))


@given(seeds, dims, dims)
def test_damped_metric_solves_the_dense_system(seed: int, d_in: int, d_out: int) -> None:
    a, g = normal(d_in, d_in, seed=seed), normal(d_out, d_out, seed=seed + 1)
    a, g = a @ a.T, g @ g.T
    gradient = normal(d_out, d_in, seed=seed + 2)
    damped_a, damped_g = damped_factors(a, g, 0.1)
    dense = torch.kron(damped_g, damped_a)  # of row-major weights
    natural = damped_metric(a, g, 0.1).natural(gradient)
    assert_close(dense @ natural.flatten(), gradient.flatten(), atol=1e-8, rtol=1e-8)
