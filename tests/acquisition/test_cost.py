"""Factors of the cost: closed forms by quadrature, gradients by differences."""

import numpy as np
import pytest
from scipy.stats import norm

from fisherbo.acquisition.cost import InverseCost, WithinBudget
from fisherbo.gp.fisher import posterior_metric, score_metric
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition

RNG = np.random.default_rng(3)
X = RNG.random((12, 3))
MODEL = condition(
    X,
    np.sin(4 * X[:, 0]) + X[:, 1],
    np.zeros(3, dtype=np.int64),
    Hyper(np.array([0.4, 0.7, 1.5]), 1.2, 0.05),
    constant=0.0,
)
POINTS = RNG.random((6, 3))
FACTORS = [InverseCost(MODEL, 1.7), WithinBudget(MODEL, -0.4), WithinBudget(MODEL, -30.0)]


def test_the_inverse_cost_is_the_mean_of_the_log_by_quadrature():
    mean, sd = MODEL.predict(POINTS)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    u = mean[:, None] + sd[:, None] * nodes
    log_inverse = -1.7 * u  # log c = 1.7 u
    expected = log_inverse @ weights / weights.sum()
    assert InverseCost(MODEL, 1.7).value(POINTS) == pytest.approx(expected, rel=1e-10)


def test_the_probability_is_that_of_the_next_observation():
    mean, sd = MODEL.predict(POINTS)
    of_observation = np.sqrt(sd**2 + MODEL.noise)
    expected = np.log(norm.cdf(-0.4, mean, of_observation))
    assert WithinBudget(MODEL, -0.4).value(POINTS) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("factor", FACTORS)
def test_gradients_agree_with_differences(factor):
    found = factor.evaluate(POINTS)
    assert found.value == pytest.approx(factor.value(POINTS), rel=1e-12)
    step = 1e-6
    for j in range(3):
        moved = step * np.eye(3)[j]
        central = (factor.value(POINTS + moved) - factor.value(POINTS - moved)) / (2 * step)
        assert found.gradient[:, j] == pytest.approx(central, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("metric", [posterior_metric, score_metric])
def test_the_metric_is_that_of_the_model(metric):
    at = MODEL.predict_with_gradient(POINTS)
    diagonal, factors, matrix = metric(MODEL, POINTS, at)
    for made in (InverseCost(MODEL, 1.0, metric), WithinBudget(MODEL, 0.0, metric)):
        found = made.evaluate(POINTS)
        assert found.diagonal == pytest.approx(diagonal)
        assert (found.factors is None) == (factors is None)
        assert (found.matrix is None) == (matrix is None)
