"""The Gaussian process against GPyTorch, dense algebra and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition, extend, with_fantasies, with_values
from tests.gp.oracles import MIXED, NUMERIC, dense_covariance, draw, gpytorch_model


def test_predictions_equal_gpytorch():
    x, y, hyper = draw(0)
    points = np.random.default_rng(1).random((7, 3))
    model = gpytorch_model(x, y, hyper).eval()
    with torch.no_grad():
        theirs = model(torch.tensor(points))
        mean, sd = condition(x, y, NUMERIC, hyper).predict(points)
        assert mean == pytest.approx(theirs.mean.numpy(), abs=1e-7)
        assert sd**2 == pytest.approx(theirs.variance.numpy(), abs=1e-7)


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


@given(seed=st.integers(0, 30))
def test_the_gradient_of_a_function_of_both_moments_equals_finite_differences(seed):
    x, y, hyper = draw(seed)
    posterior = condition(x, y, NUMERIC, hyper, constant=-1.5)
    point = draw(seed + 100, 1)[0]
    at = posterior.predict_with_gradient(point)

    def product(v):
        mean, sd = posterior.predict(v[None])
        return mean[0] * sd[0] ** 2

    expected = approx_fprime(point[0], product, 1e-6)
    gradient = at.gradient(at.sd**2, 2 * at.mean * at.sd)
    assert gradient[0] == pytest.approx(expected, abs=1e-4)


def test_fantasies_keep_the_mean_and_remove_the_uncertainty():
    x, y, hyper = draw(3)
    posterior = condition(x, y, NUMERIC, hyper)
    points = np.random.default_rng(0).random((3, 3))
    believed = with_fantasies(posterior, points)
    elsewhere = np.random.default_rng(1).random((5, 3))
    assert believed.predict(elsewhere)[0] == pytest.approx(posterior.predict(elsewhere)[0])
    assert (believed.predict(points)[1] < 0.01).all()
    assert (posterior.predict(points)[1] > 0.05).all()


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
