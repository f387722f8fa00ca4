"""The optimum under constraints against linear and nonlinear programming of the true functions."""

import warnings

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from fisherbo.acquisition.constrained_optimum import constrained_optimum
from fisherbo.space import Space


def cube(d, levels=()):
    """Continuous coordinates after some with so many levels."""
    step = np.array([1 / (n - 1) for n in levels] + [0.0] * (d - len(levels)))
    flags = np.zeros(d, dtype=bool)
    return Space(np.zeros(d), np.ones(d), step, flags, flags)


def points(d, n, seed=0, levels=()):
    return cube(d, levels).snap(np.random.default_rng(seed).random((n, d)))


def linear(d, m, seed):
    """A bounded programme: a cost, and half-spaces that hold at a tenth of every axis."""
    rng = np.random.default_rng(seed)
    normal = rng.random((m, d)) + 0.1
    return -rng.random(d) - 0.1, normal, normal @ np.full(d, 0.1 + 0.4 * rng.random())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("d", "m", "n"), [(2, 2, 10), (5, 3, 20), (10, 9, 40)])
def test_the_vertex_of_a_linear_programme_is_found(seed, d, m, n):
    cost, normal, bound = linear(d, m, seed)
    x = np.concatenate([points(d, n, seed), np.full((1, d), 0.05)])
    found = constrained_optimum(x, -x @ cost, x @ normal.T - bound, cube(d))
    best = linprog(cost, normal, bound, bounds=[(0, 1)] * d)
    assert found @ cost == pytest.approx(best.fun, abs=1e-5)
    assert (normal @ found <= bound).all()


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_vertex_does_not_depend_on_units(unit):
    cost, normal, bound = linear(4, 3, 0)
    x = np.concatenate([points(4, 20), np.full((1, 4), 0.05)])
    told = (x @ normal.T - bound) * [unit, 1 / unit, 1.0]
    found = constrained_optimum(x, -unit * (x @ cost), told, cube(4))
    assert found @ cost == pytest.approx(linprog(cost, normal, bound).fun, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_rotated_ellipsoid_on_a_plane_is_solved_as_by_nonlinear_programming(seed):
    rng, d = np.random.default_rng(seed), 4
    q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    hessian = q @ np.diag(np.geomspace(1, 1e3, d)) @ q.T
    top, normal = np.full(d, 0.7), rng.random(d) + 0.1
    bound = 0.4 * normal.sum()

    def loss(u):
        return (u - top) @ hessian @ (u - top)

    x = np.concatenate([points(d, 40, seed), np.full((1, d), 0.2)])
    y = -np.array([loss(u) for u in x])
    found = constrained_optimum(x, y, (x @ normal - bound)[:, None], cube(d))
    held = {"type": "ineq", "fun": lambda u: bound - normal @ u}
    best = minimize(loss, np.full(d, 0.2), bounds=[(0, 1)] * d, constraints=held, method="SLSQP")
    assert loss(found) == pytest.approx(best.fun, rel=1e-3, abs=1e-4)
    assert normal @ found <= bound


def test_repeated_steps_converge_on_curved_constraints():
    """Each point is added to the data, as a search does: to the tangent point of two spheres."""
    d = 3

    def told(x):
        return np.stack([(x**2).sum(1) ** 1.5 - 0.5, np.sin(3 * x[:, 0]) - 0.9], 1)

    def loss(x):
        return -x @ np.array([1.0, 2.0, 3.0])

    best = minimize(
        lambda u: loss(u[None])[0],
        np.full(d, 0.2),
        bounds=[(0, 1)] * d,
        constraints={"type": "ineq", "fun": lambda u: -told(u[None])[0]},
        method="SLSQP",
        options={"ftol": 1e-12},
    ).fun
    x = np.concatenate([points(d, 15), np.full((1, d), 0.1)])
    for _ in range(16):
        found = constrained_optimum(x, -loss(x), told(x), cube(d))
        x = x if found is None else np.concatenate([x, found[None]])
    feasible = (told(x) <= 0).all(1)
    assert loss(x[feasible]).min() == pytest.approx(best, abs=1e-6)


def test_a_feasible_point_is_found_where_none_is_known():
    d = 5
    normal = np.eye(d)[:3] + 0.2
    x = points(d, 40) * 0.5
    told = 1.0 - x @ normal.T
    assert not (told <= 0).all(1).any()
    found = constrained_optimum(x, -x.sum(1), told, cube(d))
    assert (1.0 - normal @ found <= 0).all()
    best = linprog(np.ones(d), -normal, -np.ones(3), bounds=[(0, 1)] * d)
    assert found.sum() == pytest.approx(best.fun, abs=1e-4)


def test_where_nothing_is_feasible_less_is_missing():
    x = points(3, 30)
    told = np.stack([0.01 + ((x - 0.4) ** 2).sum(1), 0.1 - x[:, 0]], 1)
    found = constrained_optimum(x, -x.sum(1), told, cube(3))
    assert found == pytest.approx([0.4, 0.4, 0.4], abs=0.05)


def test_integers_are_those_that_the_optimum_among_real_numbers_rounds_to():
    levels, d = (6, 4), 4
    space, start = cube(d, levels), np.array([0.0, 0.0, 0.1, 0.1])
    x = np.concatenate([points(d, 40, levels=levels), start[None]])
    cost, normal, bound = np.array([-1.0, -2.0, -3.0, -1.0]), np.array([2.0, 1.0, 1.0, 1.0]), 1.9
    y, told = -x @ cost, (x @ normal - bound)[:, None]

    def best(whole):
        bounds = [(w, w) for w in whole] + [(0, 1)] * (d - len(whole))
        return linprog(cost, normal[None], bound, bounds=bounds)

    real = best([])
    rounded, centre = space.snap(real.x.copy())[:2], x[np.where(told[:, 0] <= 0, y, -9).argmax()]
    expected = min(best(rounded).fun, best(centre[:2]).fun)
    assert best(rounded).fun < best(centre[:2]).fun - 0.01
    found = constrained_optimum(x, y, told, space)
    assert space.snap(found.copy()) == pytest.approx(found, abs=1e-12)
    assert found @ cost == pytest.approx(expected, abs=1e-4)


def test_nothing_is_told_where_the_optimum_is_known():
    cost, normal, bound = linear(3, 2, 1)
    x = np.concatenate([points(3, 20), np.full((1, 3), 0.05)])
    for _ in range(4):
        found = constrained_optimum(x, -x @ cost, x @ normal.T - bound, cube(3))
        x = x if found is None else np.concatenate([x, found[None]])
    assert found is None


@pytest.mark.parametrize("case", ["few", "one line", "equal values", "huge", "whole", "broken"])
def test_degenerate_data_have_no_optimum_or_one_in_the_cube(case):
    space, x = cube(3), points(3, 30)
    y, told = -x.sum(1), (0.5 - x[:, :1]) * np.ones((1, 2))
    if case == "few":
        x, y, told = x[:4], y[:4], told[:4]
    if case == "one line":
        x = np.repeat(x[:, :1], 3, 1)
    if case == "equal values":
        y = np.zeros(30)
    if case == "huge":
        y, told = 1e308 * (y / 3), 1e308 * told
    if case == "whole":
        space = cube(3, (5, 5, 5))
        x = space.snap(x)
    if case == "broken":
        told = np.ones((30, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = constrained_optimum(x, y, told, space)
    if case in ("few", "one line", "equal values", "whole"):
        assert found is None
    else:
        assert found is not None
        assert ((found >= 0) & (found <= 1)).all()
