"""Statements of the theory that tie the natural gradient to other algorithms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical, MultivariateNormal, Normal
from torch.nn import functional
from torch.testing import assert_close

from fisherbo.geometry import (
    coordinates,
    fisher_information,
    from_coordinates,
    kl,
    natural_gradient,
    pull_back,
)

seeds = st.integers(0, 10_000)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- EM ---


def mixture_step(seed: int, k: int) -> tuple[Categorical, Tensor, Tensor]:
    """Weights, the EM update of them, and the gradient of the mean log likelihood."""
    weights = Categorical(logits=normal(k, seed=seed))
    likelihood = normal(40, k, seed=seed + 1).exp()  # p(x_i | component)
    responsibility = weights.probs * likelihood
    responsibility = responsibility / responsibility.sum(-1, keepdim=True)
    free = coordinates(weights).requires_grad_()
    full = torch.cat([free, 1 - free.sum(-1, keepdim=True)])
    (gradient,) = torch.autograd.grad((likelihood @ full).log().mean(), free)
    return weights, responsibility.mean(0), gradient


@given(seeds, st.integers(2, 6))
def test_one_em_step_on_mixture_weights_is_one_natural_step_of_length_one(seed, k) -> None:
    weights, em, gradient = mixture_step(seed, k)
    step = natural_gradient(fisher_information(weights), gradient)
    assert_close(coordinates(weights) + step, em[:-1], rtol=1e-12, atol=1e-12)
    euclidean = coordinates(weights) + gradient
    assert not torch.allclose(euclidean, em[:-1], rtol=1e-3)  # negative control


# --- conjugate Gaussian ---


def gp_posterior(seed: int, n: int) -> tuple[Tensor, Tensor, MultivariateNormal]:
    """Kernel matrix, observations (noise variance 0.1) and the exact GP posterior at them."""
    x = normal(n, seed=seed)
    kernel = torch.exp(-((x[:, None] - x) ** 2) / 2) + 0.05 * torch.eye(n).double()
    y = normal(n, seed=seed + 1)
    gain = torch.linalg.solve(kernel + 0.1 * torch.eye(n).double(), kernel).T
    return kernel, y, MultivariateNormal(gain @ y, kernel - gain @ kernel)


def negative_free_energy(kernel: Tensor, y: Tensor, q: MultivariateNormal) -> Tensor:
    """E_q[log p(y|f)] − KL(q ‖ prior), closed form, up to a constant."""
    prior = MultivariateNormal(torch.zeros_like(y), kernel)
    misfit = (y - q.loc).square().sum() + q.covariance_matrix.diagonal().sum()
    return -misfit / 0.2 - kl(q, prior)


def from_natural(theta: Tensor, n: int) -> MultivariateNormal:
    """Natural coordinates (Σ⁻¹μ, lower triangle of −½Σ⁻¹)."""
    row, column = torch.tril_indices(n, n)
    lower = torch.zeros(n, n, dtype=theta.dtype).index_put((row, column), -2 * theta[n:])
    precision = lower + lower.mT - torch.diag(lower.diagonal())
    covariance = torch.linalg.inv(precision)
    return MultivariateNormal(covariance @ theta[:n], (covariance + covariance.mT) / 2)


def to_natural(q: MultivariateNormal) -> Tensor:
    n = q.loc.shape[0]
    row, column = torch.tril_indices(n, n)
    precision = torch.linalg.inv(q.covariance_matrix)
    return torch.cat([precision @ q.loc, -precision[row, column] / 2])


@given(seeds, st.integers(1, 4))
def test_one_natural_step_of_length_one_lands_on_the_exact_gp_posterior(seed, n) -> None:
    kernel, y, exact = gp_posterior(seed, n)
    root = 0.5 * normal(n, n, seed=seed + 2)
    start = MultivariateNormal(
        normal(n, seed=seed + 3), root @ root.T + 0.5 * torch.eye(n).double()
    )
    theta = to_natural(start)
    jacobian = torch.func.jacrev(lambda t: coordinates_of(from_natural(t, n)))(theta)
    fisher = pull_back(fisher_information(start), jacobian)
    gradient = torch.func.grad(lambda t: negative_free_energy(kernel, y, from_natural(t, n)))(theta)
    landed = from_natural(theta + natural_gradient((fisher + fisher.T) / 2, gradient), n)
    assert_close(landed.loc, exact.loc, rtol=1e-6, atol=1e-6)
    assert_close(landed.covariance_matrix, exact.covariance_matrix, rtol=1e-6, atol=1e-6)
    missed = theta + gradient  # negative control
    assert not torch.allclose(missed, to_natural(exact), rtol=1e-2)


def coordinates_of(q: MultivariateNormal) -> Tensor:
    row, column = torch.tril_indices(len(q.loc), len(q.loc))
    return torch.cat([q.loc, q.covariance_matrix[row, column]])


# --- Newton's method ---


def test_newton_is_the_natural_gradient_in_natural_coordinates() -> None:
    """Logistic regression: the Hessian of the loss has no label in it, so it equals its mean, F."""
    x, y = normal(30, 3, seed=0), (normal(30, seed=1) > 0).double()

    def loss(w: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(x @ w, y)

    w = normal(3, seed=2)
    p = (x @ w).sigmoid()
    fisher = pull_back(torch.diag(p * (1 - p)), x) / 30
    assert_close(torch.func.hessian(loss)(w), fisher)
    newton = torch.linalg.solve(torch.func.hessian(loss)(w), torch.func.grad(loss)(w))
    assert_close(natural_gradient(fisher, torch.func.grad(loss)(w)), newton)


def test_newton_is_the_natural_gradient_for_a_quadratic_loss() -> None:
    x, y = normal(20, 3, seed=0), normal(20, seed=1)

    def loss(w: Tensor) -> Tensor:
        return -Normal(x @ w, 2.0).log_prob(y).sum()

    w = normal(3, seed=2)
    precision = torch.diag_embed(fisher_information(Normal(x @ w, 2.0))[:, 0, 0])
    fisher = pull_back(precision, x)
    assert_close(torch.func.hessian(loss)(w), fisher)
    arrived = w - natural_gradient(fisher, torch.func.grad(loss)(w))
    assert_close(arrived, torch.linalg.lstsq(x, y[:, None]).solution[:, 0])


def test_fisher_stays_definite_where_the_hessian_does_not() -> None:
    """Normal in (μ, σ) with σ much too large: Newton climbs in σ, the natural step descends."""
    data = normal(50, seed=0)
    start = Normal(torch.tensor(0.2).double(), torch.tensor(5.0).double())

    def loss(theta: Tensor) -> Tensor:
        return -Normal(theta[0], theta[1], validate_args=False).log_prob(data).mean()

    theta = coordinates(start)
    gradient, hessian = torch.func.grad(loss)(theta), torch.func.hessian(loss)(theta)
    assert torch.linalg.eigvalsh(hessian).min() < -1e-3
    fisher = fisher_information(start)
    assert torch.linalg.eigvalsh(fisher).min() > 0
    newton = theta - torch.linalg.solve(hessian, gradient)
    natural = theta - natural_gradient(fisher, gradient)
    assert newton[1] > theta[1]
    assert loss(newton) > loss(theta) > loss(natural)
    natural_twice = theta
    for _ in range(60):
        natural_twice = natural_twice - natural_gradient(
            fisher_information(from_coordinates(start, natural_twice)),
            torch.func.grad(loss)(natural_twice),
        )
    assert_close(natural_twice, torch.stack([data.mean(), data.std(correction=0)]))


# --- Adam ---


def per_sample_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for i in range(len(x)):
        loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())]))
    return torch.stack(rows)


def second_moment(model: nn.Module, x: Tensor, y: Tensor, batch: int, steps: int) -> Tensor:
    """Adam's v̂_t after steps that leave the weights where they are."""
    adam = torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.999))
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        adam.zero_grad()
        functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        adam.step()
    v = torch.cat([adam.state[p]["exp_avg_sq"].flatten() for p in model.parameters()])
    return v / (1 - 0.999**steps)


def small_problem() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(normal(*p.shape, seed=i))
    x = normal(24, 3, seed=10)
    y = Categorical(logits=model(x).detach()).probs.argmax(-1)
    return model, x, (y + torch.arange(24) // 8) % 3


def test_adams_second_moment_tracks_the_diagonal_of_the_empirical_fisher() -> None:
    """At batch size 1, to the noise of an average over 1000 draws; larger batches shrink it."""
    model, x, y = small_problem()
    diagonal = per_sample_gradients(model, x, y).square().mean(0)
    one = second_moment(model, x, y, batch=1, steps=4000)
    assert ((one / diagonal - 1).abs() < 0.3).all()
    assert (one / diagonal).mean().item() == pytest.approx(1.0, abs=0.05)


def test_of_minibatches_it_is_smaller_by_the_batch_but_for_the_mean() -> None:
    """E v̂ = diagonal/B + (1 − 1/B)·(mean gradient)²: the caveat that the first test leaves out."""
    model, x, y = small_problem()
    rows = per_sample_gradients(model, x, y)
    diagonal, mean = rows.square().mean(0), rows.mean(0)
    eight = second_moment(model, x, y, batch=8, steps=4000)
    expected = diagonal / 8 + (1 - 1 / 8) * mean.square()
    assert (eight / expected).mean().item() == pytest.approx(1.0, abs=0.05)
    assert (eight / diagonal).mean() < 0.8
