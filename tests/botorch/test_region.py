"""The trust-region ascent against SciPy, closed forms and the invariances of a natural gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fisherbo.botorch.region import begin, climb

TIGHT = {"tolerance": 1e-12, "max_steps": 300, "together": False}


def quadratic(seed, n):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    matrix, centre = root @ root.T + 0.1 * np.eye(n), rng.uniform(-0.5, 1.5, n)

    def slope(z):
        pull = (z - centre) @ matrix
        return -0.5 * ((z - centre) * pull).sum(1), -pull

    return slope


def free(n):
    return np.full(n, -np.inf), np.full(n, np.inf), np.ones(n, dtype=bool)


def rosenbrock(z):
    x, y = z.T
    value = -((1 - x) ** 2) - 100 * (y - x**2) ** 2
    by_x = 2 * (1 - x) + 400 * x * (y - x**2)
    return value, np.stack([by_x, -200 * (y - x**2)], 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_concave_quadratics_in_a_box_end_where_scipy_says(seed, n):
    slope = quadratic(seed, n)
    start = np.random.default_rng(seed).random((3, n))
    low, high = np.zeros(n), np.ones(n)
    found = climb(slope, begin(slope, start), low, high, np.ones(n, dtype=bool), **TIGHT)
    best = minimize(
        lambda z: (-slope(z[None])[0][0], -slope(z[None])[1][0]),
        start[0],
        jac=True,
        bounds=[(0, 1)] * n,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    assert ((found.z >= 0) & (found.z <= 1)).all()
    assert found.value == pytest.approx(np.full(3, -best.fun), abs=1e-6)


def test_a_curved_ridge_is_climbed():
    start = np.array([[-1.2, 1.0], [2.0, -1.0]])
    found = climb(rosenbrock, begin(rosenbrock, start), *free(2), **TIGHT)
    assert found.z == pytest.approx(np.ones((2, 2)), abs=1e-4)


def test_coordinates_that_may_not_move_stay():
    start = np.array([[0.2, 0.7]])
    movable = np.array([True, False])
    found = climb(rosenbrock, begin(rosenbrock, start), *free(2)[:2], movable, **TIGHT)
    assert found.z[0, 1] == 0.7
    assert found.z[0, 0] == pytest.approx(np.sqrt(0.7), abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_path_does_not_depend_on_the_units_of_the_utility(scale):
    def scaled(z):
        value, gradient = rosenbrock(z)
        return scale * value, scale * gradient

    start = np.array([[-1.2, 1.0]])
    ways = {"max_steps": 12, "together": False}
    a = climb(rosenbrock, begin(rosenbrock, start), *free(2), tolerance=0.0, **ways)
    b = climb(scaled, begin(scaled, start), *free(2), tolerance=0.0, **ways)
    assert b.z == pytest.approx(a.z, rel=1e-6)


def test_a_climb_that_goes_on_is_the_climb_without_a_pause():
    start = np.array([[-1.2, 1.0], [2.0, -1.0]])
    ways = {"tolerance": 0.0, "together": False}
    whole = climb(rosenbrock, begin(rosenbrock, start), *free(2), max_steps=20, **ways)
    half = climb(rosenbrock, begin(rosenbrock, start), *free(2), max_steps=9, **ways)
    rest = climb(rosenbrock, half, *free(2), max_steps=11, **ways)
    assert np.array_equal(whole.z, rest.z)


def test_values_never_fall_and_what_is_not_a_number_is_never_taken():
    def cliff(z):
        value, gradient = rosenbrock(z)
        return np.where(z[:, 0] > 0.5, np.nan, value), gradient

    here = begin(cliff, np.array([[-1.2, 1.0], [0.9, 0.9]]))
    assert here.value[1] == -np.inf
    for _ in range(30):
        there = climb(cliff, here, *free(2), tolerance=1e-12, max_steps=1, together=False)
        assert (there.value >= here.value).all()
        here = there
    assert np.isfinite(here.value[0])
    assert here.z[0, 0] <= 0.5
    assert here.value[0] > -0.5


def test_climbers_that_cannot_overtake_are_given_up():
    counts = []

    def counted(z):
        counts.append(len(z))
        return rosenbrock(z)

    start = np.array([[-1.2, 1.0], [-1.19, 1.0], [0.5, 0.5], [8.0, -8.0]])
    ways = {"tolerance": 1e-12, "max_steps": 200}
    alone = climb(counted, begin(counted, start), *free(2), together=False, **ways)
    every = sum(counts)
    counts.clear()
    found = climb(counted, begin(counted, start), *free(2), together=True, **ways)
    assert found.value.max() == pytest.approx(alone.value.max(), abs=1e-9)
    assert counts[0] == 4
    assert sum(counts) < 0.6 * every


def test_no_gradient_no_move():
    def flat(z):
        return np.zeros(len(z)), np.zeros_like(z)

    start = np.random.default_rng(0).random((3, 2))
    found = climb(flat, begin(flat, start), *free(2), tolerance=1e-9, max_steps=5)
    assert np.array_equal(found.z, start)
