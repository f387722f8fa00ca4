"""The Gauss–Newton curvature of log acquisitions, and ascents in it along a boundary."""

from itertools import product

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize

from fisherbo.acquisition.feasibility import Feasibility, Product
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.propose import CONSTRAINED, Effort, propose
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition
from fisherbo.space import Space

D = 3
NUMERIC = np.zeros(D, dtype=np.int64)


def draw(seed, noise=1e-3):
    rng = np.random.default_rng(seed)
    x = rng.random((12, D))
    return condition(x, rng.standard_normal(12), NUMERIC, Hyper(np.full(D, 0.6), 1.0, noise))


def second_derivative(log_of, z):
    with mpmath.workdps(40):
        return float(mpmath.diff(lambda u: mpmath.log(log_of(u)), mpmath.mpf(z), 2))


def slope_of(function, x, h=1e-5):
    """Central differences."""
    return np.array([function(x + e) - function(x - e) for e in h * np.eye(D)]) / (2 * h)


def cdf(u):
    return mpmath.erfc(-u / mpmath.sqrt(2)) / 2


@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_curvature_of_feasibility_is_that_of_the_margin(seed, shift):
    model = draw(seed)
    model = condition(model.x, model.y + shift, NUMERIC, model.hyper, constant=shift)
    point = np.random.default_rng(seed + 9).random(D)

    def margin(x):
        mean, sd = model.predict(x[None])
        return (mean / sd)[0]

    slope = slope_of(margin, point)
    weight = -second_derivative(cdf, margin(point))
    here = Feasibility(model, curved=True).evaluate(point[None])
    assert here.factors.shape == (1, D, 1)
    dense = (here.factors @ here.factors.mT)[0]
    assert dense == pytest.approx(weight * np.outer(slope, slope), rel=1e-3, abs=1e-6)
    plain = Feasibility(model).evaluate(point[None])
    assert (here.value, here.gradient.tolist()) == (plain.value, plain.gradient.tolist())


@pytest.mark.parametrize("best", [-1.0, 0.5, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_curvature_of_improvement_is_that_of_the_margin_and_the_deviation(best, noise):
    model, point = draw(4), np.array([0.2, 0.7, 0.4])

    def deviation(x):
        return np.hypot(model.predict(x[None])[1][0], np.sqrt(noise))

    def margin(x):
        return (model.mean(x[None])[0] - best) / deviation(x)

    slope = slope_of(margin, point)
    growth = slope_of(lambda x: np.log(deviation(x)), point)
    weight = -second_derivative(lambda u: mpmath.npdf(u) + u * cdf(u), margin(point))
    here = ExpectedImprovement(model, best, noise, curved=True).evaluate(point[None])
    dense = (here.factors @ here.factors.mT)[0]
    expected = weight * np.outer(slope, slope) + np.outer(growth, growth)
    assert dense == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("z", [-1e6, -40.0, 40.0])
def test_the_curvature_is_finite_far_from_the_boundary(z):
    model = condition(np.full((1, D), 0.5), np.array([z]), NUMERIC, Hyper(np.ones(D), 1.0, 1e-6))
    for acquisition in (
        Feasibility(model, curved=True),
        ExpectedImprovement(model, 0, curved=True),
    ):
        here = acquisition.evaluate(np.array([[0.5, 0.51, 0.5]]))
        assert np.isfinite(here.factors).all()
        assert (here.diagonal > 0).all()


def known_well(function, seed):
    """A model of a function on a fine set of points."""
    grid = np.array(list(product(np.linspace(0, 1, 6), repeat=D)))
    x = np.concatenate([grid, np.random.default_rng(seed).random((30, D))])
    return condition(x, function(x), NUMERIC, Hyper(np.ones(D), 1.0, 1e-6))


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_on_a_boundary_is_found(seed):
    """Against L-BFGS-B from many points around the best observation."""
    rng = np.random.default_rng(seed)
    objective = known_well(lambda x: x.sum(1), seed)
    sides = [
        known_well(lambda x, a=a: 1 - 1.2 * (x @ a), seed)
        for a in (rng.dirichlet(np.ones(D)) + 0.2 for _ in range(2))
    ]
    feasible = np.all([side.y >= 0 for side in sides], axis=0)
    best = objective.x[feasible][np.argmax(objective.y[feasible])]
    value = float(objective.y[feasible].max())

    def utility(curved):
        return Product(
            (
                ExpectedImprovement(objective, value, curved=curved),
                *(Feasibility(side, curved=curved) for side in sides),
            )
        )

    plain = utility(curved=False)

    def negative(x):
        here = plain.evaluate(x[None])
        return -here.value[0], -here.gradient[0]

    near = np.clip(best + rng.standard_normal((30, D)) * 10 ** rng.uniform(-4, -1, (30, 1)), 0, 1)
    reached = [
        -minimize(negative, x, jac=True, bounds=[(0, 1)] * D, method="L-BFGS-B").fun for x in near
    ]
    space = Space(*(np.zeros(D), np.ones(D), np.zeros(D)), *(np.zeros(D, bool),) * 2)
    found = propose(utility(curved=True), space, best[None], rng, effort=CONSTRAINED)
    assert found.utility >= max(reached) - 0.1
    coarse = propose(plain, space, best[None], np.random.default_rng(seed), effort=Effort())
    assert found.utility >= coarse.utility - 0.1
