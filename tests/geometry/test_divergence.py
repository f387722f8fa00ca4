from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import kl


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_normal_number() -> None:
    divergence = kl(Normal(f64(0.0), f64(1.0)), Normal(f64(1.0), f64(2.0)))
    assert_close(divergence, f64(0.4431471805599453), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (Bernoulli(f64(0.3)), Bernoulli(f64(0.6))),
        (Binomial(4, f64(0.3)), Binomial(4, f64(0.6))),
        (Categorical(f64(0.2, 0.8)), Categorical(f64(0.6, 0.4))),
    ],
)
def test_discrete_divergences_are_the_sum_over_outcomes(p, q) -> None:
    outcomes = p.enumerate_support()
    log_p, log_q = p.log_prob(outcomes), q.log_prob(outcomes)
    assert_close(kl(p, q), (log_p.exp() * (log_p - log_q)).sum(0))


@pytest.mark.parametrize(
    ("p", "q", "limit"),
    [
        (Bernoulli(f64(0.0)), Bernoulli(f64(0.5)), math.log(2)),
        (Bernoulli(f64(0.5)), Bernoulli(f64(0.0)), math.inf),
        (Binomial(3, f64(0.0)), Binomial(3, f64(0.5)), 3 * math.log(2)),
        (Binomial(3, f64(0.5)), Binomial(3, f64(1.0)), math.inf),
        (Categorical(f64(0.0, 1.0)), Categorical(f64(0.5, 0.5)), math.log(2)),
        (Categorical(f64(0.5, 0.5)), Categorical(f64(0.0, 1.0)), math.inf),
        (Poisson(f64(0.0)), Poisson(f64(2.0)), 2.0),
        (Poisson(f64(2.0)), Poisson(f64(0.0)), math.inf),
        (Poisson(f64(0.0)), Poisson(f64(0.0)), 0.0),
    ],
)
def test_limits_at_the_edge(p, q, limit) -> None:
    assert kl(p, q).item() == pytest.approx(limit, abs=1e-12)


def test_batch_shapes_broadcast() -> None:
    p, q = Bernoulli(torch.rand(4, 1, 3)), Bernoulli(f64(0.0, 0.5, 1.0))
    assert kl(p, q).shape == (4, 1, 3)
    assert kl(Poisson(torch.ones(2, 1)), Poisson(torch.ones(3))).shape == (2, 3)
    normals = MultivariateNormal(torch.zeros(5, 1, 2), torch.eye(2))
    assert kl(normals, MultivariateNormal(torch.zeros(2), torch.eye(2))).shape == (5, 1)


def test_gradients_flow() -> None:
    loc = f64(1.0).requires_grad_()
    kl(Normal(loc, 1.0), Normal(f64(0.0), 1.0)).sum().backward()
    assert_close(loc.grad, f64(1.0))


def test_unsupported_pairs_say_what_is_supported() -> None:
    with pytest.raises(InvalidInputError, match=r"KL\(Normal ‖ Poisson\).*supported are"):
        kl(Normal(f64(0.0), 1.0), Poisson(f64(1.0)))
    with pytest.raises(InvalidInputError, match="total_count"):
        kl(Binomial(3, f64(0.5)), Binomial(4, f64(0.5)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"batch shapes must broadcast, got \(2,\) and \(3,\)"
    ):
        kl(Exponential(torch.ones(2)), Exponential(torch.ones(3)))
    with pytest.raises(InvalidInputError, match=r"events of one size, got \(2,\) and \(3,\)"):
        kl(Categorical(torch.ones(2)), Categorical(torch.ones(3)))
    with pytest.raises(InvalidInputError, match="scale of Normal"):
        kl(Normal(f64(0.0), f64(0.0), validate_args=False), Normal(f64(0.0), 1.0))
