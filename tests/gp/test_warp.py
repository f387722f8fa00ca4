import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import halfnorm, kstest

from fisherbo.gp.warp import (
    finite,
    half_rank,
    interval_variance,
    standardize,
    warp,
    warped_noise,
)

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


@pytest.mark.parametrize("big", [1e6, 1e26, 1.7e308])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_values_of_another_order_leave_the_others_apart(big, share):
    """The others keep their proportions, and a visible part of the range, on either side."""
    rng = np.random.default_rng(0)
    good, bad = rng.random(20) * 5, int(20 * share / (1 - share))
    y = np.concatenate([good, -big * (0.5 + 0.5 * rng.random(bad))])
    best = np.sort(warp(y)[:20])[-10:]
    assert np.ptp(best) > 0.02  # of sd 1; 1e-3 are rounded away
    assert np.corrcoef(best, np.sort(good)[-10:])[0, 1] > 0.999
    outlier = warp(np.append(good, big))
    assert np.ptp(np.sort(outlier[:-1])[-10:]) > 0.1
    assert outlier[-1] == outlier.max()


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30).map(np.array))
def test_any_values_become_finite_ones_in_order(y):
    with np.errstate(all="raise", under="ignore"):
        warped = warp(y)
    assert np.isfinite(warped).all()
    order = np.argsort(finite(y), kind="stable")
    assert (np.diff(warped[order]) >= -1e-9).all()
    if len(np.unique(finite(y))) > 1:
        assert np.ptp(warped) > 0
        assert warped.std() == pytest.approx(1)


def test_without_excessive_gaps_the_better_half_is_linear():
    y = np.random.default_rng(0).standard_normal(40)
    top = y >= np.median(y)
    slope, offset = np.polyfit(y[top], warp(y)[top], 1)
    assert warp(y)[top] == pytest.approx(slope * y[top] + offset)


@pytest.mark.parametrize("offset", [1e14, -1e14, 1e9])
def test_an_offset_changes_nothing_but_what_it_rounds(offset):
    y = np.arange(12.0) ** 2  # exact in both
    assert warp(y + offset) == pytest.approx(warp(y))


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-12, 1e12, 1e300])
def test_a_unit_changes_nothing(scale):
    y = np.arange(12.0) ** 2
    assert warp(scale * y) == pytest.approx(warp(y), abs=1e-9)


def test_standardized_values_have_mean_zero_and_variance_one():
    y = standardize(np.random.default_rng(0).uniform(5, 9, 30))
    assert y.mean() == pytest.approx(0, abs=1e-12)
    assert y.std() == pytest.approx(1)


def test_variance_of_an_interval_is_by_the_slope_of_the_warp():
    y = np.random.default_rng(0).normal(size=40)
    warped = warp(y)
    best = np.argsort(y)[-5:-1]
    interval = np.full((40, 2), np.nan)
    interval[best] = y[best, None] + np.array([-1e-3, 1e-3])
    found = interval_variance(interval, y, warped)
    noise = np.where(np.isnan(interval[:, 0]), 0.0, 1e-6)
    np.testing.assert_allclose(found, warped_noise(noise, y, warped), rtol=1e-6)


def test_an_interval_continues_above_the_best_and_ends_at_the_worst():
    y = np.linspace(0, 1, 21)
    warped = warp(y)
    beyond = np.full((21, 2), np.nan)
    beyond[0], beyond[-1] = (-5.0, -1.0), (1.0, 1.5)
    found = interval_variance(beyond, y, warped)
    slope = (warped[-1] - warped[-2]) / 0.05
    assert found[0] == 0
    assert found[-1] == pytest.approx((0.25 * slope) ** 2)


def test_wider_intervals_have_larger_variances_whatever_the_values():
    rng = np.random.default_rng(1)
    y = np.concatenate([rng.normal(size=20), [-1e300, np.inf, -np.inf, 1e5]])
    middle = rng.normal(size=24)
    narrow, wide = (
        interval_variance(middle[:, None] + np.array([-s, s]), y, warp(y)) for s in (0.1, 1.0)
    )
    assert (wide >= narrow).all() and np.isfinite(wide).all() and (wide > 0).any()
