import mpmath
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from fisherbo.acquisition.feasibility import Feasibility, Product, Restricted, log_probability
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.propose import Effort, propose
from fisherbo.geometry.lowrank import LowRankMetric
from fisherbo.gp.fisher import (
    damped_metric,
    posterior_metric,
    pull_back_metric,
    score_metric,
)
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition
from fisherbo.space import Space


def draw(seed):
    rng = np.random.default_rng(seed)
    x, none = rng.random((10, 2)), np.zeros(2, dtype=np.int64)
    return condition(x, rng.standard_normal(10), none, Hyper(np.array([0.4, 0.7]), 1.0, 1e-3))


@pytest.mark.parametrize("z", [-1e5, -300.0, -8.0, -0.3, 0.0, 4.0, 9.0])
def test_log_probability_equals_mpmath(z):
    value, by_mean, by_sd = log_probability(np.array([z * 0.5]), np.array([0.5]))
    with mpmath.workdps(60):
        u = mpmath.mpf(z)
        expected = mpmath.log(mpmath.erfc(-u / mpmath.sqrt(2)) / 2)
        slope = mpmath.npdf(u) / (mpmath.erfc(-u / mpmath.sqrt(2)) / 2)
    assert value[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-15)
    assert by_mean[0] == pytest.approx(float(slope) / 0.5, rel=1e-9)
    assert by_sd[0] == pytest.approx(-float(slope) * z / 0.5, rel=1e-9)


def test_the_gradient_of_a_product_equals_finite_differences():
    both = Product((ExpectedImprovement(draw(0), 0.5), Feasibility(draw(1))))
    for point in np.random.default_rng(2).random((4, 2)):
        here = both.evaluate(point[None])
        assert here.value == pytest.approx(both.value(point[None]))
        numeric = approx_fprime(point, lambda p: both.value(p[None])[0], 1e-7)
        assert here.gradient[0] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_the_metric_of_a_product_is_the_sum_of_its_models_metrics():
    models = [draw(seed) for seed in range(3)]
    improvement = ExpectedImprovement(models[0], 0.5, metric=posterior_metric)
    constraints = [Feasibility(model, posterior_metric) for model in models[1:]]
    both = Product((improvement, *constraints))
    points = np.random.default_rng(2).random((4, 2))
    here = both.evaluate(points)
    assert 300 * here.factors @ here.factors.mT == pytest.approx(
        sum(pull_back_metric(model, points) for model in models)
    )
    dense = sum(damped_metric(model, points, 300.0) for model in models)
    expected = np.linalg.solve(dense, here.gradient[..., None])[..., 0]
    natural = LowRankMetric(here.diagonal, here.factors).natural(here.gradient)
    assert natural / 300 == pytest.approx(expected)


def test_the_score_is_of_the_whole_product():
    models = [draw(seed) for seed in range(2)]
    parts = (
        ExpectedImprovement(models[0], 0.5, metric=score_metric),
        Feasibility(models[1], metric=score_metric),
    )
    here = Product(parts).evaluate(np.full((1, 2), 0.3))
    assert here.factors is None
    assert here.diagonal == pytest.approx(
        sum(0.4 * model.gradient_variance / model.variance for model in models)
    )


@pytest.mark.parametrize("effort", [Effort(pool=256), Effort()])
def test_a_restriction_is_obeyed_and_the_best_within_it_found(effort):
    zero = np.zeros(2)
    space = Space(zero, np.ones(2), zero, np.zeros(2, bool), np.zeros(2, bool))
    inner = ExpectedImprovement(draw(0), 0.5)
    axis = np.linspace(0, 1, 201)
    everything = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    def allowed(x):
        return x.sum(1) <= 0.9

    inside = everything[allowed(everything)]
    found = propose(
        Restricted(inner, allowed),
        space,
        inside[:2],
        np.random.default_rng(0),
        further=inside[:9],
        effort=effort,
    )
    assert found.x.sum() <= 0.9
    assert found.utility > inner.value(inside).max() - 0.1
