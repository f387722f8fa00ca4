from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    Laplace,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    Wishart,
)
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError
from fisherbo.geometry import (
    coordinates,
    fisher_information,
    from_coordinates,
    kl,
    pull_back,
    score_covariance,
)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


COVARIANCE = torch.stack([f64(2.0, 0.5, 0.1), f64(0.5, 1.0, -0.2), f64(0.1, -0.2, 1.5)])
MEAN = f64(1.0, -1.0, 0.5)

CASES: list[tuple[Distribution, str | tuple[str, ...] | None]] = [
    (Bernoulli(f64(0.3, 0.5)), None),
    (Bernoulli(f64(0.3, 0.5)), "logits"),
    (Binomial(7, f64(0.2, 0.6)), None),
    (Binomial(7, f64(0.2, 0.6)), "logits"),
    (Categorical(f64(0.2, 0.3, 0.5)), None),
    (Categorical(torch.stack([f64(0.2, 0.3, 0.5), f64(0.6, 0.2, 0.2)])), "logits"),
    (Poisson(f64(0.7, 4.0)), None),
    (Exponential(f64(0.5, 3.0)), None),
    (Normal(f64(1.0, -2.0), f64(0.5, 3.0)), None),
    (MultivariateNormal(MEAN, COVARIANCE), None),
    (MultivariateNormal(MEAN, COVARIANCE), "loc"),
    (Independent(Normal(f64(1.0, -2.0), f64(0.5, 3.0)), 1), None),
]
names = [f"{type(d).__name__}-{p or 'default'}" for d, p in CASES]
cases = pytest.mark.parametrize(("distribution", "parameters"), CASES, ids=names)


@cases
def test_fisher_information_is_the_covariance_of_the_score(distribution, parameters) -> None:
    """Entries in units of √(F_ii F_jj); a standard error is at most √(14/100000) = 1.2 %."""
    exact = fisher_information(distribution, parameters=parameters)
    sampled = fisher_information(distribution, parameters=parameters, samples=100_000)
    scale = exact.diagonal(dim1=-2, dim2=-1).sqrt()
    error = (sampled - exact) / (scale[..., :, None] * scale[..., None, :])
    assert error.abs().max() < 0.06
    assert error.square().mean().sqrt() < 0.02


@cases
def test_fisher_information_is_symmetric_and_semidefinite(distribution, parameters) -> None:
    fisher = fisher_information(distribution, parameters=parameters)
    assert_close(fisher, fisher.mT)
    assert torch.linalg.eigvalsh(fisher).min() > -1e-12


@cases
def test_kl_is_half_the_quadratic_form_of_a_small_step(distribution, parameters) -> None:
    """KL(p_θ ‖ p_θ+δ) = ½ δᵀFδ + O(δ³): the ratio tends to 1, at the rate of δ."""
    theta = coordinates(distribution, parameters=parameters)
    fisher = fisher_information(distribution, parameters=parameters)
    direction = torch.linspace(0.3, 1.0, theta.shape[-1], dtype=theta.dtype).expand_as(theta)
    direction = direction * f64(1.0, -1.0).repeat(theta.shape[-1])[: theta.shape[-1]]

    def error(size: float) -> Tensor:
        step = size * direction
        near = from_coordinates(distribution, theta + step, parameters=parameters)
        half = (step[..., None, :] @ fisher @ step[..., :, None])[..., 0, 0] / 2
        return (kl(distribution, near) / half - 1).abs()

    assert (error(1e-4) < 2e-3).all()
    assert (error(1e-4) < error(1e-2) / 10 + 1e-6).all()


@cases
def test_coordinates_and_distributions_go_both_ways(distribution, parameters) -> None:
    theta = coordinates(distribution, parameters=parameters)
    back = from_coordinates(distribution, theta, parameters=parameters)
    assert type(back) is type(distribution)
    assert back.batch_shape == distribution.batch_shape
    assert_close(coordinates(back, parameters=parameters), theta)
    assert kl(distribution, back).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("distribution", "parameters", "expected"),
    [
        (Bernoulli(f64(0.25)), "probs", [[16 / 3]]),
        (Bernoulli(f64(0.25)), "logits", [[3 / 16]]),
        (Binomial(10, f64(0.25)), "probs", [[160 / 3]]),
        (Poisson(f64(4.0)), "rate", [[0.25]]),
        (Exponential(f64(4.0)), "rate", [[1 / 16]]),
        (Normal(f64(3.0), f64(2.0)), ("loc", "scale"), [[0.25, 0], [0, 0.5]]),
        (Categorical(f64(0.2, 0.3, 0.5)), "probs", [[7, 2], [2, 16 / 3]]),
        (MultivariateNormal(f64(1.0), f64(4.0)[:, None]), None, [[0.25, 0], [0, 1 / 32]]),
    ],
)
def test_closed_forms(distribution, parameters, expected) -> None:
    fisher = fisher_information(distribution, parameters=parameters)
    fisher = fisher.reshape(fisher.shape[-2:])
    assert_close(fisher, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_two_charts_of_a_family_are_pull_backs_of_each_other() -> None:
    logits = f64(0.3, -0.2, 1.0)
    jacobian = torch.func.jacrev(lambda z: z.softmax(-1)[:-1])(logits)
    probs = fisher_information(Categorical(logits=logits))
    assert_close(
        pull_back(probs, jacobian),
        fisher_information(Categorical(logits=logits), parameters="logits"),
    )


def test_fisher_of_other_families_is_sampled() -> None:
    a, b = f64(2.0, 5.0), f64(3.0, 0.5)
    mixed = -1 / b
    exact = torch.stack(
        [torch.stack([torch.polygamma(1, a), mixed], -1), torch.stack([mixed, a / b**2], -1)], -2
    )
    sampled = fisher_information(Gamma(a, b), samples=40_000)
    assert ((sampled - exact).abs() / exact.abs().amax((-2, -1), keepdim=True)).max() < 0.05
    laplace = fisher_information(Laplace(f64(0.0), f64(2.0)))
    assert_close(laplace[0], torch.eye(2, dtype=torch.float64) / 4, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("distribution", "width"),
    [
        (Beta(f64(2.0), f64(3.0)), 2),
        (LogNormal(f64(0.0), f64(2.0)), 2),
        (Dirichlet(f64(1.0, 2.0, 3.0)), 3),
        (OneHotCategorical(f64(0.2, 0.3, 0.5)), 3),
        (Independent(Gamma(f64(1.0, 2.0), f64(1.0, 1.0)), 1), 4),
    ],
)
def test_any_distribution_has_an_estimate(distribution, width) -> None:
    fisher = fisher_information(distribution, samples=2000)
    assert fisher.shape == (*distribution.batch_shape, width, width)
    assert torch.linalg.eigvalsh(fisher).min() > -1e-8


def test_independent_components_give_blocks() -> None:
    base = Normal(torch.zeros(2, 3), torch.arange(1.0, 7.0).reshape(2, 3))
    fisher = fisher_information(Independent(base, 1))
    blocks = fisher_information(base)
    assert fisher.shape == (2, 6, 6)
    for row in range(2):
        assert_close(fisher[row], torch.block_diag(*blocks[row]))
    everything = fisher_information(Independent(base, 2))
    assert_close(everything, torch.block_diag(*blocks.flatten(0, 1)))
    assert_close(fisher_information(Independent(base, 0)), blocks)


def test_a_chart_of_ones_own_reaches_every_other_family() -> None:
    weights = f64(0.3, 0.7)

    def mixture(theta: Tensor) -> Distribution:
        batch = theta.shape[:-1]
        return MixtureSameFamily(Categorical(weights.expand(*batch, 2)), Normal(theta, 1.0))

    near = score_covariance(mixture, f64(0.0, 0.0), samples=40_000)  # all of it N(0, 1)
    assert_close(near, weights[:, None] * weights, atol=0.02, rtol=0)


def test_a_part_of_the_parameters_can_be_coordinates() -> None:
    fisher = fisher_information(Normal(f64(0.0), f64(2.0)), parameters="scale", samples=100_000)
    assert_close(fisher, torch.full((1, 1, 1), 0.5, dtype=torch.float64), atol=0.02, rtol=0)


def test_sampling_leaves_global_random_states_alone() -> None:
    before = torch.random.get_rng_state()
    first = fisher_information(Gamma(f64(2.0), f64(3.0)), samples=100, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(fisher_information(Gamma(f64(2.0), f64(3.0)), samples=100, seed=3), first)
    other = fisher_information(Gamma(f64(2.0), f64(3.0)), samples=100, seed=4)
    assert not torch.equal(other, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [None, 50])
def test_dtype_and_batch_shape_are_those_of_the_distribution(dtype, samples) -> None:
    half = torch.full((2, 3), 0.5, dtype=dtype)
    for distribution, width in [
        (Bernoulli(half), 1),
        (Binomial(4, logits=half), 1),
        (Categorical(half), 2),
        (Poisson(half), 1),
        (Exponential(half), 1),
        (Normal(half, half), 2),
        (MultivariateNormal(half, torch.eye(3, dtype=dtype)), 9),
    ]:
        fisher = fisher_information(distribution, samples=samples)
        assert fisher.dtype == dtype
        assert fisher.shape == (*distribution.batch_shape, width, width)


def test_gradients_flow_through_closed_forms() -> None:
    scale = f64(2.0).requires_grad_()
    fisher_information(Normal(f64(0.0), scale))[..., 1, 1].sum().backward()
    assert_close(scale.grad, f64(-4 / 8.0))


@pytest.mark.parametrize(
    "distribution",
    [
        Bernoulli(f64(0.0)),
        Categorical(f64(0.0, 0.5, 0.5)),
        Binomial(3, f64(1.0)),
        Poisson(f64(0.0)),
    ],
)
def test_the_edge_of_the_range_has_no_finite_information(distribution) -> None:
    with pytest.raises(InvalidInputError, match=r"infinite at the edge.*move them inside"):
        fisher_information(distribution)


def test_categorical_on_the_edge_is_finite_in_logits() -> None:
    with pytest.raises(InvalidInputError, match='use parameters="logits"'):
        fisher_information(Categorical(f64(0.0, 0.5, 0.5)))
    fisher = fisher_information(Categorical(f64(0.0, 0.5, 0.5)), parameters="logits")
    assert_close(fisher[0], f64(0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("distribution", "name"),
    [
        (Normal(f64(0.0), f64(-1.0), validate_args=False), "scale of Normal"),
        (Normal(f64(torch.nan), f64(1.0), validate_args=False), "loc of Normal"),
        (Bernoulli(f64(1.5), validate_args=False), "probs of Bernoulli"),
        (Poisson(f64(-1.0), validate_args=False), "rate of Poisson"),
        (Exponential(f64(torch.inf), validate_args=False), "rate of Exponential"),
    ],
)
def test_parameters_out_of_range_are_named(distribution, name) -> None:
    with pytest.raises(InvalidInputError, match=name):
        fisher_information(distribution)


def test_parameters_that_cannot_be_coordinates_are_named() -> None:
    wishart = Wishart(f64(5.0)[0], torch.eye(2, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="rate"):
        fisher_information(Gamma(f64(1.0), f64(1.0)), parameters="scale")
    with pytest.raises(InvalidInputError, match="score_covariance"):
        fisher_information(wishart, parameters="covariance_matrix")
    with pytest.raises(InvalidInputError, match="score_covariance"):
        fisher_information(
            MixtureSameFamily(Categorical(f64(0.5, 0.5)), Normal(f64(0.0, 1.0), 1.0))
        )


def test_samples_and_builders_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="samples must be >= 1"):
        fisher_information(Poisson(f64(1.0)), samples=0)
    with pytest.raises(InvalidInputError, match="batch shape"):
        score_covariance(lambda theta: Normal(theta, 1.0), f64(0.0))
