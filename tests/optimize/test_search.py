import numpy as np
import pytest
from scipy.special import logsumexp

from fisherbo.optimize.search import (
    SearchDistribution,
    around,
    natural_search,
    natural_update,
    neighbours,
    sample,
)
from fisherbo.space import Space


def mixed():
    """One continuous, one integer 0..9, one categorical coordinate of four choices."""
    return Space(
        np.zeros(3),
        np.array([1.0, 9.0, 3.0]),
        np.array([0.0, 1.0, 1.0]),
        np.zeros(3, dtype=bool),
        np.array([False, False, True]),
    )


def test_samples_lie_on_the_grid():
    space = mixed()
    points = sample(space, around(space, np.full((2, 3), 1 / 3)), 500, np.random.default_rng(0))
    flat = points.reshape(-1, 3)
    assert np.array_equal(space.snap(flat), flat)
    assert len(np.unique(flat[:, 2])) == 4


def test_choices_are_drawn_with_their_probabilities():
    space = mixed()
    pi = around(space, np.array([[0.5, 0.5, 1.0]]))
    points = sample(space, pi, 20_000, np.random.default_rng(0))[0]
    share = [(np.isclose(points[:, 2], k / 3)).mean() for k in range(4)]
    assert share == pytest.approx(pi.probability[0, 0], abs=0.015)


def test_update_is_the_natural_gradient_of_the_log_density():
    """F⁻¹ Σ w ∇log π by finite differences of the density, for one normal and one choice."""
    space = mixed()
    rng = np.random.default_rng(0)
    pi = around(space, np.array([[0.4, 0.5, 1 / 3]]))
    points = sample(space, pi, 12, rng)
    values = rng.standard_normal((1, 12))
    rate = 1e-4
    moved = natural_update(space, pi, points, values, rate)
    weight = np.zeros(12)
    top = np.argsort(-values[0])[:3]
    weight[top] = np.log(3.5) - np.log([1, 2, 3])
    weight /= weight.sum()

    mean, sd, eps = pi.mean[0, 0], pi.sd[0, 0], 1e-6
    x = points[0, :, 0]

    def log_normal(m, log_sd):
        return -0.5 * ((x - m) / np.exp(log_sd)) ** 2 - log_sd

    score_mean = (log_normal(mean + eps, np.log(sd)) - log_normal(mean - eps, np.log(sd))) / (
        2 * eps
    )
    score_sd = (log_normal(mean, np.log(sd) + eps) - log_normal(mean, np.log(sd) - eps)) / (2 * eps)
    natural_mean = sd**2 * (weight @ score_mean)  # Fisher information of the mean: 1/sd²
    natural_sd = 0.5 * (weight @ score_sd)  # Fisher information of log sd: 2
    assert moved.mean[0, 0] - mean == pytest.approx(natural_mean, rel=1e-6)
    assert np.log(moved.sd[0, 0] / sd) / rate == pytest.approx(np.clip(natural_sd, -1, 1), rel=1e-6)

    p = pi.probability[0, 0]
    eta = np.log(p)
    choice = np.rint(points[0, :, 2] * 3).astype(int)
    euclidean = weight @ (np.eye(4)[choice] - np.exp(eta - logsumexp(eta)))
    fisher = np.diag(p) - np.outer(p, p)
    natural_eta = np.linalg.pinv(fisher) @ euclidean
    expected = fisher @ natural_eta  # the same step in p: dp = (∂p/∂η) dη
    uniform = 0.25
    without_floor = (moved.probability[0, 0] - 0.05 * uniform) / 0.95
    assert (without_floor - p) / rate == pytest.approx(expected, abs=1e-6)


def test_search_finds_an_interaction_that_coordinate_moves_miss():
    """The optimum differs from the start in both discrete coordinates at once."""
    space = mixed()

    def score(x):
        level, choice = np.rint(x[:, 1] * 9), np.rint(x[:, 2] * 3)
        return (
            np.where((level == 4) & (choice == 2), 1.0, -((level - 2) ** 2) - choice)
            - (x[:, 0] - 0.3) ** 2
        )

    start = np.array([[0.5, 2 / 9, 0.0]])
    near = neighbours(space, start, np.random.default_rng(0))
    assert score(near).max() < score(start)[0] + 1e-9
    x, value = natural_search(
        space, score, np.repeat(start, 8, 0), generations=12, count=32, rng=np.random.default_rng(0)
    )
    assert value.max() > 0.9
    assert np.array_equal(score(x), value)


def test_neighbours_differ_in_one_discrete_coordinate():
    space = mixed()
    x = np.array([0.37, 0.0, 2 / 3])
    near = neighbours(space, x[None], np.random.default_rng(0))
    assert ((np.abs(near - x) > 1e-12).sum(1) == 1).all()
    assert (near[:, 0] == x[0]).all()
    assert len(near) == 1 + 3  # one level above the lowest, three other choices


def test_distributions_are_records_that_the_update_leaves_alone():
    space = mixed()
    pi = around(space, np.full((1, 3), 1 / 3))
    before = [part.copy() for part in (pi.mean, pi.sd, pi.probability)]
    points = sample(space, pi, 8, np.random.default_rng(0))
    assert isinstance(natural_update(space, pi, points, np.zeros((1, 8))), SearchDistribution)
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (pi.mean, pi.sd, pi.probability), strict=True)
    )
