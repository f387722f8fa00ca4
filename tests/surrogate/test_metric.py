"""The posterior's metrics against finite differences, samples of f, and what they must do."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from fisherbo.acquisition.utility import log_expected_improvement
from fisherbo.surrogate.fit import Hyper
from fisherbo.surrogate.kernel import CURVATURE
from fisherbo.surrogate.metric import (
    damped_metric,
    damped_parts,
    expected_metric,
    pull_back_metric,
)
from fisherbo.surrogate.posterior import condition

CHOICES = np.zeros(3, dtype=np.int64)


@pytest.fixture
def posterior():
    rng = np.random.default_rng(7)
    hyper = Hyper(np.array([0.4, 0.7, 1.1]), 1.3, 0.05)
    return condition(rng.random((12, 3)), rng.standard_normal(12), CHOICES, hyper)


@pytest.fixture
def point():
    return np.random.default_rng(2).random((1, 3))


def gradients(posterior, point):
    return [
        approx_fprime(point[0], lambda z, k=k: posterior.predict(z[None])[k][0], 1e-6)
        for k in (0, 1)
    ]


def test_pull_back_is_the_normal_familys_metric_along_mean_and_deviation(posterior, point):
    mean_gradient, sd_gradient = gradients(posterior, point)
    variance = posterior.predict(point)[1][0] ** 2 + posterior.hyper.noise
    outer = np.outer(mean_gradient, mean_gradient) + 2 * np.outer(sd_gradient, sd_gradient)
    metric = pull_back_metric(posterior, point)[0]
    assert metric == pytest.approx(outer / variance, rel=1e-3, abs=1e-3)
    assert np.linalg.matrix_rank(metric, tol=1e-8 * np.trace(metric)) == 2


def test_damping_adds_the_priors_expected_metric(posterior, point):
    hyper = posterior.hyper
    variance = posterior.predict(point)[1][0] ** 2 + hyper.noise
    prior = CURVATURE * hyper.signal / hyper.lengthscale**2 / variance
    added = damped_metric(posterior, point, 0.3) - pull_back_metric(posterior, point)
    assert added[0] == pytest.approx(np.diag(0.3 * prior))
    assert damped_parts(posterior.predict_with_gradient(point), posterior)[1][0] == pytest.approx(
        prior
    )


def test_expected_metric_is_the_second_moment_of_the_gradient_of_samples(posterior, point):
    """E[∇f∇fᵀ | D] from joint samples of f at points a small step apart."""
    step = 1e-4
    stencil = np.concatenate([point + step * np.eye(3), point - step * np.eye(3)])
    mean, covariance = joint(posterior, stencil)
    difference = np.concatenate([np.eye(3), -np.eye(3)], 1) / (2 * step)
    gradient = difference @ mean
    second = np.outer(gradient, gradient) + difference @ covariance @ difference.T
    metric = expected_metric(posterior, point)[0] * posterior.hyper.noise
    assert metric == pytest.approx(second, rel=1e-3, abs=1e-3)


def joint(posterior, points):
    """Mean and covariance of f at several points, by dense algebra."""
    hyper = posterior.hyper

    def k(a, b):
        t = np.sqrt(3 * (((a[:, None] - b) / hyper.lengthscale) ** 2).sum(-1))
        return hyper.signal * (1 + t) * np.exp(-t)

    gram = k(posterior.x, posterior.x) + hyper.noise * np.eye(len(posterior.x))
    cross = k(points, posterior.x)
    solved = np.linalg.solve(gram, cross.T)
    return solved.T @ posterior.y, k(points, points) - cross @ solved


def test_far_from_the_data_the_expected_metric_is_the_priors(posterior):
    hyper = posterior.hyper
    metric = expected_metric(posterior, np.full((1, 3), 60.0))[0]
    prior = CURVATURE * hyper.signal / hyper.lengthscale**2
    assert metric * hyper.noise == pytest.approx(np.diag(prior))


def test_only_the_pull_back_degenerates_at_an_optimum_of_the_utility():
    """∇μ and ∇s are collinear there: rank one; the expected metric stays well conditioned."""
    x = np.random.default_rng(0).random((15, 3))
    y = 0.5 - 4 * ((x - 0.5) ** 2).sum(1)
    posterior = condition(x, y, CHOICES, Hyper(np.full(3, 0.6), 1.0, 1e-2))

    def loss(x):
        return -log_expected_improvement(*posterior.predict(x[None]), 0.4)[0][0]

    starts = np.random.default_rng(0).random((20, 3))
    found = [minimize(loss, x, method="L-BFGS-B", bounds=[(0, 1)] * 3) for x in starts]
    best = min(found, key=lambda r: r.fun).x
    assert ((best > 0.01) & (best < 0.99)).all()
    x = best[None]
    spectrum = np.linalg.eigvalsh(pull_back_metric(posterior, x)[0])
    assert spectrum[-2] < 1e-5 * spectrum[-1]
    assert np.linalg.cond(expected_metric(posterior, x)[0]) < 1e3


def test_metrics_transform_as_tensors_under_a_change_of_units(posterior, point):
    unit = np.array([2.0, 0.5, 3.0])  # x = unit · x'
    hyper = posterior.hyper
    primed = condition(
        posterior.x / unit,
        posterior.y,
        CHOICES,
        Hyper(hyper.lengthscale / unit, hyper.signal, hyper.noise),
    )
    for metric in (pull_back_metric, expected_metric, lambda p, x: damped_metric(p, x, 0.1)):
        expected = np.diag(unit) @ metric(posterior, point)[0] @ np.diag(unit)
        assert metric(primed, point / unit)[0] == pytest.approx(expected)


def test_metrics_have_no_part_along_categories():
    rng = np.random.default_rng(0)
    choices = np.array([0, 3])
    x = np.stack([rng.random(8), rng.integers(3, size=8) / 2], 1)
    hyper = Hyper(np.array([0.5, 1.0]), 1.0, 0.1)
    posterior = condition(x, rng.standard_normal(8), choices, hyper)
    metric = expected_metric(posterior, np.array([[0.3, 0.5]]))[0]
    assert metric[0, 0] > 0
    assert not metric[1].any() and not metric[:, 1].any()
