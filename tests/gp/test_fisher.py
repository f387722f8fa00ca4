"""The posterior's metrics against KL divergences, finite differences, samples of f."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from fisherbo.acquisition.log_ei import log_expected_improvement
from fisherbo.geometry.lowrank import LowRankMetric
from fisherbo.gp.fisher import (
    damped_metric,
    expected_metric,
    fisher_factors,
    joint_metric,
    posterior_metric,
    prior_metric,
    pull_back_metric,
    score_metric,
)
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.kernel import CURVATURE
from fisherbo.gp.posterior import condition

CHOICES = np.zeros(3, dtype=np.int64)


@pytest.fixture
def posterior():
    rng = np.random.default_rng(7)
    hyper = Hyper(np.array([0.4, 0.7, 1.1]), 1.3, 0.05)
    return condition(rng.random((12, 3)), rng.standard_normal(12), CHOICES, hyper)


@pytest.fixture
def point():
    return np.random.default_rng(2).random((1, 3))


def moments(posterior, points):
    """Mean and variance of the next observation at points."""
    mean, sd = posterior.predict(points)
    return mean, sd**2 + posterior.noise


def kl(posterior, here, there):
    """KL divergence of the predictive densities of the next observation, in closed form."""
    (m, v), (n, w) = moments(posterior, here), moments(posterior, there)
    return 0.5 * (np.log(w / v) + (v + (m - n) ** 2) / w - 1)


@pytest.mark.parametrize("noise", [1e-6, 1e-2, 1.0, 30.0])
def test_the_metric_is_the_second_order_term_of_the_kl_divergence(noise):
    """Where noise prevails the derivative of s itself, in place of √v, would be far off."""
    rng = np.random.default_rng(3)
    x, y = rng.random((12, 3)), 3 * rng.standard_normal(12)
    posterior = condition(x, y, CHOICES, Hyper(np.array([0.4, 0.7, 1.1]), 1.3, noise))
    points, step = rng.random((20, 3)), 1e-3 * rng.standard_normal((20, 3))
    both = kl(posterior, points, points + step) + kl(posterior, points, points - step)
    half = 0.5 * np.einsum("bi,bij,bj->b", step, pull_back_metric(posterior, points), step)
    assert half == pytest.approx(both / 2, rel=1e-2, abs=1e-14)


def test_the_metric_is_the_normal_familys_along_the_predictive_mean_and_deviation(posterior, point):
    mean_gradient, sd_gradient = (
        approx_fprime(point[0], lambda z, k=k: moments(posterior, z[None])[k][0] ** (1 - k / 2))
        for k in (0, 1)
    )
    variance = moments(posterior, point)[1][0]
    outer = np.outer(mean_gradient, mean_gradient) + 2 * np.outer(sd_gradient, sd_gradient)
    metric = pull_back_metric(posterior, point)[0]
    assert metric == pytest.approx(outer / variance, rel=1e-4, abs=1e-4)
    assert np.linalg.matrix_rank(metric, tol=1e-8 * np.trace(metric)) == 2


def test_damping_adds_the_priors_second_moment_of_the_gradient_over_its_predictive_variance(
    posterior, point
):
    hyper = posterior.hyper
    prior = CURVATURE * hyper.signal / hyper.lengthscale**2 / (hyper.signal + hyper.noise)
    added = damped_metric(posterior, point, 0.3) - pull_back_metric(posterior, point)
    assert added[0] == pytest.approx(np.diag(0.3 * prior))
    samples = joint(condition(*nothing(posterior)), np.concatenate([point, point + 1e-4]))[1]
    secant = (samples[0, 0] + samples[1, 1] - 2 * samples[0, 1]) / 1e-8
    assert secant == pytest.approx(prior.sum() * (hyper.signal + hyper.noise), rel=1e-3)


def nothing(posterior):
    """One observation far away, with the posterior's hyperparameters."""
    return np.full((1, 3), 1e3), np.zeros(1), CHOICES, posterior.hyper


def far_from_the_data(posterior):
    return np.full((2, 3), 1e3)


def at_the_data(posterior):
    return posterior.x[:4]


@pytest.mark.parametrize("count", [6, 600])
@pytest.mark.parametrize("noise", [1e-6, 1.0])
@pytest.mark.parametrize("where", [far_from_the_data, at_the_data])
def test_the_metric_is_finite_and_right_at_the_extremes(count, noise, where):
    """The gradient of s grows without bound towards an observation; that of v does not."""
    rng = np.random.default_rng(0)
    x, y = rng.random((count, 3)), rng.standard_normal(count)
    posterior = condition(x, y, CHOICES, Hyper(np.full(3, 0.5), 1.0, noise))
    points = where(posterior)
    factors = fisher_factors(posterior, posterior.predict_with_gradient(points))
    _, variance = moments(posterior, points)
    steps = 1e-4 * np.eye(3)
    slopes = [
        [
            (moments(posterior, points + h)[k] - moments(posterior, points - h)[k]) / 2e-4
            for h in steps
        ]
        for k in (0, 1)
    ]
    mean_gradient, variance_gradient = np.moveaxis(slopes, 1, 2)
    expected = [
        mean_gradient / np.sqrt(variance)[:, None],
        variance_gradient / (math.sqrt(2) * variance)[:, None],
    ]
    assert factors == pytest.approx(np.stack(expected, -1), rel=0.05, abs=0.05)
    step = LowRankMetric(prior_metric(posterior), factors).natural(np.ones_like(points))
    assert np.isfinite(step).all() and (step.sum(1) > 0).all()


def test_the_metric_of_several_models_is_that_of_their_joint_density(point):
    """The KL divergence of independent observations is a sum."""
    rng = np.random.default_rng(5)
    models = [
        condition(rng.random((9, 3)), rng.standard_normal(9), CHOICES, Hyper(np.full(3, l), 1.0, n))
        for l, n in ((0.4, 0.3), (0.9, 0.01), (0.6, 2.0))
    ]
    parts = [posterior_metric(m, point, m.predict_with_gradient(point)) for m in models]
    diagonal, factors, matrix = joint_metric(parts)
    assert matrix is None
    factors = factors * math.sqrt(300)
    assert factors.shape == (1, 3, 6)
    assert diagonal == pytest.approx(sum(part[0] for part in parts))
    step = 1e-3 * rng.standard_normal((1, 3))
    both = sum(kl(m, point, point + step) + kl(m, point, point - step) for m in models)
    assert 0.5 * ((step @ factors[0]) ** 2).sum() == pytest.approx(both[0] / 2, rel=1e-2)
    scores = [score_metric(m, point, m.predict_with_gradient(point)) for m in models]
    assert joint_metric(scores)[1] is None


def tilted(mean, variance, best):
    """Nodes of y, weights of the normal density and of it times the improvement, both of sum 1."""
    y = np.linspace(mean - 14 * np.sqrt(variance), mean + 14 * np.sqrt(variance), 400_001)
    p = np.exp(-((y - mean) ** 2) / (2 * variance))
    q = p * np.maximum(y - best, 0)
    return y, p / p.sum(), q / q.sum()


@pytest.mark.parametrize("best", [-2.0, 0.0, 1.0, 5.0])
def test_the_metric_is_a_gauss_newton_matrix_of_log_improvement(best):
    """In natural parameters −∇²a = F − Cov_q[T], so that F ⪰ −∇²a; ∇a = E_q[T] − E_p[T]."""
    mean, variance = 0.3, 0.7
    eta = np.array([mean / variance, -0.5 / variance])

    def a(eta):
        v = -0.5 / eta[1]
        return log_expected_improvement(np.array([v * eta[0]]), np.sqrt([v]), best)[0][0]

    y, p, q = tilted(mean, variance, best)
    statistics = np.stack([y, y**2])
    fisher, missing = np.cov(statistics, aweights=p, ddof=0), np.cov(statistics, aweights=q, ddof=0)
    closed = [[variance, 2 * mean * variance], [0, 2 * variance**2 + 4 * mean**2 * variance]]
    assert np.triu(fisher) == pytest.approx(np.array(closed), rel=1e-6)
    h = 1e-4 * np.eye(2)
    gradient = [(a(eta + e) - a(eta - e)) / 2e-4 for e in h]
    assert gradient == pytest.approx(statistics @ (q - p), rel=1e-4)
    hessian = [
        [(a(eta + e + f) - a(eta + e - f) - a(eta - e + f) + a(eta - e - f)) / 4e-8 for e in h]
        for f in h
    ]
    assert -np.array(hessian) == pytest.approx(fisher - missing, rel=1e-2, abs=1e-4)
    assert np.linalg.eigvalsh(fisher + np.array(hessian)).min() > 0


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


def test_the_natural_step_ignores_a_linear_change_of_coordinates(posterior, point):
    """With x = A z, and the metric of z ↦ N(μ, v) by second differences of the KL divergence."""
    change = np.random.default_rng(4).standard_normal((3, 3))
    gradient = np.array([0.3, -1.0, 0.5])
    metric, damping = pull_back_metric(posterior, point)[0], np.diag([2.0, 1.0, 0.5])
    h = 1e-3

    def twice(step):
        return kl(posterior, point, point + step) + kl(posterior, point, point - step)

    columns = h * change.T
    primed = [[(twice(a + b) - twice(a - b))[0] / (4 * h**2) for a in columns] for b in columns]
    assert np.array(primed) == pytest.approx(change.T @ metric @ change, rel=1e-2, abs=1e-2)
    there = np.linalg.solve(primed + change.T @ damping @ change, change.T @ gradient)
    here = np.linalg.solve(metric + damping, gradient)
    assert change @ there == pytest.approx(here, rel=1e-2, abs=1e-2)
    assert change @ change.T @ gradient != pytest.approx(gradient, rel=0.5)  # Euclidean


def test_metrics_have_no_part_along_categories():
    rng = np.random.default_rng(0)
    choices = np.array([0, 3])
    x = np.stack([rng.random(8), rng.integers(3, size=8) / 2], 1)
    hyper = Hyper(np.array([0.5, 1.0]), 1.0, 0.1)
    posterior = condition(x, rng.standard_normal(8), choices, hyper)
    metric = expected_metric(posterior, np.array([[0.3, 0.5]]))[0]
    assert metric[0, 0] > 0
    assert not metric[1].any() and not metric[:, 1].any()
