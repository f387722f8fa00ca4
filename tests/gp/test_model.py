"""The model of a study: refits, active sets, and a base that saves time and changes nothing."""

import numpy as np
import pytest

from fisherbo.gp.hyper import prior_mode
from fisherbo.gp.model import PRIOR_MEAN, Fit, conditioned, refit
from fisherbo.gp.posterior import condition
from fisherbo.space import Space


def space(d=2):
    zero = np.zeros(d)
    return Space(zero, np.ones(d), zero, np.zeros(d, bool), np.zeros(d, bool))


def data(n, d=2):
    rng = np.random.default_rng(0)
    x = rng.random((n, d))
    return x, -((x - 0.4) ** 2).sum(1) * 10 + 1


def test_fits_grow_rarer_with_the_trials():
    x, y = data(200)
    assert refit(x[:30], y[:30], space(), Fit(29, prior_mode(2))).count == 30
    last = Fit(196, prior_mode(2))
    assert refit(x, y, space(), last) is last
    assert refit(x, y, space(), Fit(185, prior_mode(2))).count == 200
    assert refit(x[:50], y[:50], space(), Fit(60, prior_mode(2))).count == 50


def test_the_posterior_is_that_of_all_observations():
    x, y = data(40)
    fitted, points = Fit(35, prior_mode(2)), np.random.default_rng(1).random((6, 2))
    posterior, base = conditioned(x, y, space(), fitted, None)
    whole = condition(x, y, np.zeros(2, dtype=np.int64), fitted.hyper, constant=PRIOR_MEAN)
    assert len(base.y) == 35
    assert posterior.predict(points)[0] == pytest.approx(whole.predict(points)[0], abs=1e-6)
    assert posterior.predict(points)[1] == pytest.approx(whole.predict(points)[1], abs=1e-6)


def test_a_kept_base_changes_no_bit():
    x, y = data(40)
    fitted, points = Fit(35, prior_mode(2)), np.random.default_rng(1).random((6, 2))
    _, base = conditioned(x[:36], 3 * y[:36], space(), fitted, None)
    again, same = conditioned(x, y, space(), fitted, base)
    fresh, _ = conditioned(x, y, space(), fitted, None)
    assert same.precision is base.precision
    assert (again.predict(points)[0] == fresh.predict(points)[0]).all()
    other, _ = conditioned(x, y, space(), Fit(35, prior_mode(2)), condition(x, y, *_other(x)))
    assert (other.predict(points)[0] == fresh.predict(points)[0]).all()


def _other(x):
    return np.zeros(x.shape[1], dtype=np.int64), prior_mode(x.shape[1])


def test_far_from_the_data_the_unknown_is_expected_to_be_bad():
    x, y = data(20)
    posterior, _ = conditioned(x, y, space(), Fit(20, prior_mode(2)), None)
    assert posterior.predict(np.array([[1e3, 1e3]]))[0] == pytest.approx(PRIOR_MEAN)


def test_ten_thousand_observations_make_a_model_of_bounded_size():
    x, y = data(10_000, 5)
    fitted = refit(x, y, space(5), None)
    posterior, _ = conditioned(x, y, space(5), fitted, None)
    assert len(posterior.y) <= 600
    top = np.argsort(-y)[:20]
    assert posterior.predict(x[top])[0] == pytest.approx(y[top], abs=0.1)
