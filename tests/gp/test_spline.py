"""Splines against the dense linear system, refits, polynomials and the flat limit of the kernel."""

import numpy as np
import pytest

from fisherbo.errors import NumericalError
from fisherbo.gp.kernel import matern
from fisherbo.gp.spline import Trend, splines

TRENDS = list(Trend)


def data(d=3, n=40, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d))
    y = np.stack([np.sin(x[:, 0]) + x[:, -1] ** 3, np.cos(x.sum(1))], 1)
    return x, y, np.ones(n)


def distances(a, b):
    return np.sqrt(((a[:, None] - b) ** 2).sum(-1))


def saddle(covariance, polynomials):
    p = polynomials.shape[1]
    return np.block([[covariance, polynomials], [polynomials.T, np.zeros((p, p))]])


@pytest.mark.parametrize("trend", TRENDS)
def test_means_and_deviations_solve_the_equations_of_universal_kriging(trend):
    x, y, weight = data()
    found = splines(x, y, trend, weight)
    system = saddle(distances(x, x) ** 3, trend(x))
    for point in np.random.default_rng(1).standard_normal((4, 3)):
        v = np.append(distances(x, point[None])[:, 0] ** 3, trend(point[None])[0])
        weights = np.linalg.solve(system, v)
        mean, _, deviation, _ = found.at(point)
        assert mean == pytest.approx(weights[: len(x)] @ y, rel=1e-6)
        assert found.mean(point[None])[0] == pytest.approx(mean)
        assert deviation == pytest.approx(np.sqrt(-v @ weights), rel=1e-6)


@pytest.mark.parametrize("trend", TRENDS)
def test_residuals_left_out_are_those_of_refits_and_scale_is_their_size(trend):
    x, y, _ = data()
    weight = np.random.default_rng(2).random(len(x))
    found, standardised = splines(x, y, trend, weight), []
    for i in range(len(x)):
        kept = np.arange(len(x)) != i
        without = splines(x[kept], y[kept], trend, weight[kept])
        mean, _, deviation, _ = without.at(x[i])
        assert found.left_out[i] == pytest.approx(y[i] - mean, rel=1e-5, abs=1e-8)
        standardised.append((y[i] - mean) / deviation)
    scale = np.sqrt(weight @ np.square(standardised) / weight.sum())
    assert found.scale == pytest.approx(scale, rel=1e-5)


@pytest.mark.parametrize("trend", TRENDS)
def test_observations_are_met_where_nothing_is_uncertain(trend):
    x, y, weight = data()
    found = splines(x, y, trend, weight)
    assert found.mean(x) == pytest.approx(y, abs=1e-6)
    assert max(found.at(point)[2] for point in x) < 1e-3


@pytest.mark.parametrize("trend", TRENDS)
def test_gradients_are_those_of_finite_differences(trend):
    found, step = splines(*data()[:2], trend, data()[2]), 1e-6
    point = np.array([0.3, -0.7, 0.2])
    _, gradient, _, slope = found.at(point)
    pairs = [(found.at(point + e), found.at(point - e)) for e in step * np.eye(3)]
    numeric = np.array([(a[0] - b[0]) / (2 * step) for a, b in pairs]).T
    assert gradient == pytest.approx(numeric, abs=1e-6)
    assert slope == pytest.approx([(a[2] - b[2]) / (2 * step) for a, b in pairs], abs=1e-4)


@pytest.mark.parametrize("trend", TRENDS)
def test_a_polynomial_of_the_trend_is_known_everywhere(trend):
    x = np.random.default_rng(3).standard_normal((30, 3))
    coefficients = np.random.default_rng(4).standard_normal((trend.size(3), 2))
    found = splines(x, trend(x) @ coefficients, trend, np.ones(30))
    far = 10 * np.random.default_rng(5).standard_normal((5, 3))
    assert found.mean(far) == pytest.approx(trend(far) @ coefficients, rel=1e-6, abs=1e-6)
    assert found.scale.max() < 1e-6


@pytest.mark.parametrize("lengthscale", [100.0, 1000.0])
def test_it_is_the_limit_of_the_samplers_kernel_with_a_linear_trend(lengthscale):
    x, y, weight = data(d=2, n=15)
    found = splines(x, y, Trend.LINEAR, weight)
    scale = np.sqrt(3) / lengthscale
    system = saddle(matern(scale * distances(x, x))[0], Trend.LINEAR(x))
    points = np.random.default_rng(6).standard_normal((5, 2))
    beside = matern(scale * distances(points, x))[0]
    v = np.concatenate([beside, Trend.LINEAR(points)], 1).T
    means = np.linalg.solve(system, v)[: len(x)].T @ y
    assert found.mean(points) == pytest.approx(means, rel=10 / lengthscale, abs=10 / lengthscale)


def test_points_that_do_not_determine_the_trend_are_refused():
    x, y, weight = data(n=9)
    with pytest.raises(NumericalError, match="9 points do not determine"):
        splines(x, y, Trend.QUADRATIC, weight)
    x, y, weight = data()
    x[:, 1] = x[:, 0]
    with pytest.raises(NumericalError, match="do not determine"):
        splines(x, y, Trend.LINEAR, weight)
