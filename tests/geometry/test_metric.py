from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    MultivariateNormal,
    Normal,
    Poisson,
)
from torch.testing import assert_close

from fisherbo.errors import InvalidInputError, NumericalError
from fisherbo.geometry import coordinates, fisher_information, from_coordinates, kl
from fisherbo.geometry.linalg import kronecker_solve, psd_eigh, psd_inverse
from fisherbo.geometry.lowrank import LowRankMetric
from fisherbo.geometry.metric import (
    DenseMetric,
    Eigenbasis,
    EigenMetric,
    KroneckerMetric,
    MatrixFreeMetric,
    Metric,
    fisher_vector_product,
    natural_gradient,
    pull_back,
)
from fisherbo.geometry.trust_region import kl_step_length

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
@given(batches, dims, dims, seeds, st.booleans())
def test_eigen_metric_solves_the_system_damped_by_the_identity(
    batch: tuple[int, ...], d_in: int, d_out: int, seed: int, diagonal: bool
) -> None:
    a, g = positive(batch, d_in, seed), positive(batch, d_out, seed + 1)
    a = torch.diag_embed(a.diagonal(dim1=-2, dim2=-1)) if diagonal else a
    gradient = normal(*batch, d_out, d_in, seed=seed + 2)
    (inputs, q_a), (outputs, q_g) = psd_eigh(a), psd_eigh(g)
    if diagonal:
        inputs, q_a = a.diagonal(dim1=-2, dim2=-1), None
    metric = EigenMetric(Eigenbasis(q_a, q_g), outputs[..., :, None] * inputs[..., None, :], 0.1)
    assert_close(metric.natural(gradient), kronecker_solve(a, g, gradient, 0.1))


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


# --- one natural gradient, whatever the Fisher is given as ---


@unhurried
@given(dims, dims, st.sampled_from([0.0, 0.5]), seeds)
def test_dense_kronecker_and_matrix_free_agree(
    d_in: int, d_out: int, damping: float, seed: int
) -> None:
    a, g = positive((), d_in, seed), positive((), d_out, seed + 1)
    gradient = normal(d_out, d_in, seed=seed + 2)
    dense = torch.kron(g, a)
    flat = natural_gradient(dense, gradient.flatten(), damping)
    forms = [
        natural_gradient((a, g), gradient, damping),
        natural_gradient(KroneckerMetric(psd_inverse(a), psd_inverse(g)), gradient, damping),
        natural_gradient(lambda v: dense @ v, gradient.flatten(), damping).reshape(d_out, d_in),
    ]
    for form in forms:
        assert_close(form, flat.reshape(d_out, d_in), rtol=1e-5, atol=1e-6)
    damped = dense + damping * torch.eye(d_in * d_out, dtype=dense.dtype)
    assert_close(damped @ flat, gradient.flatten(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_and_dtypes_are_kept(dtype: torch.dtype) -> None:
    fisher, gradient = positive((2, 3), 4, 0).to(dtype), normal(2, 3, 4, seed=1).to(dtype)
    natural = natural_gradient(fisher, gradient)
    assert natural.dtype == dtype
    assert_close(natural[1, 2], natural_gradient(fisher[1, 2], gradient[1, 2]))
    one_metric = natural_gradient(fisher[0, 0], gradient)
    assert_close(one_metric[1, 2], natural_gradient(fisher[0, 0], gradient[1, 2]))


def test_a_fisher_that_does_not_see_a_direction_drops_it() -> None:
    """In logits, adding a constant to all changes nothing: F is singular along 1."""
    fisher = fisher_information(
        Categorical(torch.tensor([0.2, 0.3, 0.5]).double()), parameters="logits"
    )
    gradient = fisher @ torch.tensor([1.0, 2.0, 4.0]).double()
    natural = natural_gradient(fisher, gradient)
    assert_close(natural, torch.tensor([1.0, 2.0, 4.0]).double() - 7 / 3)
    assert_close(natural_gradient(fisher, gradient + 1), natural)


def test_what_is_no_fisher_is_refused() -> None:
    ones = torch.ones(2)
    indefinite = torch.diag(torch.tensor([1.0, -1.0]))
    with pytest.raises(InvalidInputError, match=r"eigenvalue of -1.*in place of a Hessian"):
        natural_gradient(indefinite, ones)
    with pytest.raises(NumericalError, match="negative curvature"):
        natural_gradient(lambda v: indefinite @ v, torch.tensor([0.1, 1.0]))
    with pytest.raises(InvalidInputError, match="n = 2"):
        natural_gradient(torch.eye(3), ones)
    with pytest.raises(InvalidInputError, match="damping must be >= 0"):
        natural_gradient(torch.eye(2), ones, -1.0)
    with pytest.raises(InvalidInputError, match="damping must be >= 0"):
        natural_gradient(torch.eye(2), ones, torch.nan)
    assert_close(natural_gradient(indefinite, ones, damping=2.0), torch.tensor([1 / 3, 1.0]))


def test_a_metric_of_ones_own_is_used() -> None:
    @dataclass(frozen=True)
    class Scaled:
        scale: float

        def natural(self, gradient: Tensor) -> Tensor:
            return gradient / self.scale

        def squared_length(self, step: Tensor) -> Tensor:
            return self.scale * step.square().sum(-1)

        def damped(self, damping: float) -> Scaled:
            return Scaled(self.scale + damping)

    assert torch.equal(natural_gradient(Scaled(2.0), torch.ones(2)), torch.full((2,), 0.5))
    assert torch.equal(natural_gradient(Scaled(2.0), torch.ones(2), 2.0), torch.full((2,), 0.25))
    with pytest.raises(InvalidInputError, match=r"squared_length.*got str"):
        natural_gradient("identity", torch.ones(2))  # type: ignore[arg-type]


# --- one interface of all metrics ---


def dense_and_metric(form: str, n: int, m: int, seed: int) -> tuple[Tensor, Any]:
    """A metric on arrays of n·m entries as a dense matrix, and in one of the forms."""
    a, g = positive((), n, seed), positive((), m, seed + 1)
    dense = torch.kron(g, a)
    if form == "dense":
        return dense, DenseMetric(psd_inverse(dense))
    if form == "matrix-free":
        return dense, MatrixFreeMetric(lambda v: v @ dense, tolerance=1e-13)
    if form == "Kronecker":
        return dense, KroneckerMetric(psd_inverse(a), psd_inverse(g))
    (inputs, q_a), (outputs, q_g) = psd_eigh(a), psd_eigh(g)
    if form == "eigenbasis":
        spectrum = outputs[:, None] * inputs
        damped = dense + 0.1 * torch.eye(n * m, dtype=dense.dtype)
        return damped, EigenMetric(Eigenbasis(q_a, q_g), spectrum, 0.1)
    diagonal, factors = inputs.repeat(m), normal(n * m, 2, seed=seed + 3)
    return torch.diag(diagonal) + factors @ factors.mT, LowRankMetric(
        diagonal.numpy(), factors.numpy()[None]
    )


@unhurried
@given(
    st.sampled_from(["dense", "matrix-free", "Kronecker", "eigenbasis", "low rank"]),
    dims,
    dims,
    st.sampled_from([None, 1e-3, 2.0]),
    seeds,
)
def test_every_metric_is_its_dense_matrix(
    form: str, n: int, m: int, damping: float | None, seed: int
) -> None:
    dense, metric = dense_and_metric(form, n, m, seed)
    assert isinstance(metric, Metric)
    if damping is not None:
        dense = dense + damping * torch.eye(n * m, dtype=dense.dtype)
        metric = metric.damped(damping)
    flat = normal(n * m, seed=seed + 4)
    vector: Any = flat.reshape(m, n) if form in ("Kronecker", "eigenbasis") else flat
    if form == "low rank":
        vector = flat[None].numpy()
    natural = torch.as_tensor(metric.natural(vector)).flatten()
    assert_close(dense @ natural, flat, rtol=1e-6, atol=1e-6)
    length = torch.as_tensor(metric.squared_length(vector)).flatten()
    assert_close(length, (flat @ dense @ flat)[None], rtol=1e-7, atol=1e-9)
    # the natural gradient's length is its slope: dᵀF d = gᵀd
    own = torch.as_tensor(metric.squared_length(metric.natural(vector))).flatten()
    assert_close(own, (flat @ natural)[None], rtol=1e-5, atol=1e-7)


def test_a_step_of_the_kl_length_changes_the_distribution_by_that_much() -> None:
    p = Normal(torch.tensor(0.5).double(), torch.tensor(2.0).double())
    gradient = torch.tensor([0.3, -0.7]).double()
    direction = natural_gradient(fisher_information(p), gradient)
    for radius in (1e-4, 1e-6):
        t = kl_step_length(gradient @ direction, radius)
        moved = kl(p, from_coordinates(p, coordinates(p) + t * direction))
        assert moved.item() == pytest.approx(radius, rel=5 * radius**0.5)
    assert kl_step_length(torch.tensor([0.0, -1.0]), 1.0).isinf().all()


# --- invariance under a change of coordinates ---

FAMILIES: list[Distribution] = [
    Bernoulli(torch.tensor(0.3).double()),
    Poisson(torch.tensor(2.0).double()),
    Categorical(torch.tensor([0.2, 0.3, 0.5]).double()),
    Normal(torch.tensor(0.5).double(), torch.tensor(2.0).double()),
    MultivariateNormal(torch.zeros(2).double(), positive((), 2, 3)),
]
families = st.sampled_from(FAMILIES)


def both_gradients(p: Distribution, jacobian: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Steps in θ of: the natural gradient, that of a chart φ, and the Euclidean one of φ."""
    fisher = fisher_information(p)
    gradient = normal(fisher.shape[-1], seed=seed)
    natural = natural_gradient(fisher, gradient)
    chart = natural_gradient(pull_back(fisher, jacobian), jacobian.mT @ gradient)
    return natural, jacobian @ chart, jacobian @ (jacobian.mT @ gradient)


@unhurried
@given(families, seeds)
def test_natural_gradient_ignores_a_linear_chart(p: Distribution, seed: int) -> None:
    n = coordinates(p).shape[-1]
    jacobian = normal(n, n, seed=seed + 1) + 3 * torch.eye(n).double()
    natural, chart, euclidean = both_gradients(p, jacobian, seed)
    assert_close(chart, natural, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(euclidean, normal(n, seed=seed), rtol=1e-2)  # negative control


@unhurried
@given(families, seeds)
def test_natural_gradient_ignores_a_nonlinear_chart(p: Distribution, seed: int) -> None:
    """θ = Bφ + ½ tanh(Bφ) + constant, at a random φ."""
    theta = coordinates(p)
    n = theta.shape[-1]
    mixing = 0.1 * normal(n, n, seed=seed + 1) + torch.eye(n).double()
    phi = normal(n, seed=seed + 2)

    def chart(phi: Tensor) -> Tensor:
        return mixing @ phi + torch.tanh(mixing @ phi) / 2

    jacobian = torch.func.jacrev(chart)(phi)
    natural, charted, euclidean = both_gradients(p, jacobian, seed)
    assert_close(charted, natural, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(euclidean, normal(n, seed=seed), rtol=1e-2)  # negative control


def test_steps_in_two_charts_agree_to_second_order_and_euclidean_steps_do_not() -> None:
    """Normal in (μ, σ) and (μ, log σ): one step of length η ends O(η²) apart; Euclidean O(η)."""
    p = Normal(torch.tensor(0.5).double(), torch.tensor(2.0).double())
    gradient = torch.tensor([0.3, -0.7]).double()
    fisher = fisher_information(p)
    jacobian = torch.diag(torch.stack([torch.ones_like(p.scale), p.scale]))

    def gap(eta: float, metric: Tensor, charted: Tensor) -> float:
        plain = coordinates(p) + eta * natural_gradient(metric, gradient)
        log_step = eta * natural_gradient(charted, jacobian.mT @ gradient)
        in_logs = torch.stack([p.loc + log_step[0], p.scale * torch.exp(log_step[1])])
        return (plain - in_logs).norm().item()

    identity = torch.eye(2).double()
    natural = [gap(eta, fisher, pull_back(fisher, jacobian)) for eta in (1e-2, 1e-3)]
    euclidean = [gap(eta, identity, identity) for eta in (1e-2, 1e-3)]
    assert natural[0] / natural[1] == pytest.approx(100, rel=0.1)
    assert euclidean[0] / euclidean[1] == pytest.approx(10, rel=0.1)


def test_damping_by_the_identity_breaks_invariance() -> None:
    p = FAMILIES[3]
    jacobian = torch.diag(torch.tensor([1.0, 5.0]).double())
    fisher, gradient = fisher_information(p), torch.tensor([0.3, -0.7]).double()
    plain = natural_gradient(fisher, gradient, 0.1)
    chart = jacobian @ natural_gradient(pull_back(fisher, jacobian), jacobian @ gradient, 0.1)
    assert not torch.allclose(plain, chart, rtol=0.1)


def test_pull_back_refuses_a_jacobian_of_other_height() -> None:
    with pytest.raises(InvalidInputError, match="one row for each of the 2"):
        pull_back(torch.eye(2), torch.ones(3, 2))


# --- Fisher-vector products of networks ---


def network(outputs: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).to(dtype)
    torch.random.set_rng_state(torch_state)
    return model


def dense_fisher(model: nn.Module, inputs: Tensor, output_fisher: Tensor) -> Tensor:
    """mean over rows of Jᵀ F_z J, by brute force."""
    weights = dict(model.named_parameters())

    def outputs(w: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, w, (inputs,))

    blocks = torch.func.jacrev(outputs)(weights)
    jacobian = torch.cat([blocks[name].flatten(2) for name in weights], -1)
    return pull_back(output_fisher, jacobian).mean(0)


HEADS = {
    "categorical": lambda z: Categorical(logits=z),
    "bernoulli": lambda z: Bernoulli(logits=z),
    "poisson": lambda z: Poisson(z.exp()),
    "normal": lambda z: Normal(z, 2.0),
    "location and scale": lambda z: Normal(z[:, 0], z[:, 1].exp()),
}


def output_fisher(head: str, z: Tensor) -> Tensor:
    p = HEADS[head](z)
    if head == "categorical":
        return fisher_information(p, parameters="logits")
    if head == "location and scale":
        to_scale = torch.diag_embed(torch.stack([torch.ones_like(p.scale), p.scale], -1))
        return pull_back(fisher_information(p), to_scale)
    variance = {"bernoulli": lambda: p.variance, "poisson": lambda: p.rate}
    return torch.diag_embed(variance.get(head, lambda: torch.full_like(z, 0.25))())


@pytest.mark.parametrize("head", HEADS)
def test_fisher_vector_product_is_the_dense_fisher(head: str) -> None:
    model, inputs = network(2), normal(5, 3, seed=1)
    with torch.no_grad():
        dense = dense_fisher(model, inputs, output_fisher(head, model(inputs)))
    product = fisher_vector_product(model, inputs, HEADS[head])
    vectors = normal(3, dense.shape[0], seed=2)
    assert_close(torch.stack([product(v) for v in vectors]), vectors @ dense)
    gradient = dense @ vectors[0]
    assert_close(
        natural_gradient(product, gradient, 1e-2),
        natural_gradient(dense, gradient, 1e-2),
        rtol=1e-6,
        atol=1e-6,
    )


def test_fisher_vector_product_takes_functions_and_chosen_parameters() -> None:
    weight, unused = normal(3, seed=0).requires_grad_(), normal(2, seed=1).requires_grad_()
    inputs = normal(7, 3, seed=2)
    product = fisher_vector_product(
        lambda x: x @ weight, inputs, lambda z: Normal(z, 1.0), parameters=[weight, unused]
    )
    vector = normal(5, seed=3)
    expected = torch.cat([inputs.T @ inputs / 7 @ vector[:3], torch.zeros(2).double()])
    assert_close(product(vector), expected)


def test_fisher_vector_product_leaves_the_module_alone() -> None:
    model = network(2, torch.float32)
    before = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        product = fisher_vector_product(model, torch.ones(2, 3), HEADS["categorical"])
        out = product(torch.ones(sum(p.numel() for p in model.parameters())))
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert all(
        p.grad is None and torch.equal(p, b)
        for p, b in zip(model.parameters(), before, strict=True)
    )


def test_fisher_vector_product_says_what_it_needs() -> None:
    with pytest.raises(InvalidInputError, match="parameters that require a gradient, got none"):
        fisher_vector_product(lambda x: x, torch.ones(2), lambda z: Normal(z, 1.0))
    with pytest.raises(InvalidInputError, match="parameters that require a gradient, got none"):
        fisher_vector_product(
            network(2).requires_grad_(False), normal(2, 3, seed=0), HEADS["normal"]
        )
    with pytest.raises(InvalidInputError, match="no closed form of KL"):
        fisher_vector_product(network(1), normal(2, 3, seed=0), MixedUp)


class MixedUp(Distribution):
    """A distribution that torch has no divergence for."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(z.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> Distribution:
        return self
