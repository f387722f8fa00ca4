from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import jeffreys_normaliser, jeffreys_prior, log_jeffreys_density


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    "family", [Bernoulli, Binomial, Bernoulli(f64(0.2)), Binomial(5, f64(0.2))]
)
def test_a_probability_has_beta_one_half(family) -> None:
    prior = jeffreys_prior(family)
    assert type(prior) is Beta
    assert prior.concentration1 == prior.concentration0 == 0.5


def test_prior_is_root_det_fisher_over_its_normaliser() -> None:
    p = f64(0.1, 0.35, 0.8)
    density = log_jeffreys_density(Bernoulli(p)) - math.log(jeffreys_normaliser(2))
    assert_close(jeffreys_prior(Bernoulli(p)).log_prob(p), density)
    for k in (2, 3, 5):
        probs = torch.rand(4, k, generator=torch.Generator().manual_seed(k)).double()
        member = Categorical(probs)
        density = log_jeffreys_density(member) - math.log(jeffreys_normaliser(k))
        assert_close(jeffreys_prior(member).log_prob(member.probs), density)


def test_normaliser_is_the_integral() -> None:
    assert jeffreys_normaliser(2) == pytest.approx(math.pi, rel=1e-14)
    assert jeffreys_normaliser(3) == pytest.approx(2 * math.pi, rel=1e-14)
    for k in range(2, 9):
        closed = math.pi ** (k / 2) / math.gamma(k / 2)
        assert jeffreys_normaliser(k) == pytest.approx(closed, rel=1e-13)
    angle = torch.linspace(0, math.pi / 2, 2001).double()[1:-1]  # p = sin²(angle)
    p = angle.sin() ** 2
    slope = 2 * angle.sin() * angle.cos()
    integrand = log_jeffreys_density(Bernoulli(p)).exp() * slope
    assert torch.trapezoid(integrand, angle).item() == pytest.approx(math.pi, rel=2e-3)


def test_density_is_invariant_and_a_flat_prior_is_not() -> None:
    """π_φ(φ) = π_θ(θ)·|dθ/dφ| for p in logits: the same rule gives the density in either chart."""
    p = Bernoulli(f64(0.1, 0.35, 0.8))
    slope = p.variance  # dp/dlogit
    in_probs, in_logits = (log_jeffreys_density(p, parameters=c) for c in ("probs", "logits"))
    assert_close(in_logits, in_probs + slope.log())
    assert not torch.allclose(torch.zeros(3).double(), slope.log())  # flat in both charts at once


def test_improper_priors_have_a_density_all_the_same() -> None:
    for member in (Poisson(f64(4.0)), Exponential(f64(4.0)), Normal(f64(0.0), f64(2.0))):
        with pytest.raises(InvalidInputError, match=r"improper.*log_jeffreys_density"):
            jeffreys_prior(member)
        with pytest.raises(InvalidInputError, match="improper"):
            jeffreys_prior(type(member))
    assert_close(log_jeffreys_density(Poisson(f64(4.0))), f64(math.log(0.5)))
    assert_close(log_jeffreys_density(Exponential(f64(4.0))), f64(math.log(0.25)))
    assert_close(log_jeffreys_density(Normal(f64(0.0), f64(2.0))), f64(math.log(2**0.5 / 4)))
    normal = MultivariateNormal(f64(0.0, 0.0), 2 * torch.eye(2).double())
    # det F = det Σ⁻¹ · det F_Σ, proportional to det Σ^−(n+2)
    twice = MultivariateNormal(f64(0.0, 0.0), 4 * torch.eye(2).double())
    change = log_jeffreys_density(twice) - log_jeffreys_density(normal)
    assert change.item() == pytest.approx(-(2 + 2) / 2 * 2 * math.log(2))


def test_dtype_device_and_categories() -> None:
    assert jeffreys_prior(Categorical(f64(1.0, 1.0, 1.0))).concentration.dtype == torch.float64
    prior = jeffreys_prior(Categorical, categories=4, dtype=torch.float32)
    assert type(prior) is Dirichlet
    assert torch.equal(prior.concentration, torch.full((4,), 0.5))
    with pytest.raises(InvalidInputError, match="categories must be >= 2, got None"):
        jeffreys_prior(Categorical)
    with pytest.raises(InvalidInputError, match="categories must be >= 2, got 1"):
        jeffreys_normaliser(1)


def test_what_is_not_known_or_singular_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="known for Bernoulli, Binomial and Categorical"):
        jeffreys_prior(Beta)
    with pytest.raises(InvalidInputError, match=r"singular.*parameters=.probs"):
        log_jeffreys_density(Categorical(f64(0.5, 0.5)), parameters="logits")
