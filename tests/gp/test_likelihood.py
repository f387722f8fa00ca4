"""The marginal likelihood against GPyTorch, finite differences and dense algebra."""

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from fisherbo.gp.hyper import Hyper
from fisherbo.gp.likelihood import MarginalLikelihood
from fisherbo.gp.replicates import merged
from tests.gp.oracles import MIXED, NUMERIC, dense_covariance, draw, gpytorch_model


def test_the_value_equals_gpytorch():
    x, y, hyper = draw(2)
    model = gpytorch_model(x, y, hyper).train()
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    theirs = -mll(model(torch.tensor(x)), torch.tensor(y)) * len(y)
    ours = MarginalLikelihood(merged(x, y), NUMERIC)(hyper.to_vector())
    assert ours.value == pytest.approx(theirs.item(), abs=1e-5)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 50))
def test_the_gradient_equals_finite_differences(choices, seed):
    x, y, hyper = draw(seed, choices=choices)
    known = np.random.default_rng(seed).uniform(0, 0.1, len(y)) if seed % 2 else None
    likelihood, theta = MarginalLikelihood(merged(x, y, known), choices), hyper.to_vector()
    numeric = approx_fprime(theta, lambda v: likelihood(v).value, 1e-7)
    assert likelihood(theta).gradient == pytest.approx(numeric, abs=1e-4)


def covariance_and_slopes(x, choices, hyper):
    """K, and its derivatives in θ by finite differences."""
    theta, h = hyper.to_vector(), 1e-5

    def covariance(v):
        at = Hyper.from_vector(v)
        return dense_covariance(x, x, choices, at) + at.noise * np.eye(len(x))

    steps = h * np.eye(len(theta))
    slopes = [(covariance(theta + s) - covariance(theta - s)) / (2 * h) for s in steps]
    return covariance(theta), slopes


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=st.integers(0, 20))
def test_the_information_equals_dense_algebra(choices, seed):
    x, y, hyper = draw(seed, choices=choices)
    covariance, slopes = covariance_and_slopes(x, choices, hyper)
    inverse = np.linalg.inv(covariance)
    pulled = np.stack([slope @ inverse @ y for slope in slopes], 1)
    found = MarginalLikelihood(merged(x, y), choices)(hyper.to_vector()).information
    assert found == pytest.approx(0.5 * pulled.T @ inverse @ pulled, abs=1e-5)


def test_the_information_is_that_of_fisher_on_average():
    """E[½ yᵀK⁻¹K_i K⁻¹K_j K⁻¹y] = ½ tr(K⁻¹K_i K⁻¹K_j), by 4,000 draws of y."""
    x, _, hyper = draw(1)
    covariance, slopes = covariance_and_slopes(x, NUMERIC, hyper)
    slopes = [np.linalg.solve(covariance, slope) for slope in slopes]
    fisher = np.array([[0.5 * np.trace(a @ b) for b in slopes] for a in slopes])
    root, rng = np.linalg.cholesky(covariance), np.random.default_rng(0)
    values = (root @ rng.standard_normal(len(x)) for _ in range(4000))
    likelihoods = (MarginalLikelihood(merged(x, y), NUMERIC) for y in values)
    draws = np.array([each(hyper.to_vector()).information for each in likelihoods])
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - fisher) < 5 * error + 1e-6).all()
