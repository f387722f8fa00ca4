"""Natural-gradient ascent on functions whose maximum is known."""

import numpy as np
import pytest

from fisherbo.optimize.descent import LocalModel, natural_ascent

PEAK = np.array([0.3, 0.7])


def bump(x):
    """Log of a normal density: the score metric's home."""
    gradient = -(x - PEAK) / 0.05
    return LocalModel(0.5 * ((x - PEAK) * gradient).sum(1), gradient, np.full(2, 1.0))


def holed(x):
    """The same, −∞ right of a half."""
    e = bump(x)
    return LocalModel(np.where(x[:, 0] > 0.5, -np.inf, e.value), e.gradient, e.diagonal)


STARTS = np.random.default_rng(0).random((12, 2))
BOTH = np.array([True, True])


def test_every_start_climbs_to_the_peak():
    result = natural_ascent(bump, STARTS, BOTH, tolerance=1e-6)
    assert result.stopped == "converged"
    assert result.value.max() == pytest.approx(0, abs=1e-4)


def test_the_best_starts_alone_climb():
    evaluated = []

    def watched(x):
        evaluated.append(len(x))
        return bump(x)

    result = natural_ascent(watched, STARTS, BOTH, climbers=3)
    assert evaluated[0] == 12
    assert set(evaluated[1:]) == {3}
    assert len(result.x) == 3
    alone = natural_ascent(bump, STARTS[np.argsort(-bump(STARTS).value)[:3]], BOTH)
    assert np.array_equal(result.x, alone.x)


def test_starts_that_are_not_allowed_do_not_climb():
    result = natural_ascent(holed, STARTS, BOTH, climbers=11)
    assert len(result.x) == (STARTS[:, 0] <= 0.5).sum()
    assert np.isfinite(result.value).all()
    outside = STARTS[STARTS[:, 0] > 0.5]
    nothing = natural_ascent(holed, outside, BOTH, climbers=2)
    assert (nothing.value == -np.inf).all()
    assert nothing.steps == 0


def quadratic(hessian, peak, diagonal, factors):
    """``−½ (x − peak)ᵀ H (x − peak)``, and a metric of rank two that is the same everywhere."""

    def utility(x):
        gradient = -(x - peak) @ hessian
        value = 0.5 * np.vecdot(x - peak, gradient)
        return LocalModel(value, gradient, diagonal, np.tile(factors, (len(x), 1, 1)))

    return utility


def one_step(utility, start, movable, **settings):
    settings = {"max_steps": 1, "tolerance": 0.0, **settings}
    return natural_ascent(utility, start[None], np.array(movable), **settings).x[0]


def metric(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 2, 4), rng.standard_normal((4, 2))


@pytest.mark.parametrize("whole", [True, False])
def test_a_step_solves_the_dense_system_of_the_coordinates_that_are_not_held(whole):
    diagonal, factors = metric(0)
    beyond = np.array([0.4, 0.6, 1.7, 0.9])
    utility = quadratic(np.eye(4), beyond, diagonal, factors)
    start = np.array([0.5, 0.5, 1.0, 0.5])  # the third is at the bound that it is drawn beyond
    free, damping = [0, 1], 20.0
    part = damping * factors @ factors.T if whole else factors @ factors.T
    dense = (part + damping * np.diag(diagonal))[np.ix_(free, free)]
    expected = start.copy()
    expected[free] += np.linalg.solve(dense, utility(start[None]).gradient[0, free])
    found = one_step(utility, start, [True, True, True, False], damping=damping, whole=whole)
    assert found == pytest.approx(expected)


def test_steps_do_not_depend_on_the_order_and_units_of_the_coordinates():
    diagonal, factors = metric(1)
    peak, hessian = np.array([0.3, 0.6, 0.7, 0.2]), np.diag([1.0, 3.0, 0.1, 2.0])
    order, unit = [2, 0, 3, 1], np.array([0.9, 0.4, 1.0, 0.7])  # z = unit · x[order]
    across = np.ix_(order, order)
    primed = quadratic(
        hessian[across] / np.outer(unit, unit),
        unit * peak[order],
        diagonal[order] / unit**2,
        factors[order] / unit[:, None],
    )
    start, settings = np.full((3, 4), 0.45), {"max_steps": 4, "tolerance": 0.0}
    free = np.ones(4, dtype=bool)
    here = natural_ascent(quadratic(hessian, peak, diagonal, factors), start, free, **settings)
    there = natural_ascent(primed, unit * start[:, order], free, **settings)
    assert there.x == pytest.approx(unit * here.x[:, order])
    assert np.abs(here.x - start).min() > 1e-3


def test_the_metric_that_is_minus_the_hessian_reaches_the_peak_in_a_step():
    diagonal, factors = metric(2)
    peak = np.array([0.3, 0.6, 0.7, 0.2])
    start, free = np.full(4, 0.5), [True] * 4
    hessian = factors @ factors.T + np.diag(diagonal)
    utility = quadratic(hessian / 3, peak, diagonal, factors)
    assert one_step(utility, start, free, damping=1 / 3) == pytest.approx(peak)
    utility = quadratic(hessian, peak, 2 * diagonal, factors)
    assert one_step(utility, start, free, damping=0.5, whole=False) == pytest.approx(peak)
