"""The remaining regret against brute force: joint draws on a fine grid."""

import math

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from scipy.special import chdtr

from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.regret import CALIBRATED, GAUSSIAN, Scale, challengers, draws, largest
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition
from fisherbo.sampler.search_space import to_space


def posterior(d, n, seed, lengthscale=0.25):
    rng = np.random.default_rng(seed)
    x = rng.random((n, d))
    y = np.sin(7 * x).sum(1) + 0.3 * rng.standard_normal(n)
    hyper = Hyper(np.full(d, lengthscale), 1.0, 1e-4)
    return condition(x, y, np.zeros(d, dtype=np.int64), hyper)


def unit(d):
    return to_space({f"x{j}": FloatDistribution(0, 1) for j in range(d)})


def regrets(model, best, points, count, seed, scale=GAUSSIAN):
    joint = np.concatenate([best[None], points])
    f = draws(model, joint, count, np.random.default_rng(seed), scale)
    return np.maximum(largest(f[:, 1:], []) - f[:, 0], 0)


def test_the_covariance_is_that_of_the_textbook():
    model, rng = posterior(3, 8, 0), np.random.default_rng(1)
    points = rng.random((4, 3))
    n, everything = len(model.x), np.concatenate([model.x, points])
    prior = condition(everything, np.zeros(n + 4), model.choices, model.hyper)
    k = model.hyper.signal * prior.correlation_with(everything)[: n + 4]
    known = k[:n, :n] + np.diag(model.nugget)
    expected = k[n:, n:] - k[n:, :n] @ np.linalg.solve(known, k[:n, n:])
    assert model.covariance(points) == pytest.approx(expected, abs=1e-8)
    assert np.sqrt(np.diag(model.covariance(points))) == pytest.approx(model.predict(points)[1])


@pytest.mark.parametrize(("d", "n", "grid"), [(1, 5, 400), (2, 12, 34)])
@pytest.mark.parametrize("seed", range(4))
def test_the_regret_is_that_of_joint_draws_on_a_fine_grid(d, n, grid, seed):
    model = posterior(d, n, seed)
    mean = model.mean(model.x)
    best = model.x[int(np.argmax(mean))]
    line = np.linspace(0, 1, grid)
    every = np.stack(np.meshgrid(*[line] * d, indexing="ij"), -1).reshape(-1, d)
    brute = regrets(model, best, every, 4000, 1)
    improvement = ExpectedImprovement(model, float(mean.max()))
    points = challengers(improvement, unit(d), model.x[[0]], np.random.default_rng(2))
    found = regrets(model, best, points, 4000, 3)
    for q, tolerance in ((0.5, 0.08), (0.8, 0.05), (0.9, 0.04), (0.95, 0.03)):
        regret = np.quantile(brute, q)
        assert (found <= regret).mean() == pytest.approx(q, abs=tolerance)


def test_of_a_small_grid_all_points_are_taken():
    space = to_space({"a": IntDistribution(0, 9), "b": IntDistribution(1, 7)})
    points = challengers(None, space, np.zeros((1, 2)), np.random.default_rng(0))
    assert len({tuple(row) for row in points.tolist()}) == len(points) == 70


def test_points_that_are_not_allowed_are_not_taken():
    class Left:
        def value(self, x):
            return np.where(x[:, 0] < 0.5, -((x - 0.4) ** 2).sum(1), -np.inf)

    points = challengers(Left(), unit(2), np.full((1, 2), 0.6), np.random.default_rng(0))
    assert 50 < len(points)
    assert (points[:, 0] < 0.5).all()


def test_the_scale_has_the_distribution_of_its_name():
    assert (GAUSSIAN.strata(5) == 1).all()
    factors = Scale(1.5, 3.0).strata(2000)
    for bound in (0.8, 1.5, 4.0):
        expected = 1 - chdtr(3.0, 3.0 * (1.5 / bound) ** 2)
        assert (factors <= bound).mean() == pytest.approx(expected, abs=1e-3)


def test_draws_have_the_mean_covariance_and_scale_asked_for():
    model, points = posterior(2, 6, 3), np.random.default_rng(4).random((3, 2))
    f = draws(model, points, 100_000, np.random.default_rng(5), Scale(2.0, math.inf))
    assert f.mean(0) == pytest.approx(model.mean(points), abs=0.03)
    assert np.cov(f.T) == pytest.approx(4 * model.covariance(points), abs=0.08)


def test_a_wider_scale_never_promises_less_regret():
    model = posterior(2, 12, 0)
    best = model.x[int(np.argmax(model.mean(model.x)))]
    points = np.random.default_rng(6).random((60, 2))
    narrow = np.quantile(regrets(model, best, points, 4000, 7), [0.8, 0.9, 0.95])
    wide = np.quantile(regrets(model, best, points, 4000, 7, CALIBRATED), [0.8, 0.9, 0.95])
    assert (wide > narrow).all()


def test_only_feasible_points_count():
    f = np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [4.0, 3.0, 2.0]])
    c = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -0.1]])
    assert largest(f, [c]).tolist() == [2.0, 3.0, -math.inf]
