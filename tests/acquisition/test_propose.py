import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from fisherbo.acquisition.feasibility import Restricted
from fisherbo.acquisition.log_ei import ExpectedImprovement, log_expected_improvement
from fisherbo.acquisition.propose import propose
from fisherbo.gp.fisher import posterior_metric, score_metric
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition
from fisherbo.optimize.descent import natural_ascent
from fisherbo.space import Space


def cube(*levels):
    """Coordinates with so many levels, 0: continuous, negative: choices of a categorical one."""
    count = np.abs(np.array(levels, dtype=float))
    return Space(
        np.zeros(len(levels)),
        np.where(count > 0, count - 1, 1.0),
        (count > 0).astype(float),
        np.zeros(len(levels), dtype=bool),
        np.array([n < 0 for n in levels]),
    )


def surrogate(space, seed, n=20):
    rng = np.random.default_rng(seed)
    x = space.spread(rng.random((n, space.dimension)))
    y = np.sin(6 * x).sum(1) + x @ rng.standard_normal(space.dimension)
    y = (y - y.mean()) / y.std()
    hyper = Hyper(rng.uniform(0.3, 1.0, space.dimension), 1.0, 1e-3)
    return condition(x, y, space.choices, hyper), float(y.max()), x[np.argsort(-y)[:4]]


def log_ei(posterior, best, x):
    return log_expected_improvement(*posterior.predict(x), best)[0]


@pytest.mark.parametrize("metric", [score_metric, posterior_metric])
@pytest.mark.parametrize("seed", range(5))
def test_proposal_is_as_good_as_many_lbfgs_starts(seed, metric):
    space = cube(0, 0, 0)
    posterior, best, anchors = surrogate(space, seed)
    acquisition = ExpectedImprovement(posterior, best, metric=metric)
    found = propose(acquisition, space, anchors, np.random.default_rng(seed))
    starts = np.random.default_rng(1).random((40, 3))
    reached = max(
        -minimize(
            lambda x: -log_ei(posterior, best, x[None])[0],
            start,
            method="L-BFGS-B",
            bounds=[(0, 1)] * 3,
        ).fun
        for start in starts
    )
    assert found.utility > reached - 0.02
    assert log_ei(posterior, best, found.x[None])[0] == pytest.approx(found.utility)


@pytest.mark.parametrize("levels", [(-3, 5, -4), (12, 12, 12), (-6, -6, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_discrete_proposal_is_the_best_of_all_points(levels, seed):
    space = cube(*levels)
    posterior, best, anchors = surrogate(space, seed)
    axes = [np.arange(abs(k)) / (abs(k) - 1) for k in levels]
    everything = np.array(list(itertools.product(*axes)))
    found = propose(
        ExpectedImprovement(posterior, best), space, anchors, np.random.default_rng(seed)
    )
    assert found.utility == pytest.approx(log_ei(posterior, best, everything).max(), abs=1e-9)


def test_mixed_proposal_is_as_good_as_a_fine_grid():
    space = cube(0, -4, 6)
    posterior, best, anchors = surrogate(space, 0)
    axes = [np.linspace(0, 1, 401), np.arange(4) / 3, np.arange(6) / 5]
    everything = np.array(list(itertools.product(*axes)))
    found = propose(ExpectedImprovement(posterior, best), space, anchors, np.random.default_rng(0))
    assert found.utility > log_ei(posterior, best, everything).max() - 0.02
    assert np.array_equal(space.snap(found.x), found.x)


def test_visited_grid_points_are_passed_over_until_none_is_left():
    space = cube(-2, 3)
    posterior, best, anchors = surrogate(space, 0, n=4)
    everything = np.array(list(itertools.product([0, 1], [0, 0.5, 1])), dtype=float)
    rng = np.random.default_rng(0)
    for left in everything:
        others = everything[(everything != left).any(1)]
        assert np.array_equal(
            propose(ExpectedImprovement(posterior, best), space, anchors, rng, visited=others).x,
            left,
        )
    propose(ExpectedImprovement(posterior, best), space, anchors, rng, visited=everything)


def test_ascent_climbs_stays_in_the_cube_and_moves_only_what_may_move():
    space = cube(0, 0, 0)
    posterior, best, _ = surrogate(space, 1)
    start = np.random.default_rng(0).random((8, 3))
    movable = np.array([True, False, True])
    utility = ExpectedImprovement(posterior, best).evaluate
    result = natural_ascent(utility, start, movable, tolerance=1e-9, max_steps=200)
    assert (result.value >= utility(start).value).all()
    assert ((result.x >= 0) & (result.x <= 1)).all()
    assert np.array_equal(result.x[:, 1], start[:, 1])
    assert result.stopped == "converged"
    leader = int(np.argmax(result.value))
    gradient = utility(result.x[leader][None]).gradient[0] * movable
    inward = gradient * np.where(
        result.x[leader] <= 0, 1, np.where(result.x[leader] >= 1, -1, np.nan)
    )
    assert all(g <= 1e-3 for g in np.where(np.isnan(inward), np.abs(gradient), inward))


@pytest.mark.parametrize("metric", [score_metric, posterior_metric])
def test_ascent_does_not_depend_on_the_units_of_the_coordinates(metric):
    """Natural steps in x and in x' = x/2 visit the same points while no bound interferes."""
    posterior, best, _ = surrogate(cube(0, 0, 0), 2)
    hyper = posterior.hyper
    halved = condition(
        posterior.x / 2,
        posterior.y,
        posterior.choices,
        Hyper(hyper.lengthscale / 2, 1.0, hyper.noise),
    )
    start = np.full((1, 3), 0.5)
    free = np.ones(3, dtype=bool)
    settings = {"max_steps": 2, "damping": 300.0, "tolerance": 0.0}
    here, there = (ExpectedImprovement(p, best, metric=metric) for p in (posterior, halved))
    one = natural_ascent(here.evaluate, start, free, **settings)
    two = natural_ascent(there.evaluate, start / 2, free, **settings)
    assert 2 * two.x == pytest.approx(one.x)
    assert ((one.x > 0) & (one.x < 1)).all()
    assert one.x != pytest.approx(start)


def test_a_mixed_search_that_leaves_the_allowed_points_keeps_those_it_began_with():
    space = cube(0, 3)
    posterior, best, anchors = surrogate(space, 0)
    allowed = np.array([[0.123456, 0.5]])  # no other point, so that no search finds one
    only = Restricted(ExpectedImprovement(posterior, best), lambda x: (x == allowed).all(1))
    found = propose(only, space, anchors, np.random.default_rng(0), further=allowed)
    assert found.x.tolist() == allowed[0].tolist()
    assert found.utility == pytest.approx(log_ei(posterior, best, allowed)[0])
