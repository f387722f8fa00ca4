import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import halfnorm, kstest

from fisherbo.surrogate.warp import half_rank, standardize, warp

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40).map(np.array)


@given(values)
def test_order_is_kept(y):
    warped = half_rank(y)
    order = np.argsort(y, kind="stable")
    assert (np.diff(warped[order]) >= -1e-9 * (1 + np.abs(warped).max())).all()


@given(values)
def test_the_better_half_stays(y):
    above = y >= np.median(y)
    assert np.array_equal(half_rank(y)[above], y[above])


def test_one_catastrophe_moves_nothing_else():
    y = np.random.default_rng(0).standard_normal(40)
    bad = int(np.argmin(y))
    worse = y.copy()
    worse[bad] = -1e9
    assert half_rank(worse) == pytest.approx(half_rank(y))


def test_the_worse_half_of_a_normal_sample_stays_half_normal():
    y = np.random.default_rng(0).standard_normal(2000)
    warped = half_rank(y)
    below = np.median(y) - warped[y < np.median(y)]
    assert kstest(below, halfnorm(scale=1).cdf).statistic < 0.05


def test_infinite_huge_and_equal_values_are_harmless():
    warped = warp(np.array([-np.inf, -np.inf, 0.0, 1.0, 2.0, 1e300, np.inf]))
    assert np.isfinite(warped).all()
    assert warped[0] == warped[1] == warped[-1] == warped[2] < warped[5]  # a fault, of either sign
    assert np.array_equal(warp(np.full(4, -np.inf)), np.zeros(4))
    assert np.array_equal(warp(np.ones(5)), np.zeros(5))


def test_standardized_values_have_mean_zero_and_variance_one():
    y = standardize(np.random.default_rng(0).uniform(5, 9, 30))
    assert y.mean() == pytest.approx(0, abs=1e-12)
    assert y.std() == pytest.approx(1)
