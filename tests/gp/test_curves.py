"""The model of learning curves against a dense Gaussian process on all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from fisherbo.gp.curve_kernel import (
    HIGH,
    LOW,
    PRIOR_MEAN,
    PRIOR_SD,
    log_time,
    time_structure,
)
from fisherbo.gp.curve_model import CurveFit, condition_on_ends, fit_curves
from fisherbo.gp.curves import (
    Curve,
    CurveLikelihood,
    _solve,
    end_observations,
    end_variances,
    grouped,
)
from fisherbo.gp.hyper import Hyper
from tests.gp.oracles import dense_covariance

NUMERIC = np.zeros(2, dtype=np.int64)
HYPER = Hyper(np.array([0.4, 0.9]), 1.3, 0.05)


def times(count, last=20):
    return log_time(np.arange(1.0, count + 1), 1, last, 1)


def draw(seed, n=7, last=20):
    """ψ near its prior's mode, coordinates, and curves of different lengths; some lack steps."""
    rng = np.random.default_rng(seed)
    psi = np.clip(PRIOR_MEAN + 0.5 * PRIOR_SD * rng.standard_normal(10), LOW, HIGH)
    psi[3] = rng.uniform(0.1, 0.95)
    curves = []
    for i in range(n):
        s = times(int(rng.integers(1, last + 1)), last)
        s = s[:: 2 if i == 2 else 1]
        curves.append(Curve(s, rng.standard_normal(len(s)) + np.linspace(-1, 1, len(s))))
    curves[1] = Curve(curves[0].s, curves[0].y + 0.1)  # the same times as another
    return psi, rng.random((n, 2)), curves


def conditioned(curves, x, fit):
    return condition_on_ends(end_observations(grouped(curves), fit.psi), x, NUMERIC, fit)


def prior(x):
    return dense_covariance(x, x, NUMERIC, HYPER) + HYPER.noise * np.eye(len(x))


def dense(psi, covariance, curves):
    """Mean and covariance of all rows, and the covariances of ends with rows."""
    parts = [time_structure(c.s, psi) for c in curves]
    owner = np.repeat(np.arange(len(curves)), [len(c.s) for c in curves])
    loading = np.concatenate([p.loading for p in parts])
    across = covariance[:, owner] * loading
    whole = loading[:, None] * covariance[np.ix_(owner, owner)] * loading
    begin = 0
    for p in parts:
        end = begin + len(p.loading)
        whole[begin:end, begin:end] += p.covariance
        begin = end
    return np.concatenate([p.mean for p in parts]), whole, across


@given(seed=st.integers(0, 30))
def test_the_density_is_that_of_a_dense_process_on_all_rows(seed):
    psi, x, curves = draw(seed)
    mean, whole, _ = dense(psi, prior(x), curves)
    rows = np.concatenate([c.y for c in curves])
    z = (psi - PRIOR_MEAN) / PRIOR_SD
    expected = -multivariate_normal(mean, whole).logpdf(rows) + 0.5 * z @ z
    found = CurveLikelihood(grouped(curves), prior(x), 0.0)(psi)
    assert found.value == pytest.approx(expected, rel=1e-8)


@given(seed=st.integers(0, 30))
def test_the_gradient_equals_finite_differences(seed):
    psi, x, curves = draw(seed)
    likelihood = CurveLikelihood(grouped(curves), prior(x), 0.2)
    numeric = approx_fprime(psi, lambda v: likelihood(v).value, 1e-6)
    assert likelihood(psi).gradient == pytest.approx(numeric, rel=1e-3, abs=1e-2)


@given(seed=st.integers(0, 30))
def test_the_derivatives_in_time_equal_finite_differences(seed):
    psi, _, curves = draw(seed)
    s, h = curves[0].s, 1e-6
    found = time_structure(s, psi)
    for j in range(10):
        up, down = (time_structure(s, psi + t * h * np.eye(10)[j]) for t in (1, -1))
        covariance = (up.covariance - down.covariance) / (2 * h)
        loading, mean = (up.loading - down.loading) / (2 * h), (up.mean - down.mean) / (2 * h)
        assert covariance == pytest.approx(
            found.covariance_slopes[j] if j < 3 else np.zeros_like(covariance), abs=1e-6
        )
        expected = found.loading_slopes[j - 3] if j in (3, 4) else np.zeros(len(s))
        assert loading == pytest.approx(expected, abs=1e-6)
        assert mean == pytest.approx(found.basis[j - 5] if j > 4 else np.zeros(len(s)), abs=1e-6)


def test_the_metric_is_the_covariance_of_the_complete_score():
    """Of −log p(y, e) at the truth, over 400 draws of curves of known ends."""
    psi, _, curves = draw(3, n=4)
    groups = grouped(curves)
    rng, h = np.random.default_rng(0), 1e-5
    ends = rng.standard_normal(4)

    def score(y):
        def loss(v):
            parts = [
                (time_structure(c.s, v), e, row) for c, e, row in zip(curves, ends, y, strict=True)
            ]
            return -sum(
                multivariate_normal(p.loading * e + p.mean, p.covariance).logpdf(row)
                for p, e, row in parts
            )

        return np.array([(loss(psi + d) - loss(psi - d)) / (2 * h) for d in h * np.eye(10)])

    parts = [time_structure(c.s, psi) for c in curves]
    draws = []
    for _ in range(400):
        rows = [
            rng.multivariate_normal(p.loading * e + p.mean, p.covariance)
            for p, e in zip(parts, ends, strict=True)
        ]
        draws.append(score(rows))
    draws = np.array(draws)
    metric = np.zeros((10, 10))
    for group in groups:
        metric += _solve(group, psi).slopes(ends[group.index], np.zeros(len(group.index)))[1]
    empirical = np.array([np.outer(d, d) for d in draws])
    error = empirical.std(0) / np.sqrt(len(draws))
    assert (np.abs(empirical.mean(0) - metric) < 5 * error + 1e-3).all()


@given(seed=st.integers(0, 30))
def test_the_posterior_of_a_new_end_is_that_of_the_dense_process(seed):
    psi, x, curves = draw(seed)
    model = conditioned(curves[:-1], x[:-1], CurveFit(6, psi, HYPER))
    mean, whole, across = dense(psi, prior(x), curves)
    rows = np.concatenate([c.y for c in curves])
    expected = across[-1] @ np.linalg.solve(whole, rows - mean)
    variance = prior(x)[-1, -1] - across[-1] @ np.linalg.solve(whole, across[-1])
    found = model.end(x[-1], curves[-1])
    assert found == pytest.approx((expected, variance), rel=1e-6, abs=1e-7)


def test_an_end_that_was_seen_is_known():
    psi, x, curves = draw(0)
    psi[2] = np.log(1e-5)
    model = conditioned(curves[:-1], x[:-1], CurveFit(6, psi, HYPER))
    mean, variance = model.end(x[-1], Curve(times(20), 0.7 - 1.7 * times(20)))
    assert mean == pytest.approx(0.7, abs=0.02)
    assert variance < 1e-4
    assert model.end(x[-1], Curve(np.empty(0), np.empty(0))) == model.before(x[-1])


def simulated(psi, n, seed, last=20):
    """Curves that the model itself draws: all at their ends, and their parameters."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 2))
    ends = rng.multivariate_normal(np.zeros(n), prior(x))
    p = time_structure(times(last), psi)
    rows = [rng.multivariate_normal(p.loading * e + p.mean, p.covariance) for e in ends]
    return x, ends, rows


def test_predicted_ends_of_simulated_curves_are_calibrated():
    """Central 80 % intervals hold 80 % of the ends; their share of 240 varies by ± 2.6 %."""
    psi = np.append([-1.5, -0.5, -6.0, 0.6, 0.1], [-0.3, -0.5, -0.8, -1.0, -1.2])
    inside = []
    for seed in range(4):
        x, ends, rows = simulated(psi, 100, seed)
        cut = np.random.default_rng(seed).integers(2, 15, 40)
        curves = [Curve(times(20)[:c], y[:c]) for c, y in zip(cut, rows[:40], strict=True)]
        curves[:8] = [Curve(times(20), y) for y in rows[:8]]
        fit = fit_curves(curves, x[:40], NUMERIC, np.arange(40) < 8)
        model = conditioned(curves, x[:40], fit)
        for i in range(40, 100):
            mean, variance = model.end(x[i], Curve(times(20)[:6], rows[i][:6]))
            inside.append(abs(ends[i] - mean) < 1.2816 * np.sqrt(variance))
    assert 0.7 < np.mean(inside) < 0.9


@settings(max_examples=25)
@given(seed=st.integers(0, 50))
def test_any_curves_are_fitted_and_no_prediction_is_lost(seed):
    """Flat, noisy, non-monotone and diverging curves of any length, alone or together."""
    rng = np.random.default_rng(seed)
    curves = []
    for i in range(int(rng.integers(1, 9))):
        s = times(int(rng.integers(1, 31)), 30)
        kinds = [
            np.zeros(len(s)),
            10 * rng.standard_normal(len(s)),
            np.sin(9 * s),
            np.where(s < 0.5, -4.0, 1.0),
            -100 * (1 - s) ** 3,
        ]
        curves.append(Curve(s, kinds[(i + seed) % 5]))
    x = rng.random((len(curves), 2))
    whole = np.append(True, rng.random(len(curves) - 1) < 0.5)
    fit = fit_curves(curves, x, NUMERIC, whole)
    again = fit_curves(curves, x, NUMERIC, whole, fit)
    model = conditioned(curves, x, again)
    for curve in curves:
        mean, variance = model.end(x[0], curve)
        assert np.isfinite(mean)
        assert 0 <= variance < np.inf


def test_what_curves_say_of_ends_does_not_depend_on_their_order():
    psi, _, curves = draw(5)
    forth = end_observations(grouped(curves), psi)
    back = end_observations(grouped(curves[::-1]), psi)
    assert back.value[::-1] == pytest.approx(forth.value)
    assert back.variance[::-1] == pytest.approx(forth.variance)


def test_logarithmic_time_counts_reports_not_their_units():
    steps = np.arange(1.0, 11)
    expected = log_time(steps, 1, 10, 1)
    assert expected[[0, -1]].tolist() == [1, 0]
    assert log_time(1000 * steps, 1000, 10_000, 1000) == pytest.approx(expected)
    assert log_time(np.array([3.0, 12.0]), 3, 3, 1).tolist() == [0, 0]


def test_variances_after_each_time_are_those_of_the_shorter_curves():
    psi, _, _ = draw(4)
    s = times(12)
    found = end_variances(s, psi)
    for k in (1, 5, 12):
        alone = end_observations(grouped([Curve(s[:k], np.zeros(k))]), psi)
        assert found[k - 1] == pytest.approx(alone.variance[0])
    assert (np.diff(found) <= 0).all()


def test_what_was_expected_of_the_latest_curves_leaves_them_out():
    psi, x, curves = draw(6)
    fit = CurveFit(7, psi, HYPER)
    mean, variance = conditioned(curves, x, fit).starts(2)
    left_out = []
    for i in (5, 6):
        others = [j for j in range(7) if j != i]
        model = conditioned([curves[j] for j in others], x[others], fit)
        left_out.append(model.before(x[i]))
    expected = np.array(left_out)
    assert mean == pytest.approx(expected[:, 0], rel=1e-6)
    assert variance == pytest.approx(expected[:, 1], rel=1e-6)
