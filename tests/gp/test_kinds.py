"""Categories with distances, and mixture weights, in the kernel: distances and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import kstest
from torch.distributions import Categorical

from fisherbo.botorch.convert import from_botorch, to_botorch
from fisherbo.geometry import fisher_rao_distance
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.likelihood import MarginalLikelihood
from fisherbo.gp.posterior import condition
from fisherbo.gp.replicates import merged
from fisherbo.kinds import SHARE, Kinds, from_square_roots, square_roots

seeds = st.integers(0, 60)
GROUP = np.array([0, 2, 3])


def kinds_of(rng):
    """Six coordinates: three weights of a group, two numbers, and a category of four choices."""
    return Kinds(np.array([0, 0, 0, 0, 0, 4]), {5: rng.standard_normal((4, 2))}, (GROUP,))


def draw(seed, n=15):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6))
    x[:, 5] = rng.integers(4, size=n) / 3
    hyper = Hyper(np.exp(rng.uniform(-1, 1, 6)), float(rng.uniform(0.3, 3)), 1e-3)
    return kinds_of(rng), x, rng.standard_normal(n), hyper


@given(seeds, st.integers(2, 9))
def test_the_distance_of_weights_is_the_chord_of_fisher_and_raos(seed, k):
    x = np.random.default_rng(seed).random((2, k))
    kinds = Kinds(np.zeros(k, np.int64), simplices=(np.arange(k),))
    a, b = Embedding.of(np.full(k, np.sqrt(3.0)), kinds)(x)  # ℓ = √3: t is the plain distance
    p, q = (Categorical(torch.tensor(square_roots(row) ** 2)) for row in x)
    arc = fisher_rao_distance(p, q).item()  # on the sphere of radius 2
    assert 2 * np.linalg.norm(a - b) == pytest.approx(4 * np.sin(arc / 4), abs=1e-7)


@given(seeds)
def test_the_kernel_depends_on_the_weights_and_choices_alone_and_is_positive_definite(seed):
    kinds, x, _, hyper = draw(seed)
    again = x.copy()
    again[:, GROUP] = [from_square_roots(u) for u in square_roots(x[:, GROUP])]
    embedding = Embedding.of(hyper.lengthscale, kinds)
    assert embedding(again) == pytest.approx(embedding(x), abs=1e-9)
    rho, _ = matern(distance(embedding(x), embedding(x)))
    assert np.linalg.eigvalsh(rho).min() > -1e-9


@given(seeds)
def test_choices_are_as_far_apart_as_their_vectors(seed):
    kinds, _, _, hyper = draw(seed)
    x = np.full((4, 6), 0.5)
    x[:, 5] = np.arange(4) / 3
    z = Embedding.of(hyper.lengthscale, kinds)(x)
    wanted = np.linalg.norm(kinds.vectors[5][:, None] - kinds.vectors[5], axis=-1)
    found = np.linalg.norm(z[:, None] - z, axis=-1)
    assert found == pytest.approx(np.sqrt(3) / hyper.lengthscale[5] * wanted)


def test_unit_vectors_over_root_two_are_a_plain_category():
    _, x, y, hyper = draw(3)
    plain = condition(x, y, np.array([0, 0, 0, 0, 0, 4]), hyper)
    same = condition(x, y, Kinds(plain.choices, {5: np.eye(4) / np.sqrt(2)}), hyper)
    assert same.predict(x)[0] == pytest.approx(plain.predict(x)[0])
    assert same.predict(x)[1] == pytest.approx(plain.predict(x)[1], abs=1e-9)


@given(seeds, st.permutations(range(4)))
def test_predictions_do_not_depend_on_the_order_of_choices(seed, permutation):
    kinds, x, y, hyper = draw(seed)
    moved = x.copy()
    moved[:, 5] = np.array(permutation)[np.rint(3 * x[:, 5]).astype(int)] / 3
    for one, other in (
        (kinds, Kinds(kinds.choices, {5: kinds.vectors[5][np.argsort(permutation)]}, (GROUP,))),
        (Kinds(kinds.choices), Kinds(kinds.choices)),
    ):
        expected = np.array(condition(x, y, one, hyper).predict(x))
        found = np.array(condition(moved, y, other, hyper).predict(moved))
        assert found == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_gradients_pulled_back_from_the_sphere_are_derivatives(seed):
    kinds, x, y, hyper = draw(seed)
    posterior = condition(x, y, kinds, hyper)
    point = np.random.default_rng(seed + 1).uniform(0.1, 0.9, 6)
    point[5] = 1 / 3
    found = posterior.predict_with_gradient(point[None])
    for j, gradient in enumerate((found.mean_gradient[0], found.sd_gradient[0])):
        numeric = approx_fprime(point, lambda p, j=j: posterior.predict(p[None])[j][0], 1e-7)
        assert gradient[:5] == pytest.approx(numeric[:5], abs=1e-4)
        assert gradient[5] == 0
    assert found.mean_gradient[0, 5] == 0


def test_the_covariance_of_the_gradient_is_that_of_differences():
    kinds, x, y, hyper = draw(5)
    posterior = condition(x, y, kinds, hyper)
    point, step = np.array([0.3, 0.5, 0.8, 0.6, 0.2, 1 / 3]), 1e-4
    ends = np.concatenate([point + step * np.eye(6)[:5], point - step * np.eye(6)[:5]])
    both = np.concatenate([np.eye(5), -np.eye(5)], 1) / (2 * step)
    wanted = both @ posterior.covariance(ends) @ both.T
    found = posterior.gradient_covariance(point[None])[0]
    assert found[:5, :5] == pytest.approx(wanted, rel=5e-3, abs=5e-3)
    assert not found[5].any() and not found[:, 5].any()


def test_the_likelihood_has_the_gradient_of_its_values():
    kinds, x, y, hyper = draw(7)
    likelihood = MarginalLikelihood(merged(x, y), kinds)
    theta = hyper.to_vector()
    numeric = approx_fprime(theta, lambda t: likelihood(t).value, 1e-7)
    assert likelihood(theta).gradient == pytest.approx(numeric, abs=1e-4)


@pytest.mark.parametrize("k", [3, 6])
def test_uniform_floats_are_nearly_uniform_on_the_sphere(k):
    """Exactly so for the whole half-normal; a sample of 2,000 cannot tell the truncation at c."""
    x = np.random.default_rng(k).random((2000, k))
    u = square_roots(x)
    wanted = np.abs(np.random.default_rng(0).standard_normal((2000, k)))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    for j in range(k):
        assert kstest(u[:, j], wanted[:, j]).pvalue > 1e-3
    assert square_roots(x / SHARE * 0.5).shape == x.shape


@given(seeds, st.integers(2, 12))
def test_every_point_of_the_sphere_has_coordinates_in_the_cube(seed, k):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.1))  # near vertices
    x = from_square_roots(np.sqrt(p))
    assert (x >= 0).all() and (x <= 1).all()
    assert square_roots(x) ** 2 == pytest.approx(p, abs=1e-9)


def test_vertices_and_the_corner_without_direction_are_finite():
    kinds = Kinds(np.zeros(3, np.int64), simplices=(np.arange(3),))
    x = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1e-9, 0]], dtype=float)
    u = kinds.inputs(x)
    assert u[0] == pytest.approx(np.full(3, 3**-0.5))
    assert u[1] == pytest.approx([1, 0, 0]) and u[4] == pytest.approx([0, 1, 0], abs=2e-3)
    assert np.isfinite(kinds.pull(x, np.ones((5, 3)))).all()


@given(seeds)
def test_botorch_predicts_the_same(seed):
    kinds, x, y, hyper = draw(seed)
    posterior = condition(x, y, kinds, hyper)
    model = to_botorch(posterior)
    points = x + np.where(np.arange(6) < 5, 1e-3, 0)
    with torch.no_grad():
        theirs = model.posterior(torch.tensor(points)[:, None])
    mean, sd = posterior.predict(points)
    assert theirs.mean.numpy().ravel() == pytest.approx(mean, abs=1e-7)
    assert theirs.variance.numpy().ravel() == pytest.approx(sd**2, abs=1e-7)
    assert from_botorch(model).predict(points)[0] == pytest.approx(mean, abs=1e-7)
