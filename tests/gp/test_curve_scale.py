"""The scale of learning curves: monotone, invertible, finite."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherbo.gp.curve_scale import CurveScale

anything = st.floats(allow_nan=True, allow_infinity=True)
ends = st.lists(anything, min_size=1, max_size=9).map(np.array)


@given(ends=ends, y=ends)
def test_any_values_have_finite_places_in_their_order(ends, y):
    scale = CurveScale.of(ends, y)
    places = scale(np.sort(y))  # NaN last
    assert np.isfinite(places).all()
    known = np.isfinite(np.sort(y))
    assert (np.diff(places[known]) >= 0).all()
    assert np.isfinite(scale.values(places)).all()


@given(seed=st.integers(0, 99))
def test_ends_have_mean_0_and_variance_1_and_come_back(seed):
    rng = np.random.default_rng(seed)
    ends = rng.standard_normal(12) * 10.0 ** rng.integers(-3, 4) + rng.integers(-3, 4)
    scale = CurveScale.of(ends, np.empty(0))
    places = scale(ends)
    assert places.mean() == pytest.approx(0, abs=1e-9)
    assert places.std() == pytest.approx(1) or scale.spread == 0.3
    kept = places > places.min() + 1e-9  # the worst may be at the floor
    assert scale.values(places)[kept] == pytest.approx(ends[kept], rel=1e-6)


def test_the_floor_is_that_of_values_that_are_not_finite():
    scale = CurveScale.of(np.array([0.0, 0.1, 0.2, 0.5]), np.empty(0))
    worst = scale(np.array([-1e30, -np.inf, np.nan, np.inf]))
    assert (worst == worst[0]).all()
    assert worst[0] < scale(np.array([0.0]))[0]


def test_of_equal_ends_the_starts_give_the_width():
    assert CurveScale.of(np.array([-0.5]), np.array([-0.9])).width == pytest.approx(0.1)
    assert CurveScale.of(np.array([2.0]), np.array([2.0])).width == 1
    failed = CurveScale.of(np.array([-0.693, -0.6931, -0.6932]), np.array([-0.76, -0.75, -0.77]))
    assert np.ptp(failed(np.array([-0.693, -0.6932]))) < 0.1
