"""Expected improvement in the objective's units against quadrature and the plain closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fisherbo.acquisition.unwarped import unwarped_improvement
from fisherbo.gp.warp import standardize, unwarp, warp


@given(st.integers(0, 2**32 - 1), st.floats(-2, 3), st.floats(0.05, 2))
def test_is_the_integral_of_what_is_gained(seed, mean, sd):
    rng = np.random.default_rng(seed)
    y = np.exp(rng.normal(size=12) * 2) * rng.choice([-1, 1])
    warped = warp(y)
    best = float(rng.choice(warped))
    at = mean + sd * np.linspace(-12, 12, 200_001)
    gain = np.maximum(unwarp(at, y, warped) - unwarp(np.array([best]), y, warped), 0)
    expected = np.trapezoid(gain * norm.pdf(at, mean, sd), at)
    found = unwarped_improvement(mean, sd, best, y, warped)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9 * np.ptp(y))


def test_of_a_linear_warp_is_the_closed_form_in_units_of_the_objective():
    y = np.linspace(3.0, 10.0, 8)
    warped = standardize(y)
    mean, sd, best = 1.0, 0.7, float(warped[-1])
    z = (mean - best) / sd
    expected = y.std() * sd * (norm.pdf(z) + z * norm.cdf(z))
    assert unwarped_improvement(mean, sd, best, y, warped) == pytest.approx(expected)


def test_is_nothing_where_all_values_are_equal():
    assert unwarped_improvement(0.5, 1.0, 0.0, np.ones(4), np.zeros(4)) == 0.0
