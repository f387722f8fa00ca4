from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Poisson
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import (
    fisher_information,
    mirror_step,
    natural_gradient,
    pull_back,
    replicator_step,
)

seeds = st.integers(0, 10_000)


def draw(seed: int, k: int = 4) -> tuple[Categorical, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = 0.05 + torch.rand(k, generator=generator, dtype=torch.float64)
    return Categorical(probs), torch.randn(k, generator=generator, dtype=torch.float64)


@given(seeds, st.floats(0.001, 0.1))
def test_the_euler_step_is_the_natural_gradient_in_probabilities(seed: int, step: float) -> None:
    p, advantage = draw(seed)
    gradient = advantage[:-1] - advantage[-1]  # of Σ pᵢ aᵢ with p_K = 1 − Σ pᵢ
    moved = p.probs[:-1] + step * natural_gradient(fisher_information(p), gradient)
    assert_close(replicator_step(p, advantage, step).probs[:-1], moved)


@given(seeds)
def test_the_mirror_step_differs_from_it_by_the_square_of_the_step(seed: int) -> None:
    p, advantage = draw(seed)

    def gap(step: float) -> Tensor:
        return (
            mirror_step(p, advantage, step).probs - replicator_step(p, advantage, step).probs
        ).norm()

    assert (gap(1e-3) / gap(1e-4)).item() == pytest.approx(100, rel=0.02)


@given(seeds)
def test_the_mirror_step_is_a_natural_step_in_logits(seed: int) -> None:
    """In natural coordinates the two are one: F⁻¹∇ of E_p[a] is a, up to a constant."""
    p, advantage = draw(seed)
    fisher = fisher_information(p, parameters="logits")
    gradient = p.probs * (advantage - (p.probs * advantage).sum())
    stepped = Categorical(logits=p.logits + 3 * natural_gradient(fisher, gradient))
    assert_close(mirror_step(p, advantage, 3.0).probs, stepped.probs)


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_natural_gradient_is_the_gradient_in_the_dual_coordinates(family: str) -> None:
    """Exponential family: F(θ)⁻¹∇_θ J = ∇_η J with η = E[x], so mirror ascent is natural ascent."""
    theta = torch.tensor([0.3]).double().requires_grad_()
    mean = {"bernoulli": torch.sigmoid, "poisson": torch.exp}[family]
    objective = lambda eta: (eta**3 - 2 * eta).sum()  # noqa: E731
    (gradient,) = torch.autograd.grad(objective(mean(theta)), theta)
    eta = mean(theta.detach()).requires_grad_()
    (dual,) = torch.autograd.grad(objective(eta), eta)
    if family == "bernoulli":
        fisher = fisher_information(Bernoulli(logits=theta.detach()[0]), parameters="logits")
    else:  # θ = log λ
        rate = theta.detach().exp()
        fisher = pull_back(fisher_information(Poisson(rate[0])), rate[:, None])
    assert_close(natural_gradient(fisher, gradient), dual)


@given(seeds, st.floats(0, 50))
def test_a_mirror_step_stays_on_the_simplex_and_gains(seed: int, step: float) -> None:
    p, advantage = draw(seed)
    stepped = mirror_step(p, advantage, step)
    assert (stepped.probs >= 0).all()
    assert stepped.probs.sum().item() == pytest.approx(1.0)
    assert (stepped.probs * advantage).sum() >= (p.probs * advantage).sum() - 1e-12
    assert_close(mirror_step(p, advantage + 7, step).probs, stepped.probs)


def test_edges_batches_and_refusals() -> None:
    p = Categorical(torch.tensor([0.0, 0.5, 0.5]))
    assert mirror_step(p, torch.tensor([100.0, 0.0, 0.0]), 1.0).probs[0] == 0
    many = mirror_step(p, torch.zeros(4, 3), 1.0)
    assert many.batch_shape == (4,)
    assert many.probs.dtype == torch.float32
    with pytest.raises(InvalidInputError, match="leaves the simplex"):
        replicator_step(p, torch.tensor([0.0, 0.0, 10.0]), 1.0)
    for bad in (torch.ones(2), torch.full((3,), torch.nan)):
        with pytest.raises(InvalidInputError, match="advantage must be finite"):
            mirror_step(p, bad, 1.0)
