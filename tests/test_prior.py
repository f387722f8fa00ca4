"""Beliefs about one parameter: SciPy's distributions, finite differences, clear errors."""

import numpy as np
import pytest
from scipy import stats

import fisherbo
from fisherbo import prior
from fisherbo.errors import InvalidInputError

ORACLES = [
    (prior.Normal(0.9, 0.05), stats.norm(0.9, 0.05)),
    (prior.LogNormal(1e-3, 3), stats.lognorm(np.log(3), scale=1e-3)),
    (prior.Uniform(-2, 4), stats.uniform(-2, 6)),
    (prior.LogUniform(1e-4, 1e-1), stats.loguniform(1e-4, 1e-1)),
    (prior.Beta(9, 2), stats.beta(9, 2)),
    (prior.Beta(1, 3), stats.beta(1, 3)),
]
SHARES = np.array([0.001, 0.1, 0.3, 0.5, 0.77, 0.999])


@pytest.mark.parametrize(("ours", "scipys"), ORACLES, ids=lambda x: str(x)[:12])
def test_they_are_scipys_distributions(ours, scipys):
    v = scipys.ppf(SHARES)
    np.testing.assert_allclose(ours.quantile(SHARES), v, rtol=1e-10)
    np.testing.assert_allclose(ours.cdf(v), SHARES, rtol=1e-10)
    np.testing.assert_allclose(ours.log_density(v), scipys.logpdf(v), rtol=1e-10)
    h = 1e-6 * v
    slope = (scipys.logpdf(v + h) - scipys.logpdf(v - h)) / (2 * h)
    np.testing.assert_allclose(ours.slope(v), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ours", [ours for ours, _ in ORACLES[1:]], ids=str)
def test_there_is_no_density_outside(ours):
    outside = np.array([-3.0, -2.5])
    assert (ours.log_density(outside) == -np.inf).all()
    assert (ours.cdf(outside) == 0).all()


@pytest.mark.parametrize(("ours", "scipys"), [ORACLES[0], ORACLES[4], ORACLES[5]])
def test_the_mode_has_the_largest_density(ours, scipys):
    v = np.append(scipys.ppf(np.linspace(0.001, 0.999, 4001)), ours.mode)
    assert ours.log_density(v)[-1] == ours.log_density(v).max()


def test_on_the_logarithmic_scale_the_mode_is_in_the_middle():
    assert prior.LogNormal(1e-3, 3).mode == 1e-3
    assert prior.LogUniform(1e-4, 1e-2).mode == pytest.approx(1e-3)
    assert prior.Beta(1, 1).mode == prior.Uniform(0, 1).mode == 0.5


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: prior.Normal(float("nan"), 1), "Normal's mean must be finite"),
        (lambda: prior.Normal(0, 0), "Normal's sd must be positive"),
        (lambda: prior.LogNormal(0, 3), "LogNormal's median must be positive"),
        (lambda: prior.LogNormal(1, 1), "LogNormal's factor must be above 1"),
        (lambda: prior.Uniform(2, 2), "Uniform's bounds must be finite with low < high"),
        (lambda: prior.LogUniform(0, 2), "LogUniform's bounds must be finite with 0 < low"),
        (lambda: prior.Beta(0.5, 2), "Beta's a must be at least 1"),
        (lambda: prior.Beta(2, np.inf), "Beta's b must be at least 1"),
    ],
)
def test_wrong_numbers_are_refused(make, rule):
    with pytest.raises(InvalidInputError, match=rule):
        make()


def test_they_are_reached_from_the_package():
    assert fisherbo.prior.Normal is prior.Normal
