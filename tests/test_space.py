import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherbo.space import RowIndex, Space, distinct


def space(low, high, step=0.0, log=False, categorical=False):
    return Space(
        np.array([float(low)]),
        np.array([float(high)]),
        np.array([float(step)]),
        np.array([log]),
        np.array([categorical]),
    )


@given(st.floats(0, 1))
def test_continuous_values_return_from_the_cube(u):
    for s in (space(-3, 5), space(1e-7, 10, log=True)):
        values = s.from_unit(np.array([u]))
        assert s.low[0] <= values[0] <= s.high[0]
        assert s.to_unit(values)[0] == pytest.approx(u, abs=1e-12)


@pytest.mark.parametrize(
    "s, expected",
    [
        (space(-2, 2, 1), range(-2, 3)),
        (space(0, 9, 3), (0, 3, 6, 9)),
        (space(1, 6, 1, log=True), range(1, 7)),
        (space(0, 3, 1, categorical=True), range(4)),
        (space(-10.2, -9.9, 0.1), (-10.2, -10.1, -10.0, -9.9)),
    ],
)
def test_every_grid_value_is_reached_and_no_other(s, expected):
    u = np.linspace(0, 1, 2001)[:-1, None]
    reached = np.unique(s.from_unit(s.spread(u)).round(9))
    assert reached == pytest.approx(np.array(expected, dtype=float))
    assert s.levels[0] == len(expected)


def test_linear_grid_values_are_equally_likely():
    s = space(0, 3, 1)
    u = (np.arange(4000)[:, None] + 0.5) / 4000
    _, counts = np.unique(s.from_unit(s.spread(u)), return_counts=True)
    assert counts.tolist() == [1000] * 4


@given(st.floats(-0.5, 1.5))
def test_snap_is_a_projection_onto_grid_points(u):
    s = space(1, 40, 1, log=True)
    once = s.snap(np.array([u]))
    assert np.array_equal(s.snap(once), once)
    assert s.from_unit(once)[0] == round(s.from_unit(once)[0])


def test_values_outside_the_box_keep_their_coordinates():
    assert space(0, 10).to_unit(np.array([20.0]))[0] == 2.0


def test_a_continuous_parameter_has_infinitely_many_levels():
    assert space(0, 4, 1).levels[0] == 5
    assert space(0, 4).levels[0] == math.inf


def test_huge_integer_ranges_take_constant_memory():
    s = space(0, 10**12, 1)
    assert s.levels[0] == 10**12 + 1
    assert s.from_unit(np.array([1.0]))[0] == 10**12


def test_rows_are_equal_where_all_their_coordinates_are():
    """Whatever a weighted sum of them says: two rows on one level of any sum are two."""
    weights = np.random.default_rng(0).random(2)
    x = np.array([[0.3, 0.4], [0.3 + 1e-3, 0.4 - 1e-3 * weights[0] / weights[1]], [0.3, 0.4]])
    first, group = distinct(x)
    assert first.tolist() == [0, 1] and group.tolist() == [0, 1, 0]
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (200, 4)) / 2
    first, group = distinct(x)
    assert np.array_equal(x[first][group], x)
    assert len(first) == len(np.unique(x, axis=0))
    assert (np.diff(first) > 0).all()


@given(st.integers(0, 999), st.integers(0, 12), st.integers(1, 12), st.integers(1, 3))
def test_rows_are_found_as_by_comparing_all(seed, count, sought, d):
    rng = np.random.default_rng(seed)
    x, rows = (rng.integers(0, 3, (n, d)) / 3 for n in (count, sought))
    expected = [i for i in range(count) if any((x[i] == row).all() for row in rows)]
    assert sorted(set(RowIndex(x).equal_to(rows).tolist())) == expected
