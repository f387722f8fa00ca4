"""The Gaussian process against GPyTorch, dense algebra and finite differences."""

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from fisherbo.surrogate.fit import (
    Hyper,
    Prior,
    fit,
    negative_log_marginal_likelihood,
    prior_mode,
)
from fisherbo.surrogate.kernel import squared_differences
from fisherbo.surrogate.posterior import condition, extend, with_fantasies, with_values
from fisherbo.surrogate.replicates import merged

NUMERIC = np.zeros(3, dtype=np.int64)
MIXED = np.array([0, 4, 0])


def draw(seed, n=12, choices=NUMERIC):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3))
    for j in choices.nonzero()[0]:
        x[:, j] = rng.integers(choices[j], size=n) / (choices[j] - 1)
    hyper = Hyper(
        rng.uniform(0.2, 1.5, 3), float(rng.uniform(0.5, 2)), float(rng.uniform(0.01, 0.2))
    )
    return x, rng.standard_normal(n), hyper


def dense_covariance(a, b, choices, hyper):
    k = np.empty((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            delta2 = np.where(choices > 0, (p != q).astype(float), (p - q) ** 2)
            t = np.sqrt(5 * (delta2 / hyper.lengthscale**2).sum())
            k[i, j] = hyper.signal * (1 + t + t * t / 3) * np.exp(-t)
    return k


def gpytorch_model(x, y, hyper):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=3))
    likelihood = gpytorch.likelihoods.GaussianLikelihood()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(torch.tensor(x), torch.tensor(y), likelihood)
            self.mean, self.kernel = gpytorch.means.ZeroMean(), kernel

        def forward(self, z):
            return gpytorch.distributions.MultivariateNormal(self.mean(z), self.kernel(z))

    model = Model().double()
    model.kernel.base_kernel.lengthscale = torch.tensor(hyper.lengthscale)
    model.kernel.outputscale = hyper.signal
    likelihood.noise = hyper.noise
    return model


def test_predictions_equal_gpytorch():
    x, y, hyper = draw(0)
    points = np.random.default_rng(1).random((7, 3))
    model = gpytorch_model(x, y, hyper).eval()
    with torch.no_grad():
        theirs = model(torch.tensor(points))
        mean, sd = condition(x, y, NUMERIC, hyper).predict(points)
        assert mean == pytest.approx(theirs.mean.numpy(), abs=1e-7)
        assert sd**2 == pytest.approx(theirs.variance.numpy(), abs=1e-7)


def test_marginal_likelihood_and_gradient_equal_gpytorch():
    x, y, hyper = draw(2)
    model = gpytorch_model(x, y, hyper).train()
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    value = -mll(model(torch.tensor(x)), torch.tensor(y)) * len(y)
    differences = squared_differences(x, NUMERIC)
    ours, _ = negative_log_marginal_likelihood(hyper.to_vector(), differences, merged(x, y))
    assert ours == pytest.approx(value.item(), abs=1e-5)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 50))
def test_marginal_likelihood_gradient_equals_finite_differences(choices, seed):
    x, y, hyper = draw(seed, choices=choices)
    differences = squared_differences(x, choices)
    theta = hyper.to_vector()
    _, gradient = negative_log_marginal_likelihood(theta, differences, merged(x, y))
    numeric = approx_fprime(
        theta, lambda v: negative_log_marginal_likelihood(v, differences, merged(x, y))[0], 1e-7
    )
    assert gradient == pytest.approx(numeric, abs=1e-4)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 50))
def test_predictions_equal_dense_algebra(choices, seed):
    x, y, hyper = draw(seed, choices=choices)
    points, _, _ = draw(seed + 100, 5, choices)
    gram = dense_covariance(x, x, choices, hyper) + hyper.noise * np.eye(len(x))
    cross = dense_covariance(points, x, choices, hyper)
    mean, sd = condition(x, y, choices, hyper).predict(points)
    assert mean == pytest.approx(cross @ np.linalg.solve(gram, y), abs=1e-8)
    explained = np.einsum("bn,nb->b", cross, np.linalg.solve(gram, cross.T))
    assert sd**2 == pytest.approx(hyper.signal - explained, abs=1e-8)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 30))
def test_prediction_gradients_equal_finite_differences(choices, seed):
    x, y, hyper = draw(seed, choices=choices)
    posterior = condition(x, y, choices, hyper)
    point = draw(seed + 100, 1, choices)[0]
    p = posterior.predict_with_gradient(point)
    numeric = choices == 0

    def along(v, which):
        moved = point.copy()
        moved[0, numeric] = v
        return posterior.predict(moved)[which][0]

    for which, gradient in ((0, p.mean_gradient), (1, p.sd_gradient)):
        expected = approx_fprime(point[0, numeric], along, 1e-6, which)
        assert gradient[0, numeric] == pytest.approx(expected, abs=1e-4)
        assert not gradient[0, ~numeric].any()


def test_fantasies_keep_the_mean_and_remove_the_uncertainty():
    x, y, hyper = draw(3)
    posterior = condition(x, y, NUMERIC, hyper)
    points = np.random.default_rng(0).random((3, 3))
    believed = with_fantasies(posterior, points)
    elsewhere = np.random.default_rng(1).random((5, 3))
    assert believed.predict(elsewhere)[0] == pytest.approx(posterior.predict(elsewhere)[0])
    assert (believed.predict(points)[1] < 0.01).all()
    assert (posterior.predict(points)[1] > 0.05).all()


def test_fit_recovers_lengthscales_of_a_sample():
    rng = np.random.default_rng(0)
    x = rng.random((150, 2))
    true = Hyper(np.array([0.2, 1.0]), 1.0, 1e-3)
    choices = np.zeros(2, dtype=np.int64)
    gram = dense_covariance(x, x, choices, true) + true.noise * np.eye(150)
    y = np.linalg.cholesky(gram) @ rng.standard_normal(150)
    found = fit(x, y, choices)
    assert np.log(found.lengthscale) == pytest.approx(np.log(true.lengthscale), abs=0.4)
    assert np.log(found.noise) == pytest.approx(np.log(true.noise), abs=0.7)


def test_fit_is_at_a_maximum_of_the_posterior_density():
    x, y, _ = draw(5, n=25)
    theta = fit(x, y, NUMERIC, [prior_mode(3)]).to_vector()
    differences, prior = squared_differences(x, NUMERIC), Prior.for_dimension(3)

    def loss(v):
        return (
            negative_log_marginal_likelihood(v, differences, merged(x, y))[0] + prior.penalty(v)[0]
        )

    assert all(loss(theta) <= loss(theta + s) + 1e-3 for s in 0.3 * np.eye(5))
    assert all(loss(theta) <= loss(theta - s) + 1e-3 for s in 0.3 * np.eye(5))


def test_duplicates_without_noise_are_harmless():
    x = np.zeros((6, 3))
    posterior = condition(x, np.ones(6), NUMERIC, Hyper(np.ones(3), 1.0, 1e-6))
    mean, sd = posterior.predict(np.zeros((1, 3)))
    assert mean[0] == pytest.approx(1, abs=1e-3)
    assert 0 < sd[0] < 1e-2


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 50), new=st.integers(0, 6))
def test_an_extended_posterior_equals_one_of_all_data(choices, seed, new):
    x, y, hyper = draw(seed, 14, choices)
    nugget = hyper.noise * np.linspace(0.5, 2, 14)
    old = 14 - new
    part = condition(x[:old], y[:old], choices, hyper, nugget=nugget[:old], constant=-0.7)
    extended = extend(part, x[old:], y[old:], nugget[old:])
    whole = condition(x, y, choices, hyper, nugget=nugget, constant=-0.7)
    assert extended.precision == pytest.approx(whole.precision, rel=1e-6, abs=1e-6)
    points = draw(seed + 100, 5, choices)[0]
    assert extended.predict(points)[0] == pytest.approx(whole.predict(points)[0], abs=1e-7)
    assert extended.predict(points)[1] == pytest.approx(whole.predict(points)[1], abs=1e-7)


def test_new_values_at_the_same_points_need_no_new_factor():
    x, y, hyper = draw(4)
    points = np.random.default_rng(0).random((5, 3))
    renewed = with_values(condition(x, y, NUMERIC, hyper, constant=0.3), 2 * y)
    expected = condition(x, 2 * y, NUMERIC, hyper, constant=0.3)
    assert renewed.predict(points)[0] == pytest.approx(expected.predict(points)[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_an_extension_that_rounding_spoils_is_made_anew(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(4, size=(70, 5)) / 3
    x = x + 1e-3 * rng.random(x.shape)
    hyper = Hyper(np.array([126.0, 75.0, 45.0, 27.0, 14.0]), 39.0, 1e-6)  # of a linear objective
    y, choices = x.sum(1), np.zeros(5, dtype=np.int64)
    part = condition(x[:64], y[:64], choices, hyper)
    extended = extend(part, x[64:], y[64:], np.full(6, 1e-6))
    assert extended.predict(x)[0] == pytest.approx(y, abs=1e-2)
    assert np.isfinite(extended.precision).all()
