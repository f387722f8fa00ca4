"""Beliefs in the unit cube: SciPy's truncated distributions, sums to one, finite differences."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from fisherbo.acquisition.belief import (
    Belief,
    BeliefFactor,
    chance_of_optimum,
    credences,
)
from fisherbo.acquisition.feasibility import product
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.marginals import CategoryBelief, NumberBelief
from fisherbo.gp.model import conditioned, refit
from fisherbo.optimize.descent import natural_ascent
from fisherbo.prior import Beta, LogNormal, LogUniform, Normal, Uniform
from fisherbo.space import Condition, Space

CONTINUOUS = [
    NumberBelief(Normal(0.9, 0.05), 0.0, 0.95),
    NumberBelief(LogNormal(1e-3, 3), 1e-5, 1e-1, log=True),
    NumberBelief(LogNormal(2.0, 2), 0.0, 10.0),
    NumberBelief(Normal(3.0, 2.0), 0.5, 20.0, log=True),
    NumberBelief(Beta(9, 2), 0.0, 1.0),
    NumberBelief(Uniform(1.0, 3.0), 0.0, 10.0),
    NumberBelief(LogUniform(1e-3, 1e-2), 1e-5, 1e-1, log=True),
]
GRIDS = [
    NumberBelief(Normal(3.0, 1.2), 1, 9, 1.0),
    NumberBelief(LogNormal(64.0, 1.5), 16, 512, 16.0),
    NumberBelief(LogNormal(10.0, 3), 1, 100, 1.0, log=True),
    NumberBelief(Uniform(1.5, 4.5), 1, 9, 1.0),
]


def space_of(*marginals, conditions=()):
    """The space of some beliefs about numbers or categories."""
    rows = [
        (m.low, m.high, m.step, m.log, False)
        if isinstance(m, NumberBelief)
        else (0.0, len(m.shares) - 1.0, 1.0, False, True)
        for m in marginals
    ]
    low, high, step, log, categorical = (np.array(column) for column in zip(*rows, strict=True))
    return Space(low * 1.0, high * 1.0, step * 1.0, log, categorical, conditions)


def belief_of(*marginals, conditions=()):
    return Belief(space_of(*marginals, conditions=conditions), dict(enumerate(marginals)))


@pytest.mark.parametrize("marginal", CONTINUOUS, ids=lambda m: str(m.prior))
def test_a_continuous_ratio_is_a_density_of_the_coordinate(marginal):
    edges = [float(marginal.quantile(np.array(s))) for s in (1e-9, 0.25, 0.5, 0.75, 1 - 1e-9)]
    total = sum(
        integrate.quad(lambda x: np.exp(marginal.log_ratio(np.array([x]))[0]), a, b)[0]
        for a, b in pairwise(edges)
    )
    assert total == pytest.approx(1, abs=1e-6)
    share = np.linspace(0.05, 0.95, 7)
    x = marginal.quantile(share)
    density = np.exp(marginal.log_ratio(x))
    h = 1e-5
    by_quantile = 2 * h / (marginal.quantile(share + h) - marginal.quantile(share - h))
    np.testing.assert_allclose(density, by_quantile, rtol=1e-4)
    h = 1e-6
    differences = (marginal.log_ratio(x + h) - marginal.log_ratio(x - h)) / (2 * h)
    np.testing.assert_allclose(marginal.slope(x), differences, rtol=1e-4, atol=1e-4)


def test_cut_off_at_the_range_it_is_scipys_truncated_distribution():
    v = np.linspace(0.05, 0.94, 9)
    truncated = stats.truncnorm((0 - 0.9) / 0.05, (0.95 - 0.9) / 0.05, 0.9, 0.05)
    ratio = CONTINUOUS[0].log_ratio(v / 0.95)
    np.testing.assert_allclose(ratio, truncated.logpdf(v) + np.log(0.95), rtol=1e-10)
    x, width = np.linspace(0.01, 0.99, 9), np.log(1e4)
    ends = np.log([1e-2, 1e2]) / np.log(3)
    truncated = stats.truncnorm(*ends, np.log(1e-3), np.log(3))
    ratio = CONTINUOUS[1].log_ratio(x)
    np.testing.assert_allclose(ratio, truncated.logpdf(np.log(1e-5) + x * width) + np.log(width))


@pytest.mark.parametrize("marginal", GRIDS, ids=lambda m: str(m.prior))
def test_on_a_grid_the_ratio_is_to_the_samplers_uniform_draws(marginal):
    space = space_of(marginal)
    u = (np.arange(200_000) + 0.5)[:, None] / 200_000
    x = space.spread(u)
    assert np.exp(marginal.log_ratio(x[:, 0])).mean() == pytest.approx(1, abs=1e-3)
    drawn = belief_of(marginal).points(u)[:, 0]
    for value in np.unique(x):
        believed = np.exp(marginal.log_ratio(np.array([value])))[0] * np.mean(x == value)
        assert np.mean(drawn == value) == pytest.approx(believed, abs=1e-3)
    assert (marginal.slope(x[:5, 0]) == 0).all() and marginal.information == 0


def test_an_interval_on_a_grid_believes_in_its_values_alike():
    x = np.arange(9) / 8
    np.testing.assert_allclose(np.exp(GRIDS[3].log_ratio(x)), [0, 3, 3, 3, 0, 0, 0, 0, 0])


def test_categories_have_their_weights():
    marginal = CategoryBelief(np.array([0.7, 0.3, 0.0]))
    np.testing.assert_allclose(np.exp(marginal.log_ratio(np.array([0, 0.5, 1]))), [2.1, 0.9, 0])
    drawn = marginal.quantile((np.arange(1000) + 0.5) / 1000)
    assert [np.mean(drawn == x) for x in (0, 0.5, 1)] == [0.7, 0.3, 0.0]
    assert marginal.mode == 0 and not marginal.flat and CategoryBelief(np.full(3, 1 / 3)).flat


@pytest.mark.parametrize(
    ("marginal", "flat"),
    [
        (NumberBelief(Uniform(0, 10), 0, 10), True),
        (NumberBelief(Uniform(-5, 50), 0, 10), True),
        (NumberBelief(Uniform(0, 9.9), 0, 10), False),
        (NumberBelief(LogUniform(1e-5, 1), 1e-5, 1, log=True), True),
        (NumberBelief(LogUniform(0.5, 100.5), 1, 100, 1, log=True), True),
        (NumberBelief(Uniform(0.5, 9.5), 1, 9, 1), True),
        (NumberBelief(Normal(0.5, 1e30), 0, 1), True),
        (NumberBelief(Normal(0.5, 3), 0, 1), False),
        (NumberBelief(Beta(1, 1), 0, 1), True),
    ],
)
def test_a_belief_that_says_nothing_is_recognised(marginal, flat):
    assert marginal.flat is flat


def test_the_information_of_a_normal_belief_is_its_precision():
    narrow = NumberBelief(Normal(5.0, 0.4), 0.0, 10.0)  # .04 of the range
    assert narrow.information == pytest.approx(1 / 0.04**2, rel=0.03)
    logarithmic = NumberBelief(LogNormal(1e-3, 3), 1e-5, 1e-1, log=True)
    sd = np.log(3) / np.log(1e4)
    assert logarithmic.information == pytest.approx(1 / sd**2, rel=0.03)


def mixed():
    """A belief about two numbers, of which one exists with the first of two categories only."""
    marginals = (CONTINUOUS[1], CONTINUOUS[0], CategoryBelief(np.array([0.7, 0.3])))
    only_first = Condition(1, 2, np.array([0.0, 1.0]), np.array([True, False]))
    return belief_of(*marginals, conditions=(only_first,))


def test_the_factors_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    belief = mixed()
    factor = BeliefFactor(belief, np.array([0.8, 0.3, 0.6]), 0.7)
    x = belief.points(rng.random((20, 3)))
    at = factor.evaluate(x)
    np.testing.assert_allclose(at.value, factor.value(x))
    for j in (0, 1):
        e = 1e-6 * np.eye(3)[j]
        up, down = np.clip(x + e, 0, 1), np.clip(x - e, 0, 1)
        differences = (factor.value(up) - factor.value(down)) / (up - down).sum(1)
        np.testing.assert_allclose(at.gradient[:, j], differences, rtol=1e-4, atol=1e-4)
    assert (at.gradient[:, 2] == 0).all()


def test_a_parameter_that_does_not_exist_adds_nothing():
    belief = mixed()
    x = belief.space.snap(np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0]]))
    ratios = belief.log_ratios(x)
    assert ratios[0, 1] < -30 and ratios[1, 1] == 0
    assert belief.slopes(x)[1, 1] == 0


def test_the_factor_is_bounded_by_what_is_not_believed():
    belief, credence = mixed(), np.array([0.8, 0.3, 0.6])
    x = belief.space.spread(np.random.default_rng(1).random((500, 3)))
    least = 0.5 * np.log(1 - credence).sum()
    assert (BeliefFactor(belief, credence, 0.5).value(x) >= least - 1e-12).all()
    ignored = BeliefFactor(belief, np.zeros(3), 0.5)
    assert (ignored.value(x) == 0).all() and (ignored.evaluate(x).gradient == 0).all()


def test_credence_is_bayes_rule():
    belief = belief_of(CONTINUOUS[4], CategoryBelief(np.array([0.7, 0.3])))
    points = belief.space.snap(np.array([[0.9, 0.0], [0.2, 1.0]]))
    ratio = np.array([stats.beta(9, 2).pdf([0.9, 0.2]), [1.4, 0.6]])
    expected = (0.75 * ratio / (0.75 * ratio + 0.25)) @ [0.4, 0.6]
    np.testing.assert_allclose(credences(belief, points, np.array([0.4, 0.6]), 0.25), expected)
    sure = credences(belief_of(NumberBelief(Normal(0.5, 1e-30), 0, 1)), np.array([[0.5]]),
                     np.ones(1), 1e-9)  # fmt: skip
    assert sure[0] < 1


def posterior(seed=0, d=2):
    rng = np.random.default_rng(seed)
    space = Space(*(np.array([v] * d) for v in (0.0, 1.0, 0.0, False, False)))
    x = rng.random((12, d))
    y = -((x - 0.6) ** 2).sum(1) * 5
    return conditioned(x, y, space, refit(x, y, space, None), None)[0], space


def test_the_chance_of_being_the_optimum_is_that_of_joint_draws():
    model, _ = posterior()
    points = np.random.default_rng(3).random((6, 2))
    allowed = np.array([True] * 5 + [False])
    found = chance_of_optimum([model], points, allowed, np.random.default_rng(0))
    normal = stats.multivariate_normal(model.mean(points[:5]), model.covariance(points[:5]),
                                       allow_singular=True, seed=0)  # fmt: skip
    exact = np.bincount(normal.rvs(40_000).argmax(1), minlength=5) / 40_000
    assert found.sum() == pytest.approx(1) and found[5] == 0
    assert np.abs(found[:5] - exact).max() < 4 * np.sqrt(0.25 / 128)
    assert chance_of_optimum([model], points, np.zeros(6, bool), np.random.default_rng(0)) is None


def test_with_two_objectives_the_front_shares_the_chance():
    model, _ = posterior()
    opposed = posterior(1)[0]
    points = np.random.default_rng(3).random((40, 2))
    found = chance_of_optimum([model, opposed], points, np.ones(40, bool), np.random.default_rng(0))
    assert found.sum() == pytest.approx(1)
    assert (found > 0).sum() > 1


def test_a_model_without_a_covariance_is_drawn_from_its_marginals():
    model, _ = posterior()

    class Marginals:
        def predict(self, points):
            return model.predict(points)

    points = np.random.default_rng(3).random((6, 2))
    found = chance_of_optimum([Marginals()], points, np.ones(6, bool), np.random.default_rng(0))
    assert found.sum() == pytest.approx(1)


def test_the_ascent_of_a_product_reaches_its_maximum():
    model, space = posterior()
    marginals = {j: NumberBelief(Normal(0.3, 0.15), 0.0, 1.0) for j in (0, 1)}
    factor = BeliefFactor(Belief(space, marginals), np.array([0.9, 0.5]), 0.8)
    both = product((ExpectedImprovement(model, float(model.y.max()), 0.0), factor))
    starts = np.random.default_rng(0).random((8, 2))
    found = natural_ascent(both.evaluate, starts, np.ones(2, bool))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 201)] * 2), -1).reshape(-1, 2)
    assert found.value.max() > both.value(grid).max() - 0.02
    at = both.evaluate(starts)
    metric = at.factors @ at.factors.mT + at.diagonal[..., None] * np.eye(2)
    assert (np.linalg.eigvalsh(metric) > 0).all()
